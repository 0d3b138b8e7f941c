"""Bandwidth of recordings, and the corpus sample rate that it asks for: `corpus.sample_rate: auto`.

A recording has treble if a hundred-thousandth of its energy, or more, lies between 10 and 20 kHz, and if in 16 bits that
band reaches -70 dBFS (RMS of a window) somewhere. The first bound leaves out images of a resampler, the second dither,
also shaped dither. Files of up to 24 kHz have none: at 24 kHz all of their sound is kept.

Only excerpts are decoded, so that it costs little beside decoding the whole. Shapes: `n` samples at the file's rate,
`C` channels, `W` windows.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from distill.audio.mixdown import ChannelStatistics
from distill.audio.pcm import F32, FULL_SCALE, is_whole
from distill.audio.read import LARGEST_PEAK, SILENT_PEAK, open_audio
from distill.audio.sndfile import AudioStream
from distill.errors import AudioError

NARROW_RATE, FULL_RATE, STUDIO_RATE = 24_000, 44_100, 48_000  # Hz
TREBLE_HZ, HIGHEST_HZ = 10_000, 20_000
LEAST_ENERGY_SHARE = 1e-5  # of treble in a recording: -50 dB
LEAST_TREBLE_POWER = 1e-7  # of the loudest window's treble: -70 dBFS; 16-bit dither has -100, shaped up to -80
LEAST_TREBLE_SHARE = 0.05  # of the sound in the corpus: less does not pay for a codec that costs more for all of it
EXCERPT_SECONDS = 0.1  # decoded at a time
FEWEST_EXCERPTS, USUAL_EXCERPTS, MOST_EXCERPTS = 2, 5, 64  # one a second up to the usual, then one in SPACING_SECONDS
SPACING_SECONDS = 10.0
GOLDEN_RATIO = 0.618034
WINDOW_SECONDS = 0.0058  # so short that the window's edge takes little of an attack at the start of a file


@dataclass(frozen=True)
class Bandwidth:
    """Length and bandwidth of one file; no seconds where it cannot be read or is silent."""

    sample_rate: int  # Hz, of the file
    seconds: float
    has_treble: bool


UNREADABLE = Bandwidth(0, 0.0, False)


@dataclass(frozen=True)
class RateChoice:
    """Sample rate of a corpus in Hz, and the share of its sound, 0 to 1, that is in recordings with treble."""

    sample_rate: int
    treble_share: float
    reason: str


def measure_bandwidth(path: Path) -> Bandwidth:
    """Measure up to 6.4 s of an audio file, spread over it. `UNREADABLE` where it cannot be decoded, or is silent.

    Where these are silent, the first half second that is not decides.
    """
    try:
        with open_audio(path) as stream:
            found, has_length = _measure(stream, _excerpts(stream)), _length(stream) is not None
        if found is None and has_length:
            with open_audio(path) as stream:
                found = _measure(stream, _first_sound(stream))
        return found or UNREADABLE
    except AudioError:
        return UNREADABLE  # `read_recording` says why


def choose_rate(recordings: Iterable[Bandwidth], wanted: int | Literal["auto"]) -> RateChoice:
    """Choose the sample rate of a corpus: `wanted`, or for "auto" by the treble of its recordings.

    24 kHz if less than 5 % of the sound is in recordings with treble. Otherwise 48 kHz if most of that sound is in
    files of 48 kHz and more, else 44.1 kHz.
    """
    total = treble = studio = 0.0
    for one in recordings:
        total += one.seconds
        if one.has_treble:
            treble += one.seconds
            studio += one.seconds if one.sample_rate >= STUDIO_RATE else 0.0
    share = treble / total if total else 0.0  # said rounded down: it never claims to reach a bound that it misses
    found = f"{math.floor(1000 * share) / 10:g} % of the sound has energy above {TREBLE_HZ // 1000} kHz"
    if wanted != "auto":
        return RateChoice(wanted, share, f"{wanted} Hz, as set: {found}")
    if share < LEAST_TREBLE_SHARE:
        return RateChoice(NARROW_RATE, share, f"{NARROW_RATE} Hz: {found}, less than {100 * LEAST_TREBLE_SHARE:.0f} %")
    if studio > treble / 2:
        return RateChoice(STUDIO_RATE, share, f"{STUDIO_RATE} Hz: {found}, most of it in files of 48 kHz and more")
    return RateChoice(FULL_RATE, share, f"{FULL_RATE} Hz: {found}")


def _length(stream: AudioStream) -> int | None:
    """Frames of a file, as far as it tells; None where it does not."""
    return stream.announced if stream.frames is None else stream.frames


def _measure(stream: AudioStream, spread: Iterator[F32]) -> Bandwidth | None:
    """What excerpts `[n, C]` of a file say of it; None where they are silent."""
    rate, frames = stream.sample_rate, _length(stream)
    if frames is not None and rate <= NARROW_RATE:
        return Bandwidth(rate, frames / rate, False)
    excerpts = list(spread)
    if not np.max([np.abs(excerpt).max() for excerpt in excerpts], initial=0.0) <= LARGEST_PEAK:  # NaN is not, either
        return UNREADABLE
    statistics = ChannelStatistics(stream.channels)
    for excerpt in excerpts:
        statistics.add(excerpt)
    mix, _ = statistics.mix()
    mono = [mix.mono(excerpt) for excerpt in excerpts]
    peak = max((float(np.abs(excerpt).max()) for excerpt in mono), default=0.0)
    if peak < SILENT_PEAK:
        return None
    # Relative to the peak, since squares of the largest samples that `read_recording` takes have no float32.
    whole, treble = _window_powers([excerpt / peak for excerpt in mono], rate)
    has_dither = all(is_whole(excerpt * np.float32(FULL_SCALE)) for excerpt in excerpts)
    is_heard = not has_dither or float(treble.max()) * float(peak) ** 2 >= LEAST_TREBLE_POWER
    has_treble = is_heard and treble.sum() >= LEAST_ENERGY_SHARE * whole.sum()
    if frames is None:  # the header does not say: the rest is read to its end
        frames, failure, block = sum(map(len, excerpts)), "", excerpts[-1]
        while len(block) and not failure:
            block, failure = stream.read_block(1 << 16)
            frames += len(block)
    return Bandwidth(rate, frames / rate, bool(rate > NARROW_RATE and has_treble))


def _first_sound(stream: AudioStream) -> Iterator[F32]:
    """The first excerpts `[n, C]` that are not silent."""
    length, left, failure = max(1, round(EXCERPT_SECONDS * stream.sample_rate)), USUAL_EXCERPTS, ""
    while left and not failure:
        block, failure = stream.read_block(length)
        if not len(block):
            return
        if np.abs(block).max() >= SILENT_PEAK:
            left -= 1
            yield block


def _excerpts(stream: AudioStream) -> Iterator[F32]:
    """Excerpts `[n, C]`, spread over the file; the beginning if the file has no more or its length is unknown."""
    rate, frames = stream.sample_rate, _length(stream) or 0
    length, seconds = max(1, round(EXCERPT_SECONDS * rate)), frames / rate
    count = max(FEWEST_EXCERPTS, min(round(seconds), USUAL_EXCERPTS), round(seconds / SPACING_SECONDS))
    count = min(count, MOST_EXCERPTS)
    # Uneven within equal parts of the file, so that no rhythm of the sound hides between them.
    offsets = (number + number * GOLDEN_RATIO % 1 for number in range(count))
    starts = [min(int(offset * frames / count), frames - length) for offset in offsets]
    if frames <= FEWEST_EXCERPTS * length:
        starts, length = [0], (FEWEST_EXCERPTS if frames else USUAL_EXCERPTS) * length
    for start in starts:
        if start and not stream.skip_to(start):
            return  # damaged: what came before counts
        block, failure = stream.read_block(min(length, frames - start) if frames else length)
        if len(block):
            yield block
        if failure:
            return


def _window_powers(excerpts: Sequence[F32], rate: int) -> tuple[F32, F32]:
    """Mean square of each window of the excerpts, of all frequencies but 0 Hz, and of the treble: both `[W]`.

    Windows overlap by half; an excerpt that is shorter than one is padded.
    """
    size = 2 ** round(math.log2(rate * WINDOW_SECONDS))
    taper = np.hanning(size + 1)[:size].astype(np.float32)
    centred = [excerpt - excerpt.mean() for excerpt in excerpts]
    padded = [np.pad(one, (0, max(0, size - len(one)))) for one in centred]
    windows = np.concatenate([sliding_window_view(one, size)[:: size // 2] for one in padded]) * taper  # [W, size]
    low, high = (math.ceil(hertz * size / rate) for hertz in (TREBLE_HZ, HIGHEST_HZ))
    treble = np.ascontiguousarray(np.fft.rfft(windows)[:, low:high]).view(np.float32)
    power = float(np.square(taper).sum())
    whole, high_part = (np.einsum("ws,ws->w", rows, rows) for rows in (windows, treble))
    return whole / power, high_part * (2 / (size * power))
