"""A test that tries to tell originals from decodes: a classifier on patches, on recordings that it was not fitted to.

Half of its answers are right where nothing tells them apart, all where every patch betrays the codec. It hears single
patches without their originals, so it finds what a codec does to all sounds (no treble, smeared attacks, a metallic
ring, noise where partials were), not what a sound lost. It is linear, and not tuned to a codec or a corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.audio.partials import window_size
from distill.codec.data import evenly_spaced
from distill.codec.fidelity import ENVELOPE_HOP_SECONDS, envelope
from distill.codec.spectral import mel_filterbank

Samples = NDArray[np.float32]
Values = NDArray[np.float64]


def telling_apart(
    originals: Sequence[Samples],
    decoded: Sequence[Samples],
    sample_rate: int,
    groups: Sequence[str],
    seed: int,
) -> tuple[float, ...]:
    """Share of right answers on the patches of each recording, of originals `[N]` and decodes `[N]` in equal parts.

    Recordings of a group are in the same fold. NaN for silence, and for all of fewer than two groups with sound.
    """
    names = sorted({group for group, sound in zip(groups, originals, strict=True) if sound.any()})
    right = np.full(len(originals), np.nan)
    if len(names) < 2:
        return tuple(right.tolist())
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[index]: place % 8 for place, index in enumerate(order)}
    pairs = {
        number: _pair(original, other, sample_rate)
        for number, (original, other) in enumerate(zip(originals, decoded, strict=True))
        if original.any()
    }
    for fold in sorted(set(fold_of.values())):
        known = [pair for number, pair in pairs.items() if fold_of[groups[number]] != fold]
        judge = _fitted(known)
        for number in (number for number in pairs if fold_of[groups[number]] == fold):
            original, other = (judge(patches) for patches in pairs[number])
            right[number] = (original.mean() - other.mean() + 2) / 4
    return tuple(right.tolist())


def _fitted(pairs: Sequence[tuple[Values, Values]]) -> Callable[[Values], Values]:
    """Ridge regression on standardised features: answers `[n]` to patches `[n, features]`, 1 original, -1 decode.

    Every recording has the same weight. Where nothing told the sides apart the answer is 0, which is half right.
    """
    sides = [
        (side, patches) for pair in pairs for side, patches in zip((1.0, -1.0), pair, strict=True)
    ]
    features = np.concatenate([patches for _, patches in sides])
    answers = np.concatenate([np.full(len(patches), side) for side, patches in sides])
    weights = np.concatenate(
        [np.full(len(patches), 1 / len(patches)) for _, patches in sides]
    ) / len(sides)
    mean = weights @ features
    deviation = np.sqrt(weights @ np.square(features - mean)) + 1e-6
    scaled = (features - mean) / deviation
    weighted = scaled * weights[:, None]
    slopes = np.linalg.solve(weighted.T @ scaled + np.eye(features.shape[1]), weighted.T @ answers)

    def answer(patches: Values) -> Values:
        scores = (patches - mean) / deviation @ slopes
        return np.where(np.abs(scores) < 1e-9, 0.0, np.sign(scores))

    return answer


def _pair(original: Samples, decoded: Samples, sample_rate: int) -> tuple[Values, Values]:
    """Features `[n, features]` of the same patches of both: at most 24, evenly spaced, where the original is audible.

    What is 60 dB below the original's loudest band or envelope counts as that.
    """
    size = round(0.256 * sample_rate)
    before, after = (
        np.pad(np.asarray(sound, np.float64), (0, max(0, size - len(sound))))
        for sound in (original, decoded)
    )
    starts = np.arange(len(before) // size) * size
    energies = np.array([np.square(before[start : start + size]).sum() for start in starts])
    audible = starts[energies > 1e-5 * energies.max()]
    chosen = audible[evenly_spaced(len(audible), 24)]
    parts: tuple[list[Values], list[Values]] = [], []
    for view in _views(sample_rate):
        amplitudes = [view.amplitudes(sound) for sound in (before, after)]
        floor = 1e-3 * amplitudes[0].max()
        for values, features in zip(amplitudes, parts, strict=True):
            levels = np.log10(np.maximum(values, floor))
            patches = [
                levels[start // view.hop : (start + size) // view.hop] for start in chosen.tolist()
            ]
            features.append(np.stack([view.describe(patch) for patch in patches]))
    return np.concatenate(parts[0], axis=1), np.concatenate(parts[1], axis=1)


class _View(NamedTuple):
    """How a sound is looked at: amplitudes `[T, ...]` of samples `[N]`, a row each `hop` samples; features of a patch."""

    amplitudes: Callable[[Values], Values]
    hop: int
    describe: Callable[[Values], Values]


def _views(sample_rate: int) -> Iterator[_View]:
    """Spectrograms in mel bands, single bins of long windows, and the envelope."""
    for seconds, bands in ((128 / 24_000, 16), (512 / 24_000, 32)):
        window = 4 * round(seconds * sample_rate / 4)
        yield _View(
            partial(_bands, sample_rate=sample_rate, window=window, bands=bands),
            window // 4,
            _of_spectrogram,
        )
    window = window_size(sample_rate)
    yield _View(lambda sound: np.sqrt(_powers(sound, window)), window // 4, _of_bins)
    hop = max(1, round(ENVELOPE_HOP_SECONDS * sample_rate))
    yield _View(lambda sound: envelope(sound, sample_rate), hop, _of_envelope)


def _of_spectrogram(patch: Values) -> Values:
    """Of a patch `[T, bands]`: mean and deviation of each band, and how much it differs from frame to frame, and bands
    from their neighbours."""
    steps, neighbours = (np.abs(np.diff(patch, axis=axis)).mean(axis=0) for axis in (0, 1))
    return np.concatenate([patch.mean(axis=0), patch.std(axis=0), steps, neighbours])


def _of_bins(patch: Values) -> Values:
    """Of a patch `[T, bins]` of long windows, in each of 16 bands: how far the bins differ from their neighbours,
    how far the highest is above the mean, and how much bins differ from frame to frame."""
    edges = np.unique(np.geomspace(4, patch.shape[1], 17).astype(int))[:-1]
    widths = np.diff(np.append(edges, patch.shape[1]))

    def mean(values: Values) -> Values:  # [T, bins] -> [bands]
        return np.asarray((np.add.reduceat(values, edges, axis=1) / widths).mean(axis=0))

    across, over_time = (
        np.abs(np.diff(patch, axis=axis, prepend=first))
        for axis, first in ((1, patch[:, :1]), (0, patch[:1]))
    )
    highest = np.maximum.reduceat(patch, edges, axis=1).mean(axis=0)
    return np.concatenate([mean(across), highest - mean(patch), mean(over_time)])


def _of_envelope(patch: Values) -> Values:
    """Of a patch `[T]`: quantiles of its levels, and of their differences at several distances, wherever they are."""
    quantiles = np.linspace(0, 1, 9)
    values = [np.quantile(patch, quantiles)]
    for lag in (1, 4, 16):  # in half milliseconds
        steps = patch[lag:] - patch[:-lag]
        values += [np.quantile(steps, quantiles), np.abs(steps).mean(keepdims=True)]
    return np.concatenate(values)


def _bands(sound: Values, sample_rate: int, window: int, bands: int) -> Values:
    """Mel amplitudes `[T, bands]`, the roots of the powers, of windows that start every quarter of one; padded."""
    bank = mel_filterbank(sample_rate, window, bands).numpy().astype(np.float64)
    return np.asarray(np.sqrt(_powers(sound, window) @ bank[:, bank.sum(axis=0) > 0]))


def _powers(sound: Values, window: int) -> Values:
    """Powers `[T, bins]` of windows that start every quarter of one; padded."""
    padded = np.pad(sound, (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    return np.asarray(np.square(np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1]))))
