"""Samples of recordings for training, and augmented views of them: shifted, louder or softer, faster or slower."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from distill.audio.corpus import Corpus, ManifestRow
from distill.seeds import Stream, derive_seed

VARISPEED_SEMITONES = 3.0
VIEW_GAINS_DB = (-8.0, 2.0)
MOST_DENOMINATOR = 120  # of the speed of a view: within 1 cent of a semitone's
MARGIN = 1 << 12  # samples to either side of what is resampled, beyond the reach of the filter


@dataclass(frozen=True)
class View:
    """View of a recording: without its first `shift` samples, `semitones` higher, times `gain`.

    View 0 is the recording itself. A higher view is shorter.
    """

    number: int = 0
    shift: int = 0
    gain: float = 1.0
    semitones: int = 0

    @property
    def speed(self) -> Fraction:
        """How much faster it plays."""
        return Fraction(2 ** (self.semitones / 12)).limit_denominator(MOST_DENOMINATOR)

    def samples(self, entry: ManifestRow) -> int:
        """Number of samples of the view of a recording, at least one."""
        return max(1, int((entry.samples - self.shift) / self.speed))


AS_IS = View()


def views_of(entry: ManifestRow, count: int, samples_per_frame: int, seed: int, transpose: int = 0) -> list[View]:
    """Views of a recording, `count` of them: itself, then shifted by less than a frame and by -8 to 2 dB.

    Every other one is in another key, up to `transpose` semitones away. Very short recordings are not shifted.
    """
    generator = np.random.default_rng(derive_seed(seed, Stream.VIEWS, int(entry.recording_id[:15], 16)))
    keys = np.random.default_rng(derive_seed(seed, Stream.VIEW_KEYS, int(entry.recording_id[:15], 16)))
    views = [AS_IS]
    for number in range(1, count):
        shift, level = int(generator.integers(samples_per_frame)), generator.uniform(*VIEW_GAINS_DB)
        semitones = int(keys.integers(-transpose, transpose + 1)) if number % 2 else 0
        views.append(View(number, shift if entry.samples > 2 * shift else 0, float(10 ** (level / 20)), semitones))
    return views


def waveform(
    corpus: Corpus, entry: ManifestRow, start: int = 0, length: int | None = None, view: View = AS_IS
) -> Tensor:
    """Samples `[N]` of a view from `start` on, fp32 in [-1, 1]; to the end if `length` is None."""
    if not view.semitones:
        samples = torch.from_numpy(corpus.read(entry, start + view.shift, length))
        return samples if view.gain == 1.0 else (samples * view.gain).clamp_(-1.0, 1.0)
    length = view.samples(entry) - start if length is None else length
    speed, whole = view.speed, entry.samples - view.shift
    # The filter begins where samples of both rates coincide, so that parts of a view are those of the whole.
    first = max(0, start - MARGIN) // speed.denominator
    last = (start + length + MARGIN) // speed.denominator + 1
    source = corpus.read(
        entry, view.shift + first * speed.numerator, min(whole, last * speed.numerator) - first * speed.numerator
    )
    resampled = soxr.resample(source, speed.numerator, speed.denominator, "HQ")
    offset = start - first * speed.denominator
    samples = torch.from_numpy(resampled[offset : offset + length].copy())
    samples = nn.functional.pad(samples, (0, length - len(samples)))
    return (samples * view.gain).clamp_(-1.0, 1.0)


def varispeed(audio: Tensor, speed: float) -> Tensor:
    """Audio `[N]` at another `speed`, `[max(1, N / speed)]`: pitch and length change together. Linear interpolation."""
    length = varispeed_length(len(audio), speed)
    return nn.functional.interpolate(audio[None, None], size=length, mode="linear", align_corners=False)[0, 0]


def varispeed_length(samples: int, speed: float) -> int:
    """Number of samples of audio of `samples` at another `speed`."""
    return max(1, round(samples / speed))
