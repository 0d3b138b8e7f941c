"""Training samples of recordings and their augmentations: shift, gain, equaliser, transposition."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from distill.audio.corpus import Corpus, ManifestRow
from distill.seeds import Stream, derive_seed

VARISPEED_SEMITONES = 3.0
EQUALISED_HERTZ = (60.0, 250.0, 1000.0, 4000.0, 16_000.0)
REACH = 511  # samples on each side that the equaliser reads: its bins are 24 to 47 Hz apart


@dataclass(frozen=True)
class View:
    """Augmentation of a recording: `shift` samples cut off the start, `semitones` higher, equalised, times `gain`.

    Number 0 is the recording itself. Transposing up shortens the sound. `decibels` are the gains at EQUALISED_HERTZ,
    interpolated linearly over log frequency; empty for no equaliser.
    """

    number: int = 0
    shift: int = 0
    gain: float = 1.0
    semitones: int = 0
    decibels: tuple[float, ...] = ()

    @property
    def speed(self) -> Fraction:
        """Playback speed as a fraction, within 1 cent of `semitones`."""
        return Fraction(2 ** (self.semitones / 12)).limit_denominator(120)

    def samples(self, entry: ManifestRow) -> int:
        """Number of samples of the augmented recording, at least one."""
        return max(1, int((entry.samples - self.shift) / self.speed))


AS_IS = View()


def views_of(
    entry: ManifestRow, count: int, samples_per_frame: int, seed: int, transpose: int = 0
) -> list[View]:
    """Draw `count` augmentations of a recording: itself, then shifted by less than a frame, at -8 to 2 dB, equalised.

    Every second augmentation is transposed by up to `transpose` semitones. Very short recordings are not shifted.
    """
    streams = (Stream.VIEWS, Stream.VIEW_KEYS, Stream.VIEW_EQUALISERS)
    seeds = (derive_seed(seed, stream, int(entry.recording_id[:15], 16)) for stream in streams)
    generator, keys, equalisers = map(np.random.default_rng, seeds)
    views = [AS_IS]
    for number in range(1, count):
        shift, level = int(generator.integers(samples_per_frame)), generator.uniform(-8.0, 2.0)
        semitones = int(keys.integers(-transpose, transpose + 1)) if number % 2 else 0
        shift = shift if entry.samples > 2 * shift else 0
        views.append(
            View(number, shift, float(10 ** (level / 20)), semitones, draw_equaliser(equalisers))
        )
    return views


def waveform(
    corpus: Corpus,
    entry: ManifestRow,
    start: int = 0,
    length: int | None = None,
    view: View = AS_IS,
) -> Tensor:
    """Augmented samples `[N]` from `start` on, fp32 in [-1, 1]; to the end if `length` is None."""
    stop = view.samples(entry) if length is None else start + length
    samples = (_equalised if view.decibels else _transposed)(corpus, entry, start, stop, view)
    return (samples * view.gain).clamp_(-1.0, 1.0)


def _equalised(corpus: Corpus, entry: ManifestRow, start: int, stop: int, view: View) -> Tensor:
    """Augmented samples before the gain. The equaliser has linear phase, and its delay is removed."""
    first, last = max(0, start - REACH), min(view.samples(entry), stop + REACH)
    plain = _transposed(corpus, entry, first, last, view).clamp_(-1.0, 1.0)
    silence = (REACH - (start - first), REACH - (last - stop))
    return equalised(plain, corpus.sample_rate, view.decibels, silence)


def _transposed(corpus: Corpus, entry: ManifestRow, start: int, stop: int, view: View) -> Tensor:
    """Augmented samples before equaliser and gain."""
    if not view.semitones:
        return torch.from_numpy(corpus.read(entry, start + view.shift, stop - start))
    margin = 1 << 12  # samples on each side, more than the filter reads
    speed, whole = view.speed, entry.samples - view.shift
    # Resample from a point where both rates coincide, so that any excerpt equals that part of the whole.
    first, last = (
        max(0, start - margin) // speed.denominator,
        (stop + margin) // speed.denominator + 1,
    )
    begin, end = first * speed.numerator, min(whole, last * speed.numerator)
    source = corpus.read(entry, view.shift + begin, end - begin)
    resampled = soxr.resample(source, speed.numerator, speed.denominator, "HQ")
    offset = start - first * speed.denominator
    samples = torch.from_numpy(resampled[offset : offset + stop - start].copy())
    return nn.functional.pad(samples, (0, stop - start - len(samples)))


def equalised(
    audio: Tensor,
    sample_rate: int,
    decibels: Sequence[float],
    silence: tuple[int, int] = (REACH, REACH),
) -> Tensor:
    """Equalise audio `[N]` by `decibels` at EQUALISED_HERTZ. `[N]`; shorter if `silence` around is below REACH."""
    from scipy.signal import fftconvolve  # it takes a while to load

    count = 2 * REACH + 1  # taps
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    course = np.interp(np.log2(hertz.clip(1.0)), np.log2(EQUALISED_HERTZ), decibels)
    taps = np.fft.fftshift(np.fft.irfft(10 ** (course / 20), count)) * np.hanning(count)
    padded = nn.functional.pad(audio, silence).numpy()
    return torch.from_numpy(fftconvolve(padded, taps, mode="valid").astype(np.float32))


def draw_equaliser(generator: np.random.Generator) -> tuple[float, ...]:
    """Random gains in dB at EQUALISED_HERTZ: standard deviation 6 dB, mean removed."""
    decibels = generator.normal(0.0, 6.0, len(EQUALISED_HERTZ))
    return tuple((decibels - decibels.mean()).tolist())


def varispeed(audio: Tensor, speed: float) -> Tensor:
    """Audio `[N]` at another `speed`, `[max(1, N / speed)]`: pitch and length change together. Linear interpolation."""
    length = varispeed_length(len(audio), speed)
    return nn.functional.interpolate(
        audio[None, None], size=length, mode="linear", align_corners=False
    )[0, 0]


def varispeed_length(samples: int, speed: float) -> int:
    """Length of `samples` samples at another `speed`."""
    return max(1, round(samples / speed))
