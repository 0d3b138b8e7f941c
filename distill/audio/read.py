"""Decoding of an audio file to mono samples at the corpus sample rate, or the reason why it cannot be used.

Files are decoded in small blocks, so memory follows what a file holds and not what its header claims. Nothing is
normalised; changes and suspected defects are told in `Recording.reason`.

Shapes: `N` samples at the corpus rate, `n` source frames, `C` source channels.
"""

import codecs
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from distill.audio import ffmpeg, sndfile
from distill.audio.ffmpeg import FFmpegStream
from distill.audio.mixdown import ChannelStatistics, Mix, all_channels
from distill.audio.near_duplicates import Fingerprint
from distill.audio.pcm import FULL_SCALE, Pcm, pcm_of, samples_of
from distill.audio.sndfile import F32, AudioStream, is_chained
from distill.errors import AudioError

READERS: Mapping[str, type[AudioStream]] = {  # the seam of formats, by suffix
    **dict.fromkeys(ffmpeg.SUFFIXES, FFmpegStream),
    **dict.fromkeys(sndfile.SUFFIXES, AudioStream),
}
SUPPORTED_SUFFIXES = frozenset(READERS)
EXAMPLES = "such as .wav, .aiff, .flac, .mp3 or .m4a"  # of what can be read, in messages

SILENT_PEAK = 1e-4  # -80 dBFS
SHORT_SECONDS = 0.05
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 1_000, 768_000, 64
LARGEST_PEAK = 1e30  # resampling beyond it would overflow
TOLD_OFFSET = 0.01  # -40 dBFS
TRIMMED_RANGE = 1e-3  # what is trimmed is below SILENT_PEAK, and below this share of the recording's peak: 60 dB
LEAST_TRIMMED_SECONDS, KEPT_BEFORE_SECONDS, KEPT_AFTER_SECONDS = 0.1, 0.01, 0.05

_BLOCK_FRAMES = 4096
_MISSING = 0.02  # share of the announced duration that may be missing without a warning: MP3 headers estimate it
_PADDED_SECONDS = 0.5  # less than this in the frames of an MP3 file may be its encoder's delay and padding
_NEARLY_NOTHING = 0.01  # share of the announced duration below which a file is rejected


@dataclass(frozen=True, eq=False)
class Recording:
    """What became of a file: its samples `[N]` at the corpus rate and what they are, or none and the `reason`.

    With samples `reason` holds the warnings. It `is_certain` unless it may turn out otherwise another time.
    """

    reason: str = ""
    sample_rate: int = 0  # of the file
    channels: int = 0  # of the file
    channels_used: str = ""  # numbers from 1 of those that were mixed, such as "1,2"
    trimmed_before: float = 0.0  # seconds of silence
    trimmed_after: float = 0.0
    pcm: Pcm = field(default_factory=lambda: np.empty(0, np.int16))
    exponent: int = 0  # of two, by which `pcm` is to be multiplied
    sha256: str = ""  # of the file, "" if it cannot be read
    pcm_sha256: str = ""  # "" without samples
    fingerprint: Fingerprint | None = None
    is_certain: bool = True

    @property
    def samples(self) -> F32:
        """Samples `[N]`, in [-1, 1]."""
        return samples_of(self.pcm, self.exponent)


