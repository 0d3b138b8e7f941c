"""Our codec beside others on the held-out recordings of a folder: quality, fidelity, tone, speed, use of codebooks."""

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from benchmarks.arguments import say
from benchmarks.measures import HeldOut, Quality, Way, interleaved_speeds, padded
from benchmarks.no_network import NoNetworkCodec
from benchmarks.opus import KILOBITS, bits_per_second, opus_is_installed, through_opus
from benchmarks.report import MISSING, Table, interval, mean, number, spread
from benchmarks.training import CodecTask, OurCodec, Trained, train_within
from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.partial_noise import partial_noise_summary
from distill.audio.partials import tone_summary
from distill.codec.data import CodecData
from distill.codec.quantizer import codebook_health, codeword_counts
from distill.codec.spectral import spectrogram_config_for
from distill.execution import Execution
from distill.params import Params
from distill.storage.work import Executor
from distill.training.distributed import make_fabric

CORPORA = ("corpus", "tier", "training recordings", "seconds", "held out", "held-out seconds")
CODECS = ("corpus", "codec", "kbit/s", "training s", "epochs", "mel L1", "ViSQOL")
SPEEDS = ("corpus", "codec", "encode x real time", "decode x real time")
STEPS = ("corpus", "steps", "ms a step", "outside network, loss, optimiser")
USE = ("corpus", "codec", "level", "used", "perplexity")
FIDELITY = (
    *(
        "corpus",
        "codec",
        "kbit/s",
        "level, dB",
        "level, absolute",
        "peak, dB",
        "attack, ms",
        "attack - original's",
    ),
    *("envelope", "before attack, dB", "above 6 kHz, dB", "flutter, dB"),
)
TONE = (
    *(
        "corpus",
        "codec",
        "kbit/s",
        "partials found again, F1",
        "tone to noise lost, dB",
        "cents off",
    ),
    *("noise between partials, dB off", "tonal originals", "tonal decodes", "told apart"),
)


C = TypeVar("C")


