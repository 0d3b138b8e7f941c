"""Bandwidth and channels of recordings, and what they ask of a corpus: `corpus.sample_rate` and `corpus.channels: auto`.

A recording has treble if a hundred-thousandth of its energy, or more, lies between 10 and 20 kHz, and if in 16 bits that
band reaches -70 dBFS (RMS of a window) somewhere. The first bound leaves out images of a resampler, the second dither,
also shaped dither. Files of up to 24 kHz have none: at 24 kHz all of their sound is kept. A recording is stereo if
it has two channels whose difference is heard.

Only excerpts are decoded, so that it costs little beside decoding the whole. Shapes: `n` samples at the file's rate,
`C` channels, `W` windows.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from distill.audio.image import is_mono
from distill.audio.mixdown import ChannelStatistics
from distill.audio.pcm import F32, FULL_SCALE, is_whole
from distill.audio.read import LARGEST_PEAK, SILENT_PEAK, open_audio
from distill.audio.sndfile import AudioStream
from distill.errors import AudioError
from distill.params import Channels

NARROW_RATE, FULL_RATE, STUDIO_RATE = 24_000, 44_100, 48_000  # Hz
TREBLE_HZ = 10_000
LEAST_ENERGY_SHARE = 1e-5  # of treble in a recording: -50 dB
LEAST_TREBLE_POWER = 1e-7  # of the loudest window's treble: -70 dBFS; 16-bit dither has -100, shaped up to -80
LEAST_TREBLE_SHARE = 0.05  # of the sound in the corpus: less does not pay for a codec that costs more for all of it
LEAST_STEREO_SHARE = 0.2  # of the usable recordings in a stereo corpus
EXCERPT_SECONDS = 0.1  # decoded at a time
USUAL_EXCERPTS = 5


@dataclass(frozen=True)
class Bandwidth:
    """Length, bandwidth and channels of one file; no seconds where it cannot be read or is silent."""

    sample_rate: int  # Hz, of the file
    seconds: float
    has_treble: bool
    is_stereo: bool = False


UNREADABLE = Bandwidth(0, 0.0, False)


@dataclass(frozen=True)
class RateChoice:
    """Sample rate of a corpus in Hz, and the share of its sound, 0 to 1, that is in recordings with treble."""

    sample_rate: int
    treble_share: float
    reason: str


@dataclass(frozen=True)
class ChannelsChoice:
    """Whether a corpus is stereo, and how many of its recordings are."""

    is_stereo: bool
    recordings: int
    reason: str


def measure_bandwidth(path: Path) -> Bandwidth:
    """Measure up to 6.4 s of an audio file, spread over it. `UNREADABLE` where it cannot be decoded, or is silent.

    Where these are silent, the first half second that is not decides.
    """
    with suppress(AudioError):  # `read_recording` says why
        for excerpts_of in (_spread, _first_sound):
            with open_audio(path) as stream:
                if bandwidth := _measure(stream, excerpts_of(stream)):
                    return bandwidth
                if _length(stream) is None:  # its beginning was measured
                    break
    return UNREADABLE


def choose_rate(recordings: Iterable[Bandwidth], wanted: int | Literal["auto"]) -> RateChoice:
    """Choose the sample rate of a corpus: `wanted`, or for "auto" by the treble of its recordings.

    24 kHz if less than 5 % of the sound is in recordings with treble. Otherwise 48 kHz if most of that sound is in
    files of 48 kHz and more, else 44.1 kHz.
    """
    total = treble = studio = 0.0
    for recording in recordings:
        total += recording.seconds
        treble += recording.seconds * recording.has_treble
        studio += recording.seconds * (recording.has_treble and recording.sample_rate >= STUDIO_RATE)
    share = treble / total if total else 0.0  # said rounded down: it never claims to reach a bound that it misses
    reason = f"{math.floor(1000 * share) / 10:g} % of the sound has energy above {TREBLE_HZ // 1000} kHz"
    if wanted != "auto":
        return RateChoice(wanted, share, f"{wanted} Hz, as set: {reason}")
    if share < LEAST_TREBLE_SHARE:
        return RateChoice(NARROW_RATE, share, f"{NARROW_RATE} Hz: {reason}, less than {100 * LEAST_TREBLE_SHARE:.0f} %")
    if studio > treble / 2:
        return RateChoice(STUDIO_RATE, share, f"{STUDIO_RATE} Hz: {reason}, most of it in files of 48 kHz and more")
    return RateChoice(FULL_RATE, share, f"{FULL_RATE} Hz: {reason}")


def choose_channels(recordings: Iterable[Bandwidth], wanted: Channels) -> ChannelsChoice:
    """Choose whether a corpus is stereo: for "auto" where a fifth or more of its usable recordings is."""
    usable = [recording.is_stereo for recording in recordings if recording.seconds]
    stereo = sum(usable)
    reason = f"{stereo} of {len(usable)} recordings have two channels that differ"
    if wanted == "mono":
        return ChannelsChoice(False, stereo, f"mono, as set: {reason}")
    if stereo < LEAST_STEREO_SHARE * max(1, len(usable)):
        return ChannelsChoice(False, stereo, f"mono: {reason}, less than {100 * LEAST_STEREO_SHARE:.0f} %")
    return ChannelsChoice(True, stereo, f"stereo: {reason}")


def _length(stream: AudioStream) -> int | None:
    """Frames of a file, as far as it tells; None where it does not."""
    return stream.announced if stream.frames is None else stream.frames


def _measure(stream: AudioStream, spread: Iterator[F32]) -> Bandwidth | None:
    """What excerpts `[n, C]` of a file say of it; None where they are silent."""
    rate, frames = stream.sample_rate, _length(stream)
    if frames is not None and rate <= NARROW_RATE and stream.channels != 2:
        return Bandwidth(rate, frames / rate, False)
    excerpts = [excerpt for excerpt in spread if len(excerpt)]
    if not np.max([np.abs(excerpt).max() for excerpt in excerpts], initial=0.0) <= LARGEST_PEAK:  # NaN is not, either
        return UNREADABLE
    statistics = ChannelStatistics(stream.channels)
    for excerpt in excerpts:
        statistics.add(excerpt)
    mix, _ = statistics.mix()
    mono = [mix.of(excerpt) for excerpt in excerpts]
    peak = max((float(np.abs(excerpt).max()) for excerpt in mono), default=0.0)
    if peak < SILENT_PEAK:
        return None
    may_be_dither = all(is_whole(excerpt * np.float32(FULL_SCALE)) for excerpt in excerpts)
    has_treble = rate > NARROW_RATE and _has_treble(mono, peak, rate, may_be_dither)
    frames = sum(map(len, excerpts)) + _rest(stream, excerpts[-1]) if frames is None else frames
    is_stereo = stream.channels == 2 and not is_mono(np.concatenate(excerpts))
    return Bandwidth(rate, frames / rate, has_treble, is_stereo)


def _has_treble(excerpts: Sequence[F32], peak: float, rate: int, may_be_dither: bool) -> bool:
    """Whether treble has -50 dB of the energy in mono excerpts `[n]`, and where it may be dither -70 dBFS in a window.

    16-bit dither has -100 dBFS, shaped dither up to -80.
    """
    # Relative to the peak, since squares of the largest samples that `read_recording` takes have no float32.
    whole, treble = _window_powers([excerpt / peak for excerpt in excerpts], rate)
    is_heard = not may_be_dither or float(treble.max()) * peak**2 >= LEAST_TREBLE_POWER
    return bool(is_heard and treble.sum() >= LEAST_ENERGY_SHARE * whole.sum())


def _rest(stream: AudioStream, block: F32) -> int:
    """Frames up to the end of a stream whose last block is given."""
    frames, failure = 0, ""
    while len(block) and not failure:
        block, failure = stream.read_block(1 << 16)
        frames += len(block)
    return frames


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


def _spread(stream: AudioStream) -> Iterator[F32]:
    """Excerpts `[n, C]`, spread over the file; the beginning if the file has no more or its length is unknown.

    There are five; in a short file one each second, but two at least; in a long file one each ten seconds, but 64 at most.
    """
    rate, frames, fewest = stream.sample_rate, _length(stream) or 0, 2
    length, seconds = max(1, round(EXCERPT_SECONDS * rate)), frames / rate
    count = min(64, max(fewest, min(round(seconds), USUAL_EXCERPTS), round(seconds / 10)))
    if frames <= fewest * length:
        yield stream.read_block(frames or USUAL_EXCERPTS * length)[0]
        return
    # Uneven within equal parts of the file, by the golden ratio, so that no rhythm of the sound hides between them.
    offsets = (number + number * 0.618034 % 1 for number in range(count))
    for start in [min(int(offset * frames / count), frames - length) for offset in offsets]:
        if start and not stream.skip_to(start):
            return  # damaged: what came before counts
        block, failure = stream.read_block(length)
        yield block
        if failure:
            return


def _window_powers(excerpts: Sequence[F32], rate: int) -> tuple[F32, F32]:
    """Mean square of each window of the excerpts, of all frequencies but 0 Hz, and of the treble: both `[W]`.

    Windows of 5.8 ms overlap by half: the edge of a longer one takes more of an attack at the start of a file. An excerpt
    that is shorter is padded.
    """
    size, highest_hz = 2 ** round(math.log2(rate * 0.0058)), 20_000
    taper = np.hanning(size + 1)[:size].astype(np.float32)
    centred = [excerpt - excerpt.mean() for excerpt in excerpts]
    padded = [np.pad(excerpt, (0, max(0, size - len(excerpt)))) for excerpt in centred]
    windows = np.concatenate([sliding_window_view(excerpt, size)[:: size // 2] for excerpt in padded]) * taper
    low, high = (math.ceil(hertz * size / rate) for hertz in (TREBLE_HZ, highest_hz))
    treble = np.ascontiguousarray(np.fft.rfft(windows)[:, low:high]).view(np.float32)
    power = float(np.square(taper).sum())
    whole, high_part = (np.einsum("ws,ws->w", rows, rows) for rows in (windows, treble))
    return whole / power, high_part * (2 / (size * power))
