"""The sets of sounds that are judged: recordings of both sides, what a model and simple generators make, and probes.

A probe is a set that something is wrong with on purpose, made of recordings: it shows what a judge can hear.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.signal
import soxr
from numpy.typing import NDArray

from benchmarks.judge.features import Samples
from distill import Delivery
from distill.api import Model
from distill.audio.corpus import Corpus, ManifestRow
from distill.codec.fidelity import decoded_pairs
from distill.codec.spectral import mel_filterbank
from distill.codes.sequences import CodedRecording, bos_token
from distill.codes.store import Codes
from distill.novelty.reference import evenly
from distill.prior.counting_baseline import CACHE_DECAYS, CACHE_TRUST, CountingModel
from distill.prior.counts import TRUST
from distill.progress import Progress

MAX_SECONDS = 8.0  # of a recording or a sound
MOST_RECORDINGS = 200  # of a side, evenly spaced
STRENGTH = 0.3  # of vary
GENERATED, COUNTING = "generated", "counting"  # names of sets

Rng = np.random.Generator
One = TypeVar("One")


@dataclass(frozen=True, eq=False)
class Sides:
    """Recordings of a model, as rows of a corpus.

    `null` are those that are measured in the place of sounds: other ones than held-out ones, of the same kind.
    """

    corpus: Corpus
    training: Sequence[ManifestRow]
    null: Sequence[ManifestRow]
    held_out: Sequence[ManifestRow]

    def read(self, entries: Sequence[ManifestRow]) -> list[Samples]:
        """Samples `[N]` of some of the recordings, of at most MAX_SECONDS each."""
        longest = round(MAX_SECONDS * self.corpus.sample_rate)
        return [
            self.corpus.read(entry, 0, min(entry.samples, longest))
            for entry in evenly(entries, MOST_RECORDINGS)
        ]


def followed(items: Collection[One], progress: Progress, text: str) -> Iterator[One]:
    """Show before each of some items how many are done."""
    for done, item in enumerate(items):
        progress(done, len(items), text)
        yield item


def made_by(
    model: Model, sides: Sides, count: int, seed: int, progress: Progress
) -> dict[str, list[Samples]]:
    """Sounds `[N]` of the model, `count` of them, and as many of two simple generators; of each at most MAX_SECONDS."""
    rng, recordings = np.random.default_rng(seed), sides.read(sides.training)
    turns = followed(range(count), progress, "recordings varied")
    takes = varied(model, recordings, turns, seed, rng)
    counted = by_counting(model, sides, followed(range(count), progress, "sounds by counting"), rng)
    longest = round(MAX_SECONDS * model.sample_rate)
    return {
        GENERATED: [
            sound[:longest]
            for sound in model.generate(
                count, seed=seed, width=0, delivery=Delivery(progress)
            ).sounds
        ],
        f"varied, strength {STRENGTH:g}": takes,
        COUNTING: counted,
    }


def varied(
    model: Model, recordings: Sequence[Samples], turns: Iterable[int], seed: int, rng: Rng
) -> list[Samples]:
    """A take `[N]` by the model of one of the recordings `[N]`, drawn at random, for each of some numbers."""
    return [
        model.vary(
            recordings[int(rng.integers(len(recordings)))], 1, STRENGTH, seed + turn, width=0
        ).sounds[0]
        for turn in turns
    ]


def by_counting(model: Model, sides: Sides, turns: Iterable[int], rng: Rng) -> list[Samples]:
    """A sound `[N]` for each of some numbers: codes drawn by counts of those of training recordings, and decoded.

    Each has the length and the noise floor of one of these.
    """
    groups = [entry.group for entry in evenly(sides.training, MOST_RECORDINGS)]
    recordings = sides.read(sides.training)
    coded = [
        CodedRecording([model.encode(own)], group)
        for own, group in zip(recordings, groups, strict=True)
    ]
    counting = CountingModel(coded, model.bundle.codec.architecture.codebook_sizes)
    made = []
    for _ in turns:
        number = int(rng.integers(len(coded)))
        codes = sampled(counting, len(coded[number].codes), rng)
        made.append(model.decode(codes, model.side_info(recordings[number]).in_mono))
    return made


def decoded(model: Model, sides: Sides, entries: Sequence[ManifestRow]) -> list[Samples]:
    """The recordings that `Sides.read` reads, coded and decoded."""
    chosen = evenly(entries, MOST_RECORDINGS)
    return [
        sound for _, sound in decoded_pairs(model.bundle.codec, sides.corpus, chosen, MAX_SECONDS)
    ]


def independent(entries: Sequence[ManifestRow]) -> NDArray[np.int_]:
    """Numbers, among those that `Sides.read` reads, of one recording of each group of near-duplicates."""
    return np.unique(
        [entry.group for entry in evenly(entries, MOST_RECORDINGS)], return_index=True
    )[1]


def sampled(counting: CountingModel, frames: int, rng: Rng) -> Codes:
    """Draw codes `[F, Q]` from the probabilities of a `CountingModel`, a level after the other."""
    sizes, bos = counting.codebook_sizes, bos_token(counting.codebook_size)
    codes: Codes = np.zeros((frames, len(sizes)), dtype=np.int64)
    lately, totals = (
        np.zeros((len(CACHE_DECAYS), *counting.single.shape)),
        np.zeros(len(CACHE_DECAYS)),
    )
    decays = np.array(CACHE_DECAYS)
    for frame in range(frames):
        for level, size in enumerate(sizes):
            single = counting.single[level]
            before = codes[frame - 1, level] if frame else bos
            parts = [single]
            for table in (
                counting.coarser[level][codes[frame, level - 1]],
                counting.previous[level][before],
            ):
                parts.append((table + TRUST * single) / (table.sum() + TRUST))
            for seen, total in zip(lately[:, level], totals, strict=True):
                parts.append((seen + CACHE_TRUST * single) / (total + CACHE_TRUST))
            weights = (counting.weights[level] @ np.stack(parts))[:size]
            codes[frame, level] = rng.choice(size, p=weights / weights.sum())
        lately *= decays[:, None, None]
        lately[:, np.arange(len(sizes)), codes[frame]] += 1
        totals = totals * decays + 1
    return codes


def probes(recordings: Sequence[Samples], rate: int, seed: int) -> dict[str, list[Samples]]:
    """Sets that each have one thing wrong, made of recordings `[N]` at `rate` Hz."""
    rng = np.random.default_rng(seed)
    changes: dict[str, Callable[[Samples], Samples]] = {
        "noise with their bands": lambda sound: noise_like(sound, rate, rng),
        "in another order": lambda sound: in_another_order(sound, rate, rng),
        "half a semitone higher": lambda sound: soxr.resample(
            sound, 2 ** (1 / 24) * rate, rate, "HQ"
        ),
        "6 dB softer": lambda sound: sound / np.float32(2),
        "nothing above 4 kHz": lambda sound: without_treble(sound, rate),
    }
    made = {name: [change(sound) for sound in recordings] for name, change in changes.items()}
    return {**made, "every fourth, 4 times": 4 * list(recordings[::4])}


def noise_like(sound: Samples, rate: int, rng: Rng, window: int = 1024) -> Samples:
    """Noise with the levels of a sound `[N]` in 64 mel bands, window by window."""
    both = np.pad([sound, rng.standard_normal(len(sound))], ((0, 0), (0, window)))
    spectra = scipy.signal.stft(both, rate, nperseg=window)[2]
    bank = mel_filterbank(rate, window, 64).numpy().astype(np.float64)  # [bins, bands]
    bands = [bank.T @ np.square(np.abs(spectrum)) for spectrum in spectra]
    gains = np.sqrt(
        (bank @ (bands[0] / (bands[1] + 1e-20))) / (bank.sum(axis=1, keepdims=True) + 1e-20)
    )
    made = scipy.signal.istft(spectra[1] * gains, rate, nperseg=window)[1][: len(sound)]
    return np.asarray(made, dtype=np.float32)


def without_treble(sound: Samples, rate: int, highest: float = 4_000.0) -> Samples:
    """A sound `[N]` without what is above `highest` Hz."""
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / rate) > highest] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def in_another_order(sound: Samples, rate: int, rng: Rng) -> Samples:
    """A sound `[N]` cut into pieces of 0.1 s, faded at their ends, which change places."""
    size = max(2, round(0.1 * rate))
    fade = np.minimum(1, np.minimum(np.arange(size), np.arange(size)[::-1]) / (size / 20)).astype(
        np.float32
    )
    pieces = [
        piece * fade[-len(piece) :] for piece in np.split(sound, range(size, len(sound), size))
    ]
    shuffled: NDArray[np.float32] = np.concatenate(
        [pieces[place] for place in rng.permutation(len(pieces))]
    )
    return shuffled