class _Codec(Protocol[C]):
    """A codec to measure, and what it keeps of a sound."""

    def encode(self, sound: Tensor, /) -> C: ...
    def decode(self, codes: C, /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class _System:
    """A codec, its quality, and the cells of its training: seconds and epochs."""

    name: str
    kilobits: float  # a second
    quality: Quality
    training: tuple[str, str] = (MISSING, MISSING)


def measure_codec(
    folder: Path, params: Params, seconds: float, full_seconds: float | None, execution: Execution
) -> list[Table]:
    """Ingest a folder, train our codec on its training recordings, measure it on held-out ones. Raises AudioError.

    Training takes so many `seconds`, and where `full_seconds` are given all epochs of the tier once more, within these.
    """
    with tempfile.TemporaryDirectory() as temporary:
        ingested = Path(temporary) / "corpus"
        given, executor = params.corpus, Executor(execution.workers)
        ingest(folder, ingested, given.sample_rate, given.max_rejected, executor, trim=given.trim)
        corpus = load_corpus(ingested)
        count, name = len(corpus.entries), folder.resolve().name
        fraction = params.split.resolve(count)
        task = CodecTask(
            corpus, params.vqvae_config(count), fraction, params.seed, make_fabric(execution)
        )
        data = CodecData.split(corpus, fraction, params.seed)
        held_out = _held_out(corpus, data.held_out)
        trained = _train(task, seconds, full_seconds)
        systems = [_ours(label, codec, held_out) for label, codec in trained.items()]
        systems += [_no_network(task, data.train, held_out), *_opus(held_out)]
        say("measuring speed")
        corpus_row = (name, params.tier_name(count), *_lengths(data.train, held_out))
        last = list(trained.values())[-1]
        steps = (
            str(len(last.clock.warm)),
            f"{1000 * statistics.mean(last.clock.warm):.0f}",
            f"{last.clock.outside():.1%}",
        )
        uses = (row for pair in trained.items() for row in _use_rows(*pair, held_out))
        return [
            Table("corpora", CORPORA, (corpus_row,)),
            Table("codec", CODECS, tuple((name, *_codec_row(system)) for system in systems)),
            Table(
                "fidelity",
                FIDELITY,
                tuple((name, *row) for row in _fidelity_rows(systems, held_out.attacks())),
            ),
            Table("tone", TONE, tuple((name, *_tone_row(system)) for system in systems)),
            Table(
                "speed", SPEEDS, tuple((name, *row) for row in _speed_rows(last.codec, held_out))
            ),
            Table("codebooks", USE, tuple((name, *row) for row in uses)),
            Table("step", STEPS, ((name, *steps),)),
        ]


def _held_out(corpus: Corpus, entries: Sequence[ManifestRow]) -> HeldOut:
    """Held-out recordings, of at most 10 s each."""
    rate = corpus.sample_rate
    step = spectrogram_config_for(rate).samples_per_frame
    sounds = [waveform(corpus, entry, 0, min(entry.samples, 10 * rate)) for entry in entries]
    whole = tuple(padded(sound, step) for sound in sounds)
    names, groups = tuple(entry.path for entry in entries), tuple(entry.group for entry in entries)
    return HeldOut(names, groups, tuple(sounds), whole, rate)


def _train(task: CodecTask, seconds: float, full_seconds: float | None) -> dict[str, Trained]:
    """Our codec by the names of its trainings."""
    say(f"training for {seconds:.0f} s")
    trained = {"ours": train_within(task, seconds)}
    if full_seconds is not None:
        say(f"training in full, for {full_seconds / 60:.0f} min at most")
        trained["ours, full training"] = train_within(task, full_seconds, task.config.epochs)
    return trained


def _ours(name: str, trained: Trained, held_out: HeldOut) -> _System:
    epochs = f"{trained.epochs} of {trained.planned}, best {trained.best_epoch}"
    bits = trained.codec.bits_per_second(held_out.sounds)
    return _decoded(name, trained.codec, bits, held_out, (f"{trained.seconds:.0f}", epochs))


def _no_network(task: CodecTask, train: Sequence[ManifestRow], held_out: HeldOut) -> _System:
    """The codec without a network, fitted to the training recordings."""
    config, rate = task.config, task.corpus.sample_rate
    hop, began = spectrogram_config_for(rate).hop_length, time.perf_counter()
    say("fitting the codec without a network")
    recordings = [waveform(task.corpus, entry) for entry in train]
    plain = NoNetworkCodec.fit(
        recordings, rate, hop, config.num_quantizers, config.codebook_size, task.seed
    )
    return _decoded(
        "no network",
        plain,
        plain.bits_per_second,
        held_out,
        (f"{time.perf_counter() - began:.0f}", MISSING),
    )


@torch.no_grad()
def _decoded(
    name: str, codec: _Codec[C], bits: float, held_out: HeldOut, training: tuple[str, str]
) -> _System:
    """A codec with the quality of its decodes of the held-out recordings."""
    say(f"measuring {name}")
    decoded = [codec.decode(codec.encode(sound))[: len(sound)] for sound in held_out.padded]
    return _System(name, bits / 1000, held_out.judge(decoded), training)


def _opus(held_out: HeldOut) -> list[_System]:
    """Opus at each bitrate, or nothing where it is not installed."""
    systems = []
    for kilobits in KILOBITS if opus_is_installed() else ():
        say(f"measuring Opus at {kilobits} kbit/s")
        made = [
            through_opus(sound.numpy(), held_out.sample_rate, kilobits) for sound in held_out.padded
        ]
        quality = held_out.judge([torch.from_numpy(sound.samples) for sound in made])
        systems.append(_System(f"Opus {kilobits}", bits_per_second(made) / 1000, quality))
    return systems


def _lengths(train: Sequence[ManifestRow], held_out: HeldOut) -> Iterator[str]:
    """Number and seconds of the recordings of each side."""
    for samples in ([entry.samples for entry in train], list(map(len, held_out.sounds))):
        yield from (str(len(samples)), f"{sum(samples) / held_out.sample_rate:.0f}")


def _named(system: _System) -> tuple[str, str]:
    return system.name, f"{system.kilobits:.2f}"


def _codec_row(system: _System) -> tuple[str, ...]:
    quality = number(mean(system.quality.mel), ".3f"), number(mean(system.quality.visqol), ".2f")
    return (system.name, f"{system.kilobits:.3f}", *system.training, *quality)


def _fidelity_rows(systems: Sequence[_System], attacks: Sequence[float]) -> list[tuple[str, ...]]:
    """Medians and 10th and 90th percentiles of decoded minus original; the absolute level is a mean."""
    rows: list[tuple[str, ...]] = [
        ("originals", *[MISSING] * 4, spread(attacks, ".1f"), *[MISSING] * 5)
    ]
    for system in systems:
        measured = system.quality.fidelity
        names = ("level_db", "peak_db", "attack_ms", "pre_attack_db", "treble_db", "flutter_db")
        values = ([getattr(fidelity, name) for fidelity in measured] for name in names)
        level, peak, attack, *others = (spread(of_measure, "+.1f") for of_measure in values)
        of_envelope = spread([fidelity.envelope for fidelity in measured], ".2f")
        absolute = number(mean([abs(fidelity.level_db) for fidelity in measured]), ".1f")
        decoded = [
            original + fidelity.attack_ms
            for original, fidelity in zip(attacks, measured, strict=True)
        ]
        rows.append(
            (
                *_named(system),
                level,
                absolute,
                peak,
                spread(decoded, ".1f"),
                attack,
                of_envelope,
                *others,
            )
        )
    return rows


def _tone_row(system: _System) -> tuple[str, ...]:
    """Medians over the recordings with a tone, shares of tonal sounds, and how often a decode is told."""
    summary = tone_summary(system.quality.tone)
    summary |= {
        f"partial_noise_{name}": value
        for name, value in partial_noise_summary(system.quality.partial_noise).items()
    }
    names = (
        "f1",
        "tone_to_noise_lost",
        "cents",
        "partial_noise_distance",
        "tonal_originals",
        "tonal_decodes",
    )
    forms = (".2f", "+.1f", ".1f", ".1f", ".2f", ".2f")
    figures = (
        number(summary.get(name, math.nan), form) for name, form in zip(names, forms, strict=True)
    )
    return (*_named(system), *figures, interval(system.quality.told, ".2f"))


def _speed_rows(codec: OurCodec, held_out: HeldOut) -> list[tuple[str, ...]]:
    """Speed on the first 20 s of the held-out recordings."""
    ends = torch.tensor([len(sound) for sound in held_out.padded]).cumsum(0)
    chosen = held_out.padded[: 1 + int((ends < 20 * held_out.sample_rate).sum())]
    alone = Way(
        lambda sounds: list(map(codec.encode, sounds)), lambda codes: list(map(codec.decode, codes))
    )
    ways = {"a call for each": alone, "short ones together": codec.together()}
    speeds = interleaved_speeds(ways, chosen, held_out.sample_rate, rounds=5)
    return [(name, f"{encode:.0f}", f"{decode:.0f}") for name, (encode, decode) in speeds.items()]


def _use_rows(name: str, trained: Trained, held_out: HeldOut) -> list[tuple[str, ...]]:
    """Use of each codebook on the held-out recordings."""
    codes = torch.cat([trained.codec.encode(sound).codes for sound in held_out.padded])
    sizes = trained.codec.model.architecture.codebook_sizes
    health = codebook_health(codeword_counts(codes, sizes), sizes).values()
    return [
        (name, level, f"{of_level['utilization']:.0%}", f"{of_level['perplexity']:.1f}")
        for level, of_level in zip(trained.codec.model.layout.names, health, strict=True)
    ]
