"""Our codec beside others on the held-out recordings of a folder: quality, fidelity, tone, speed, use of codebooks."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measures import HeldOut, Quality, Way, interleaved_speeds, padded
from benchmarks.no_network import NoNetworkCodec
from benchmarks.opus import KILOBITS, bits_per_second, opus_is_installed, through_opus
from benchmarks.original_plan import OriginalCodec, train_original
from benchmarks.report import MISSING, Table, interval, mean, number, spread
from benchmarks.training import CodecTask, Trained, profile_steps, train_within
from distill.audio.augment import waveform
from distill.audio.corpus import ManifestRow, load_corpus
from distill.audio.ingest import ingest
from distill.audio.partials import tone_summary
from distill.codec.data import CodecData
from distill.codec.fidelity import Fidelity
from distill.codec.quantizer import codebook_health, codeword_counts
from distill.codec.spectral import spectrogram_config_for
from distill.execution import Execution
from distill.params import Params
from distill.storage.work import Executor
from distill.training.distributed import make_fabric

OURS, FULL, NO_NETWORK, ORIGINAL = "ours", "ours, full training", "no network", "original plan"
MAX_SECONDS = 10.0
SPEED_SECONDS = 20.0
SPEED_ROUNDS = 5

CORPORA = ("corpus", "tier", "training recordings", "seconds", "held out", "held-out seconds")
CODECS = ("corpus", "codec", "kbit/s", "training s", "epochs", "mel L1", "ViSQOL")
SPEEDS = ("corpus", "codec", "encode x real time", "decode x real time")
STEPS = ("corpus", "steps", "ms a step", "outside network, loss, optimiser")
USE = ("corpus", "codec", "level", "used", "perplexity")
FIDELITY = (
    *("corpus", "codec", "kbit/s", "level, dB", "level, absolute", "peak, dB", "attack, ms", "attack - original's"),
    *("envelope", "before attack, dB", "above 6 kHz, dB", "flutter, dB"),
)
TONE = (
    *("corpus", "codec", "kbit/s", "partials found again, F1", "tone to noise lost, dB", "cents off"),
    *("tonal originals", "tonal decodes", "told apart"),
)
RECORDINGS = ("corpus", "codec", "recording", "mel L1", "ViSQOL", "level, dB", "envelope", "partials F1")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """Measurements to make on a corpus."""

    seconds: float  # of training
    full_seconds: float | None  # of the tier's whole training, at most; None leaves it out
    profile: bool


@dataclass(frozen=True, eq=False)
class _System:
    """A codec with its quality and the seconds of its training. Ours alone is `trained`, Opus takes no seconds."""

    name: str
    bits_per_second: float
    quality: Quality
    seconds: float | None = None
    trained: Trained | None = None


def measure_codec(folder: Path, params: Params, plan: Plan, execution: Execution, say: Say) -> list[Table]:
    """Ingest a folder, train our codec on its training recordings, measure it on held-out ones. Raises AudioError."""
    with tempfile.TemporaryDirectory() as temporary:
        ingested = Path(temporary) / "corpus"
        given, executor = params.corpus, Executor(execution.workers)
        ingest(folder, ingested, given.sample_rate, given.max_rejected, executor, trim=given.trim)
        corpus = load_corpus(ingested)
        count, name = len(corpus.entries), folder.resolve().name
        fraction = params.split.resolve(count)
        task = CodecTask(corpus, params.vqvae_config(count), fraction, params.seed, make_fabric(execution))
        held_out = _held_out(task)
        ours = _train_ours(task, plan, held_out, say)
        systems = [*ours, *_peers(task, plan, held_out, say), *_opus(held_out, say)]
        last = ours[-1].trained
        assert last is not None
        say("measuring speed")
        tables = [
            _corpus_table(name, params.tier_name(count), task, held_out),
            Table("codec", CODECS, tuple((name, *_codec_row(one)) for one in systems)),
            Table("fidelity", FIDELITY, tuple(_fidelity_rows(name, systems, held_out.attacks()))),
            Table("tone", TONE, tuple((name, *_tone_row(one)) for one in systems)),
            _speed_table(name, last, held_out),
            Table("codebooks", USE, tuple((name, *row) for one in ours for row in _use_rows(one, held_out))),
            Table("recordings", RECORDINGS, tuple(_recording_rows(name, systems, held_out))),
        ]
        if plan.profile:
            say("profiling training steps")
            found = profile_steps(task, plan.seconds / 4)
            row = (name, str(found.steps), f"{found.milliseconds:.0f}", f"{found.outside:.1%}")
            tables.append(Table("step", STEPS, (row,)))
        return tables


def _entries(task: CodecTask, side: str) -> list[ManifestRow]:
    data = CodecData.split(task.corpus, task.val_fraction, task.seed)
    return [*(data.train if side == "train" else data.held_out)]


def _held_out(task: CodecTask) -> HeldOut:
    corpus, entries = task.corpus, _entries(task, "val")
    rate = corpus.sample_rate
    step = spectrogram_config_for(rate).samples_per_frame
    sounds = [waveform(corpus, entry, 0, min(entry.samples, int(MAX_SECONDS * rate))) for entry in entries]
    whole = tuple(padded(sound, step) for sound in sounds)
    names, groups = tuple(entry.path for entry in entries), tuple(entry.group for entry in entries)
    return HeldOut(names, groups, tuple(sounds), whole, rate)


def _train_ours(task: CodecTask, plan: Plan, held_out: HeldOut, say: Say) -> list[_System]:
    say(f"training for {plan.seconds:.0f} s")
    trained = {OURS: train_within(task, plan.seconds)}
    if plan.full_seconds is not None:
        say(f"training in full, for {plan.full_seconds / 60:.0f} min at most")
        trained[FULL] = train_within(task, plan.full_seconds, task.config.epochs)
    systems = []
    for name, one in trained.items():
        say(f"measuring {name}")
        with torch.no_grad():
            decoded = [one.codec.decode(one.codec.encode(sound))[: len(sound)] for sound in held_out.padded]
        systems.append(_System(name, one.codec.bits_per_second, held_out.judge(decoded), one.seconds, one))
    return systems


def _peers(task: CodecTask, plan: Plan, held_out: HeldOut, say: Say) -> list[_System]:
    """The codec without a network, and that of the original plan, trained for as long as ours."""
    config, rate = task.config, task.corpus.sample_rate
    hop, began = spectrogram_config_for(rate).hop_length, time.perf_counter()
    recordings = [waveform(task.corpus, entry) for entry in _entries(task, "train")]
    say("fitting the codec without a network")
    plain = NoNetworkCodec.fit(recordings, rate, hop, config.num_quantizers, config.codebook_size, task.seed)
    seconds = {NO_NETWORK: time.perf_counter() - began}
    say(f"training the codec of the original plan for {plan.seconds:.0f} s")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        original = OriginalCodec(rate, hop, config.codebook_size, config.ema_decay)
    seconds[ORIGINAL] = train_original(
        original, recordings, held_out.sounds, plan.seconds, task.seed, task.fabric.device
    )
    systems = []
    for name, codec in ((NO_NETWORK, plain), (ORIGINAL, original)):
        say(f"measuring {name}")
        with torch.no_grad():
            decoded = [codec.decode(codec.encode(sound))[: len(sound)] for sound in held_out.padded]
        systems.append(_System(name, codec.bits_per_second, held_out.judge(decoded), seconds[name]))
    return systems


def _opus(held_out: HeldOut, say: Say) -> list[_System]:
    """Opus at each bitrate, or nothing where it is not installed."""
    systems = []
    for kilobits in KILOBITS if opus_is_installed() else ():
        say(f"measuring Opus at {kilobits} kbit/s")
        made = [through_opus(sound.numpy(), held_out.sample_rate, kilobits) for sound in held_out.padded]
        quality = held_out.judge([torch.from_numpy(one.samples) for one in made])
        systems.append(_System(f"Opus {kilobits}", bits_per_second(made), quality))
    return systems


def _corpus_table(name: str, tier: str, task: CodecTask, held_out: HeldOut) -> Table:
    train, rate = _entries(task, "train"), task.corpus.sample_rate
    seconds = sum(entry.samples for entry in train) / rate, sum(map(len, held_out.sounds)) / rate
    row = (name, tier, str(len(train)), f"{seconds[0]:.0f}", str(len(held_out.sounds)), f"{seconds[1]:.0f}")
    return Table("corpora", CORPORA, (row,))


def _codec_row(one: _System) -> tuple[str, ...]:
    training = (MISSING if one.seconds is None else f"{one.seconds:.0f}", MISSING)
    if one.trained is not None:
        epochs = f"{one.trained.epochs} of {one.trained.planned}, best {one.trained.best_epoch + 1}"
        training = (training[0], epochs)
    quality = number(mean(one.quality.mel), ".3f"), number(mean(one.quality.visqol), ".2f")
    return (one.name, f"{one.bits_per_second / 1000:.3f}", *training, *quality)


def _fidelity_rows(corpus: str, systems: Sequence[_System], attacks: Sequence[float]) -> list[tuple[str, ...]]:
    """Medians and 10th and 90th percentiles of decoded minus original; the absolute level is a mean."""
    rows = [(corpus, "originals", *[MISSING] * 4, spread(attacks, ".1f"), *[MISSING] * 5)]
    for system in systems:
        found = system.quality.fidelity
        decoded = [before + one.attack_ms for before, one in zip(attacks, found, strict=True)]
        row = (
            f"{system.bits_per_second / 1000:.2f}",
            _spread_of(found, "level_db", "+.1f"),
            number(mean([abs(one.level_db) for one in found]), ".1f"),
            _spread_of(found, "peak_db", "+.1f"),
            spread(decoded, ".1f"),
            _spread_of(found, "attack_ms", "+.1f"),
            _spread_of(found, "envelope", ".2f"),
            _spread_of(found, "pre_attack_db", "+.1f"),
            _spread_of(found, "treble_db", "+.1f"),
            _spread_of(found, "flutter_db", "+.1f"),
        )
        rows.append((corpus, system.name, *row))
    return rows


def _tone_row(one: _System) -> tuple[str, ...]:
    """Medians over the recordings with a tone, shares of tonal sounds, and how often a decode is told."""
    found = tone_summary(one.quality.tone)
    forms = {
        "f1": ".2f",
        "tone_to_noise_lost": "+.1f",
        "cents": ".1f",
        "tonal_originals": ".2f",
        "tonal_decodes": ".2f",
    }
    figures = (number(found.get(name, math.nan), form) for name, form in forms.items())
    return (one.name, f"{one.bits_per_second / 1000:.2f}", *figures, interval(one.quality.told, ".2f"))


def _spread_of(found: Sequence[Fidelity], name: str, form: str) -> str:
    return spread([getattr(one, name) for one in found], form)


def _speed_table(corpus: str, trained: Trained, held_out: HeldOut) -> Table:
    codec, chosen = trained.codec, _first(held_out.padded, SPEED_SECONDS * held_out.sample_rate)
    alone = Way(
        lambda sounds: [codec.encode(one) for one in sounds], lambda codes: [codec.decode(one) for one in codes]
    )
    ways = {"a call for each": alone, "short ones together": codec.together()}
    found = interleaved_speeds(ways, chosen, held_out.sample_rate, SPEED_ROUNDS)
    rows = ((corpus, name, f"{one.encode:.0f}", f"{one.decode:.0f}") for name, one in found.items())
    return Table("speed", SPEEDS, tuple(rows))


def _first(sounds: Sequence[Tensor], samples: float) -> list[Tensor]:
    """The first sounds that have `samples` samples together."""
    chosen: list[Tensor] = []
    for sound in sounds:
        if sum(map(len, chosen)) < samples:
            chosen.append(sound)
    return chosen


def _use_rows(system: _System, held_out: HeldOut) -> list[tuple[str, ...]]:
    """Use of each codebook on the held-out recordings."""
    assert system.trained is not None
    codec = system.trained.codec
    codes = torch.cat([codec.encode(sound) for sound in held_out.padded])
    sizes = codec.model.architecture.codebook_sizes
    health = codebook_health(codeword_counts(codes, sizes), sizes).values()
    return [
        (system.name, str(level), f"{one['utilization']:.0%}", f"{one['perplexity']:.1f}")
        for level, one in enumerate(health)
    ]


def _recording_rows(corpus: str, systems: Sequence[_System], held_out: HeldOut) -> list[tuple[str, ...]]:
    """Figures of each recording, to compare two runs pair by pair."""
    rows = []
    for one in systems:
        quality = one.quality
        values = zip(held_out.names, quality.mel, quality.visqol, quality.fidelity, quality.tone, strict=True)
        for name, mel, visqol, found, tone in values:
            figures = (mel, visqol, found.level_db, found.envelope, math.nan if tone.match is None else tone.match.f1)
            rows.append((corpus, one.name, name, *(f"{value:.4f}" for value in figures)))
    return rows