class _Decoding:
    """Mono blocks `[n]` of a stream up to its end or the first error, and statistics of what was decoded."""

    def __init__(self, stream: AudioStream, mix: Mix) -> None:
        self._stream, self._mix = stream, mix
        self.rate, self.channels, self.announced = stream.sample_rate, stream.channels, stream.announced
        self.statistics = ChannelStatistics(stream.channels)
        self.frames = self.not_finite = 0
        self.peak = 0.0
        self.failure = ""

    def __iter__(self) -> Iterator[F32]:
        limit = self._stream.frames
        while not self.failure and (limit is None or self.frames < limit):
            most = _BLOCK_FRAMES if limit is None else min(_BLOCK_FRAMES, limit - self.frames)
            block, self.failure = self._stream.read_block(most)
            if not len(block):
                return
            with np.errstate(invalid="ignore", over="ignore"):  # such samples are counted, and rejected at the end
                mono = self._mix.mono(block)
                self.peak = max(self.peak, float(np.abs(mono).max(initial=0.0)))
                self.statistics.add(block)
            self.frames += len(block)
            self.not_finite += int(np.count_nonzero(~np.isfinite(block)))
            yield mono

    @property
    def is_short(self) -> bool:
        """Whether there was much less than the header announces."""
        return self.announced is not None and self.announced - self.frames > self._tolerance

    @property
    def is_longer(self) -> bool:
        """Whether there was much more than the header announces."""
        return self.announced is not None and self.frames - self.announced > self._tolerance

    @property
    def _tolerance(self) -> float:
        """Frames by which a header may be wrong without a remark."""
        return max(_MISSING * (self.announced or 0), SHORT_SECONDS * self.rate)

    def check(self, size: int) -> None:
        """Raise AudioError where what was decoded of a file of `size` bytes cannot be used."""
        decoded, announced = self.frames / self.rate, (self.announced or 0) / self.rate
        refusal = ""
        if self.is_short and decoded < min(1.0, _NEARLY_NOTHING * announced):
            refusal = f"announces {_duration(announced)} but holds {_duration(decoded)} ({size} bytes)"
        elif not self.frames:
            refusal = f"holds no samples ({size} bytes){self._cause}"
        elif self.not_finite:
            refusal = f"holds {self.not_finite} samples of {self.frames * self.channels} that are NaN or infinite"
        elif self.peak > LARGEST_PEAK:
            refusal = f"has a peak of {self.peak:.3g}, too large for any scale"
        if refusal:
            raise AudioError(refusal)

    def warnings(self) -> Iterator[str]:
        """What a user should know about what was decoded."""
        decoded, announced = self.frames / self.rate, (self.announced or 0) / self.rate
        if self.is_short:
            yield f"incomplete: {_duration(decoded)} decoded, {_duration(announced)} announced{self._cause}"
        elif self.is_longer:
            found = f"its header announces {_duration(announced)}, it holds {_duration(decoded)}: all of it was read"
            yield f"{found}{self._cause}"
        elif self.failure:
            yield f"decoding stopped after {_duration(decoded)}{self._cause}"
        yield from self._stream.remarks()
        if abs(self._mix.offset) >= TOLD_OFFSET:
            yield f"a constant offset of {self._mix.offset:.2g} was taken off"
        if self.peak > 1.0:
            yield f"peak {self.peak:.3g} is above full scale; scaled to 1.0"

    @property
    def _cause(self) -> str:
        return f" ({self.failure})" if self.failure else ""


def reader_versions() -> tuple[str, str]:
    """Versions of libsndfile and FFmpeg, on which decoded samples depend."""
    import av

    return str(soundfile.__libsndfile_version__), str(av.ffmpeg_version_info)


def read_recording(path: Path, sample_rate: int, trim: bool = False) -> Recording:
    """Decode `path`, mix it to mono as `distill.audio.mixdown` says, and resample it (soxr HQ) to `sample_rate`.

    With `trim` silence at its beginning and end is trimmed, see `_sound`.
    Raises AudioError with the reason alone, without the path: the caller knows where the file belongs.
    """
    decoding, parts = _decoded(path, sample_rate, None)
    decoding.check(path.stat().st_size)
    mix, is_cancelled = decoding.statistics.mix()
    if mix != all_channels(decoding.channels):  # only such a file is decoded twice
        parts.clear()
        decoding, parts = _decoded(path, sample_rate, mix)
        decoding.check(path.stat().st_size)
    if decoding.peak < SILENT_PEAK:
        raise AudioError(f"is silent (peak {f'{20 * np.log10(decoding.peak):.0f} dBFS' if decoding.peak else '0'})")
    warnings = [*decoding.warnings()]
    channels_used = ",".join(str(1 + channel) for channel in mix.channels)
    if is_cancelled:
        warnings.insert(0, f"its channels nearly cancel out when mixed to mono; channel {channels_used} was used alone")
    if is_chained(path):
        warnings.append("holds several recordings one after another (a chained file), of which the first was decoded")
    peak = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)
    if peak < SILENT_PEAK:
        found = f"{decoding.frames} samples at {decoding.rate} Hz leave silence"
        raise AudioError(f"holds no sound at {sample_rate} Hz: {found}")
    pcm, exponent = pcm_of(parts, peak)
    parts.clear()
    silence = min(SILENT_PEAK, TRIMMED_RANGE * peak)
    sound = _sound(pcm, silence * 2.0**-exponent, sample_rate) if trim else slice(0, len(pcm))
    if sound.stop - sound.start < SHORT_SECONDS * sample_rate:
        warnings.append(f"very short: {_duration((sound.stop - sound.start) / sample_rate)}")
    return Recording(
        reason="; ".join(warnings),
        sample_rate=decoding.rate,
        channels=decoding.channels,
        channels_used=channels_used,
        trimmed_before=sound.start / sample_rate,
        trimmed_after=(len(pcm) - sound.stop) / sample_rate,
        pcm=pcm[sound],
        exponent=exponent,
    )


