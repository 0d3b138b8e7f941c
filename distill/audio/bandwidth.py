"""Bandwidth and channels of recordings, which decide `corpus.sample_rate: auto` and `corpus.channels: auto`.

A recording has treble if at least a hundred-thousandth of its energy lies between 10 and 20 kHz. In 16-bit sound this
band also has to reach -70 dBFS (RMS of a window) somewhere. The first bound excludes resampler images, the second
dither, even shaped dither. Files of up to 24 kHz have no treble: 24 kHz keeps all of their sound. A recording is stereo
if it has two channels with an audible difference.

Only excerpts are decoded, which costs little compared with full decoding.

Shapes: `n` samples at the file's rate, `C` channels, `W` windows.
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
LEAST_ENERGY_SHARE = 1e-5  # treble energy of a recording: -50 dB
# Treble of the loudest window: -70 dBFS; 16-bit dither has -100, shaped dither up to -80
LEAST_TREBLE_POWER = 1e-7
# Sound in the corpus: below it a costlier codec for all sounds does not pay
LEAST_TREBLE_SHARE = 0.05
LEAST_STEREO_SHARE = 0.2  # proportion of usable recordings that makes a corpus stereo
EXCERPT_SECONDS = 0.1  # decoded at a time
USUAL_EXCERPTS = 5


@dataclass(frozen=True)
class Bandwidth:
    """Length, bandwidth and channels of one file; 0 seconds if it is unreadable or silent."""

    sample_rate: int  # Hz, of the file
    seconds: float
    has_treble: bool
    is_stereo: bool = False


UNREADABLE = Bandwidth(0, 0.0, False)


@dataclass(frozen=True)
class RateChoice:
    """Sample rate of a corpus in Hz, and proportion of its sound, 0 to 1, in recordings with treble."""

    sample_rate: int
    treble_share: float
    reason: str


@dataclass(frozen=True)
class ChannelsChoice:
    """Whether a corpus is stereo, and the number of its stereo recordings."""

    is_stereo: bool
    recordings: int
    reason: str


def measure_bandwidth(path: Path) -> Bandwidth:
    """Measure up to 6.4 s of an audio file, spread over it. `UNREADABLE` if it cannot be decoded or is silent.

    If these excerpts are silent, the first half second of sound decides.
    """
    with suppress(AudioError):  # `read_recording` reports the reason
        for excerpts_of in (_spread, _first_sound):
            with open_audio(path) as stream:
                if bandwidth := _measure(stream, excerpts_of(stream)):
                    return bandwidth
                if _length(stream) is None:  # the beginning is already measured
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
        studio += recording.seconds * (
            recording.has_treble and recording.sample_rate >= STUDIO_RATE
        )
    share = (
        treble / total if total else 0.0
    )  # shown rounded down: never seems to reach a bound that it misses
    reason = (
        f"{math.floor(1000 * share) / 10:g} % of the sound has energy above {TREBLE_HZ // 1000} kHz"
    )
    if wanted != "auto":
        return RateChoice(wanted, share, f"{wanted} Hz, as set: {reason}")
    if share < LEAST_TREBLE_SHARE:
        return RateChoice(
            NARROW_RATE,
            share,
            f"{NARROW_RATE} Hz: {reason}, less than {100 * LEAST_TREBLE_SHARE:.0f} %",
        )
    if studio > treble / 2:
        return RateChoice(
            STUDIO_RATE,
            share,
            f"{STUDIO_RATE} Hz: {reason}, most of it in files of 48 kHz and more",
        )
    return RateChoice(FULL_RATE, share, f"{FULL_RATE} Hz: {reason}")


def choose_channels(recordings: Iterable[Bandwidth], wanted: Channels) -> ChannelsChoice:
    """Choose whether a corpus is stereo: for "auto" if a fifth or more of its usable recordings are."""
    usable = [recording.is_stereo for recording in recordings if recording.seconds]
    stereo = sum(usable)
    reason = f"{stereo} of {len(usable)} recordings have two channels that differ"
    if wanted == "mono":
        return ChannelsChoice(False, stereo, f"mono, as set: {reason}")
    if stereo < LEAST_STEREO_SHARE * max(1, len(usable)):
        return ChannelsChoice(
            False, stereo, f"mono: {reason}, less than {100 * LEAST_STEREO_SHARE:.0f} %"
        )
    return ChannelsChoice(True, stereo, f"stereo: {reason}")


def _length(stream: AudioStream) -> int | None:
    """Number of frames of a file, as far as known, or None."""
    return stream.announced if stream.frames is None else stream.frames


def _measure(stream: AudioStream, spread: Iterator[F32]) -> Bandwidth | None:
    """Bandwidth of a file from excerpts `[n, C]`; None if they are silent."""
    rate, frames = stream.sample_rate, _length(stream)
    if frames is not None and rate <= NARROW_RATE and stream.channels != 2:
        return Bandwidth(rate, frames / rate, False)
    excerpts = [excerpt for excerpt in spread if len(excerpt)]
    if (
        not np.max([np.abs(excerpt).max() for excerpt in excerpts], initial=0.0) <= LARGEST_PEAK
    ):  # True for NaN, too
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
    """Whether treble has -50 dB of the energy in mono excerpts `[n]`, and -70 dBFS in a window if it may be dither."""
    # Relative to the peak: squares of the largest samples that `read_recording` accepts overflow float32.
    whole, treble = _window_powers([excerpt / peak for excerpt in excerpts], rate)
    is_heard = not may_be_dither or float(treble.max()) * peak**2 >= LEAST_TREBLE_POWER
    return bool(is_heard and treble.sum() >= LEAST_ENERGY_SHARE * whole.sum())


def _rest(stream: AudioStream, block: F32) -> int:
    """Number of frames left in a stream after its last `block`."""
    frames, failure = 0, ""
    while len(block) and not failure:
        block, failure = stream.read_block(1 << 16)
        frames += len(block)
    return frames


def _first_sound(stream: AudioStream) -> Iterator[F32]:
    """First excerpts `[n, C]` that are not silent."""
    length, left, failure = max(1, round(EXCERPT_SECONDS * stream.sample_rate)), USUAL_EXCERPTS, ""
    while left and not failure:
        block, failure = stream.read_block(length)
        if not len(block):
            return
        if np.abs(block).max() >= SILENT_PEAK:
            left -= 1
            yield block


def _spread(stream: AudioStream) -> Iterator[F32]:
    """Excerpts `[n, C]` spread over the file; only its beginning if the file is very short or its length unknown.

    Usually five. A short file has one every second, at least two; a long file has one every ten seconds, at most 64.
    """
    rate, frames, fewest = stream.sample_rate, _length(stream) or 0, 2
    length, seconds = max(1, round(EXCERPT_SECONDS * rate)), frames / rate
    count = min(64, max(fewest, min(round(seconds), USUAL_EXCERPTS), round(seconds / 10)))
    if frames <= fewest * length:
        yield stream.read_block(frames or USUAL_EXCERPTS * length)[0]
        return
    # Golden-ratio offsets within equal parts of the file: no rhythm can fall between all excerpts.
    offsets = (number + number * 0.618034 % 1 for number in range(count))
    for start in [min(int(offset * frames / count), frames - length) for offset in offsets]:
        if start and not stream.skip_to(start):
            return  # damaged: use the excerpts so far
        block, failure = stream.read_block(length)
        yield block
        if failure:
            return


def _window_powers(excerpts: Sequence[F32], rate: int) -> tuple[F32, F32]:
    """Mean square of each window of the excerpts, over all frequencies but 0 Hz and over the treble: both `[W]`.

    Windows of 5.8 ms overlap by half. Longer windows would attenuate more of an attack at the start of a file. Shorter
    excerpts are padded.
    """
    size, highest_hz = 2 ** round(math.log2(rate * 0.0058)), 20_000
    taper = np.hanning(size + 1)[:size].astype(np.float32)
    centred = [excerpt - excerpt.mean() for excerpt in excerpts]
    padded = [np.pad(excerpt, (0, max(0, size - len(excerpt)))) for excerpt in centred]
    windows = (
        np.concatenate([sliding_window_view(excerpt, size)[:: size // 2] for excerpt in padded])
        * taper
    )
    low, high = (math.ceil(hertz * size / rate) for hertz in (TREBLE_HZ, highest_hz))
    treble = np.ascontiguousarray(np.fft.rfft(windows)[:, low:high]).view(np.float32)
    power = float(np.square(taper).sum())
    whole, high_part = (np.einsum("ws,ws->w", rows, rows) for rows in (windows, treble))
    return whole / power, high_part * (2 / (size * power))