def _decoded(path: Path, sample_rate: int, mix: Mix | None) -> tuple[_Decoding, list[F32]]:
    """Decode a file and return the statistics, and its samples in parts; None mixes all channels as they are."""
    with open_audio(path) as stream:
        size, rate = path.stat().st_size, stream.sample_rate
        if stream.frames is not None and stream.frames <= size:  # of compressed files the header alone tells how many
            np.empty(int(stream.frames * (sample_rate / rate)), dtype=np.float32)  # MemoryError at once
        decoding = _Decoding(stream, mix or all_channels(stream.channels))
        return decoding, list(_resampled(decoding, rate, sample_rate))


def _sound(pcm: Pcm, silence: float, sample_rate: int) -> slice:
    """Where the sound is: from the first to the last sample of the level `silence` or more, with a little around it."""
    least_loud = math.ceil(silence * FULL_SCALE)
    loud = (pcm >= least_loud) | (pcm <= -least_loud)
    start, stop = int(loud.argmax()), len(loud) - int(loud[::-1].argmax())
    least, before, after = (
        round(seconds * sample_rate) for seconds in (LEAST_TRIMMED_SECONDS, KEPT_BEFORE_SECONDS, KEPT_AFTER_SECONDS)
    )
    return slice(start - before if start > least else 0, stop + after if len(loud) - stop > least else len(loud))


def open_audio(path: Path) -> AudioStream:
    """Open an audio file. Raises AudioError with the reason alone, as `read_recording` does."""
    if text := _as_text(_first_bytes(path)):
        raise AudioError(f"is text, not audio: it begins with {' '.join(text.split())[:40]!r}")
    stream = _stream(path)
    rate, channels = stream.sample_rate, stream.channels
    refusal = ""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        refusal = f"has a sample rate of {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be used"
    elif channels > MOST_CHANNELS:
        refusal = f"has {channels} channels; at most {MOST_CHANNELS} can be used"
    if refusal:
        with stream:
            raise AudioError(refusal)
    return stream


def _stream(path: Path) -> AudioStream:
    """Open a file with the reader of its suffix.

    FFmpeg reads what libsndfile refuses, and the FLAC and MP3 files that hold more than their header states.
    """
    reader = READERS.get(path.suffix.lower(), AudioStream)
    try:
        stream = reader(path)
    except AudioError:
        if reader is AudioStream:
            with suppress(AudioError):
                return FFmpegStream(path, ffmpeg.CONTAINERS)
        raise
    announced = stream.announced
    if stream.coding not in ("FLAC", "MP3") or announced is None:
        return stream
    if ffmpeg.seconds_held(path) < announced / stream.sample_rate + _PADDED_SECONDS or is_chained(path):
        return stream
    with stream:
        whole = FFmpegStream(path)
    whole.announced = announced
    return whole


def _first_bytes(path: Path) -> bytes:
    """First bytes of a regular file; anything else at `path` raises AudioError (a pipe is never opened)."""
    try:
        if not path.is_file():
            if not os.path.lexists(path):
                raise AudioError("is missing")
            raise AudioError("is not a regular file" if path.exists() else "is a link that leads nowhere")
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from error
    if not head:
        raise AudioError("is empty (0 bytes)")
    return head


def _as_text(head: bytes) -> str:
    """`head` as text, "" if it is not; NIST Sphere is the one audio format that begins with text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut off at the end is no error
    except UnicodeDecodeError:
        return ""
    printable = all(character.isprintable() or character in "\t\n\r" for character in text)
    return text if printable and not head.startswith(b"NIST_1A") else ""


def _resampled(blocks: Iterable[F32], rate: int, sample_rate: int) -> Iterator[F32]:
    if rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"
