"""Decode an audio file to samples at the corpus sample rate, or give the reason why it cannot be used.

Samples are mono. A file read as stereo yields the downmix of both channels, with parametric-stereo parameters.

Files are decoded in small blocks, so memory depends on the content of a file and not on its header's claims. Nothing is
normalised. `Recording.reason` reports changes and suspected defects.

Shapes: `N` samples at the corpus rate, `n` source frames, `C` source channels.
"""

import codecs
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import soundfile
import soxr

from distill.audio import ffmpeg, sndfile
from distill.audio.ffmpeg import FFmpegStream
from distill.audio.image import MONO, Image, fold, image_of, is_mono
from distill.audio.mixdown import BothChannels, ChannelStatistics, Mix, all_channels, both_channels
from distill.audio.near_duplicates import Fingerprint
from distill.audio.noise_floor import TYPICAL, NoiseFloor, noise_floor
from distill.audio.pcm import F32, FULL_SCALE, Pcm, pcm_of, samples_of
from distill.audio.side_info import SideInfo
from distill.audio.sndfile import AudioStream, is_chained
from distill.audio.write import Bits
from distill.errors import AudioError
from distill.text import several

T = TypeVar("T")
Reader = Callable[[Path], AudioStream]  # opens a file or raises AudioError
READERS: Mapping[str, Sequence[Reader]] = {  # by suffix: readers to try, in order; add formats here
    **dict.fromkeys(ffmpeg.SUFFIXES, (FFmpegStream,)),
    **dict.fromkeys(
        sndfile.SUFFIXES, (AudioStream, partial(FFmpegStream, formats=ffmpeg.CONTAINERS))
    ),
}
SUPPORTED_SUFFIXES = frozenset(READERS)
EXAMPLES = "such as .wav, .aiff, .flac, .mp3 or .m4a"  # of readable formats, for messages

CHAINED = (
    "holds several recordings one after another (a chained file), of which the first was decoded"
)
STEREO = "stereo"  # `channels_used` of a stereo recording
SILENT_PEAK = 1e-4  # -80 dBFS
SHORT_SECONDS = 0.05
SAMPLE_RATES = range(100, 768_001)  # Hz
MOST_CHANNELS = 64
BLOCK = 4096  # frames decoded at once
WHOLE = slice(None)
LARGEST_PEAK = 1e30  # resampling beyond it would overflow
MOST_SPIKES = 64  # samples of a recording that may be spikes

Channels = Literal["mono", "fold"]
"""Handling of channels. "mono" mixes them, see `distill.audio.mixdown`. "fold" turns two differing channels into a
downmix with parametric-stereo parameters, see `distill.audio.image`, and mixes all others."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Decoded file: samples `[N]` at the corpus rate with their properties, or no samples and the `reason`.

    With samples, `reason` holds the warnings. `is_certain` is False if decoding again may give another result.
    """

    reason: str = ""
    sample_rate: int = 0  # of the file
    channels: int = 0  # of the file
    channels_used: str = ""  # mixed channels, counted from 1, such as "1,2"; or STEREO
    trimmed_before: float = 0.0  # seconds of silence removed
    trimmed_after: float = 0.0
    pcm: Pcm = field(default_factory=lambda: np.empty(0, np.int16))
    exponent: int = 0  # multiply `pcm` by 2**exponent
    image: Image = field(default_factory=lambda: MONO)
    noise: NoiseFloor = field(default_factory=lambda: TYPICAL)
    sha256: str = ""  # of the file, "" if it cannot be read
    pcm_sha256: str = ""  # "" without samples
    fingerprint: Fingerprint | None = None
    is_certain: bool = True

    @property
    def samples(self) -> F32:
        """Samples `[N]`, in [-1, 1]."""
        return samples_of(self.pcm, self.exponent)

    @property
    def side_info(self) -> SideInfo:
        """Side information kept next to the codes."""
        return SideInfo(self.image, self.noise)


@dataclass(frozen=True, eq=False)
class Original:
    """Recording as stored in its file: samples `[N]` or `[N, 2]` at the file's rate; peaks may exceed full scale.

    `bits` is the bit depth needed to store the samples. `reason` holds the warnings, or why there are no samples.
    """

    samples: F32
    sample_rate: int = 0
    bits: Bits = 16
    reason: str = ""


class _Decoding:
    """Iterator over the mixed blocks of a stream up to its end or first error, with statistics of the decoded samples.

    Blocks are `[n]` for a `Mix`, `[n, 2]` for `BothChannels`.
    """

    def __init__(self, stream: AudioStream, mix: Mix | BothChannels) -> None:
        self._stream, self.mix = stream, mix
        self.rate, self.channels, self.announced = (
            stream.sample_rate,
            stream.channels,
            stream.announced,
        )
        self.statistics = ChannelStatistics(stream.channels)
        self.frames = self.not_finite = 0
        self.failure = ""
        self._loudest = np.zeros(
            MOST_SPIKES + 1, np.float32
        )  # magnitudes of the loudest frames, in ascending order

    def __iter__(self) -> Iterator[F32]:
        limit = math.inf if self._stream.frames is None else self._stream.frames
        while not self.failure and self.frames < limit:
            block, self.failure = self._stream.read_block(int(min(BLOCK, limit - self.frames)))
            if not len(block):
                return
            with np.errstate(invalid="ignore", over="ignore"):  # `check` rejects NaN and infinity
                mixed = self.mix.of(block)
                self._add_loudest(np.abs(mixed).reshape(len(mixed), -1).max(axis=1))
                self.statistics.add(block)
            self.frames += len(block)
            self.not_finite += int(np.count_nonzero(~np.isfinite(block)))
            yield mixed

    def _add_loudest(self, magnitudes: F32) -> None:
        louder = magnitudes[magnitudes > self._loudest[0]]
        if len(louder):
            self._loudest = np.sort(np.concatenate([self._loudest, louder]))[-len(self._loudest) :]

    @property
    def peak(self) -> float:
        """Largest magnitude of the decoded samples."""
        return float(self._loudest[-1])

    @property
    def _spikes(self) -> str:
        """Describe a few samples far above all others, as part of a sentence; "" if there are none."""
        spike_ratio = (
            10**1.5
        )  # 30 dB above all others; real sounds have their 65th loudest sample within 13 dB
        others, above = self._loudest[:-1].astype(np.float64), self._loudest[1:]
        jumps = np.flatnonzero((others >= SILENT_PEAK) & (above >= spike_ratio * others))
        if not len(jumps):
            return ""
        count, ratio = MOST_SPIKES - int(jumps[0]), self.peak / float(others[jumps[0]])
        return f"{several(count, 'sample')} up to {20 * math.log10(ratio):.0f} dB above all others"

    @property
    def _missing(self) -> float:
        """Number of announced frames minus decoded frames; 0 within the tolerance.

        MP3 headers estimate the length, so 2 % may be missing without a remark.
        """
        if self.announced is None:
            return 0.0
        missing, tolerance = (
            self.announced - self.frames,
            max(0.02 * self.announced, SHORT_SECONDS * self.rate),
        )
        return missing if abs(missing) > tolerance else 0.0

    def check(self, size: int) -> None:
        """Raise AudioError if the decoded samples of a file of `size` bytes cannot be used."""
        loudest_honest = 16.0  # +24 dBFS, which 32-bit float recorders reach
        decoded, announced = self.frames / self.rate, (self.announced or 0) / self.rate
        lacks, samples = (
            f"announces {_duration(announced)} but holds {_duration(decoded)}",
            self.frames * self.channels,
        )
        has_spikes = self.peak > loudest_honest and bool(self._spikes)
        reasons = {
            f"{lacks} ({size} bytes)": self._missing > 0 and decoded < min(1.0, 0.01 * announced),
            f"holds no samples ({size} bytes){self._cause}": not self.frames,
            f"holds {self.not_finite} samples of {samples} that are NaN or infinite": self.not_finite
            > 0,
            f"has a peak of {self.peak:.3g}, too large for any scale": self.peak > LARGEST_PEAK,
            f"is damaged: it has a peak of {self.peak:.3g}, {self._spikes}": has_spikes,
        }
        if reason := next(filter(reasons.get, reasons), ""):
            raise AudioError(reason)

    def warnings(self) -> Iterator[str]:
        """Yield warnings about missing or extra content."""
        decoded, announced = (
            _duration(self.frames / self.rate),
            _duration((self.announced or 0) / self.rate),
        )
        if self._missing > 0:
            yield f"incomplete: {decoded} decoded, {announced} announced{self._cause}"
        elif self._missing < 0:
            yield f"its header announces {announced}, it holds {decoded}: all of it was read{self._cause}"
        elif self.failure:
            yield f"decoding stopped after {decoded}{self._cause}"
        yield from self._stream.remarks()

    def changes(self) -> Iterator[str]:
        """Yield remarks on changes to the samples and on suspected clicks."""
        if abs(self.mix.offset) >= 0.01:  # -40 dBFS
            yield f"a constant offset of {self.mix.offset:.2g} was taken off"
        if self._spikes:
            yield f"it has {self._spikes}: clicks, or damage"
        if self.peak > 1.0:
            yield f"peak {self.peak:.3g} is above full scale; scaled to 1.0"

    @property
    def _cause(self) -> str:
        return f" ({self.failure})" if self.failure else ""


def reader_versions() -> tuple[str, str]:
    """Versions of libsndfile and FFmpeg, on which decoded samples depend."""
    import av

    return str(soundfile.__libsndfile_version__), str(av.ffmpeg_version_info)


def read_recording(
    path: Path, sample_rate: int, trim: bool = False, channels: Channels = "mono"
) -> Recording:
    """Decode `path`, with its channels handled as in `Channels`, and resample it (soxr HQ) to `sample_rate`.

    `trim` removes silence at both ends, see `_sound`. Raises AudioError with the reason only: the caller adds the path.
    """
    folded = _read_fold(path, sample_rate, trim) if channels == "fold" else None
    return folded or _read_mono(path, sample_rate, trim)


def read_original(path: Path) -> Original:
    """Decode `path` unchanged; more than two channels are mixed to mono. Raises AudioError as `read_recording`."""
    with open_audio(path) as stream:
        rate, channels, bits = stream.sample_rate, stream.channels, stream.bits
    warnings = ["its samples have more bits than a 32-bit float, to which they are rounded"] * (
        bits > 32
    )
    if channels > 2:
        decoding, parts = _decoded(path, rate, all_channels, list)
        mix, _ = decoding.statistics.mix()
        whole: Mix | BothChannels = replace(mix, offset=0.0)
        warnings.append(f"its {channels} channels are mixed to mono")
    else:
        whole = BothChannels() if channels == 2 else all_channels(1)
    decoding, parts = _decoded(path, rate, lambda _: whole, list)
    _peak(decoding, parts, rate)
    warnings += decoding.warnings()
    if is_chained(path):
        warnings.append(CHAINED)
    return Original(np.concatenate(parts), rate, cast(Bits, min(bits, 32)), "; ".join(warnings))


def _read_mono(path: Path, sample_rate: int, trim: bool) -> Recording:
    decoding, parts = _decoded(path, sample_rate, all_channels, list)
    mix, is_cancelled = decoding.statistics.mix()
    if mix != decoding.mix:  # few files need a second pass
        parts.clear()
        decoding, parts = _decoded(path, sample_rate, lambda _: mix, list)
    peak = _peak(decoding, parts, sample_rate)
    pcm, exponent = pcm_of(parts, peak)
    parts.clear()
    sound = (
        _sound(pcm, math.ceil(_silence(peak) * 2.0**-exponent * FULL_SCALE), sample_rate)
        if trim
        else WHOLE
    )
    used = ",".join(str(1 + channel) for channel in mix.channels)
    warnings = [
        f"its channels nearly cancel out when mixed to mono; channel {used} was used alone"
    ] * is_cancelled
    recording = Recording(channels_used=used, pcm=pcm, exponent=exponent)
    return _with_remarks(recording, path, sample_rate, sound, decoding, warnings)


def _read_fold(path: Path, sample_rate: int, trim: bool) -> Recording | None:
    """Downmix and stereo parameters of a file; None unless it has two channels with an audible difference."""
    if not _has_two_channels(path):
        return None
    decoding, channels = _decoded(path, sample_rate, both_channels, _joined)
    if is_mono(channels):
        return None
    if (both := decoding.statistics.both()) != decoding.mix:
        del channels
        decoding, channels = _decoded(path, sample_rate, lambda _: both, _joined)
    folded = fold(channels, sample_rate)
    parts = [
        folded[start : start + BLOCK] for start in range(0, len(folded), BLOCK)
    ]  # keeps temporary arrays small
    peak = _peak(decoding, parts, sample_rate)
    sound = _sound(folded, _silence(peak), sample_rate) if trim else WHOLE
    image = image_of(channels[sound], sample_rate)
    if not len(image):
        return None
    del channels
    pcm, exponent = pcm_of(parts, peak)
    recording = Recording(channels_used=STEREO, pcm=pcm, exponent=exponent, image=image)
    return _with_remarks(recording, path, sample_rate, sound, decoding, [])


def _has_two_channels(path: Path) -> bool:
    with open_audio(path) as stream:
        return stream.channels == 2


def _silence(peak: float) -> float:
    """Magnitude below which samples count as silence: SILENT_PEAK, or 60 dB below the peak if that is lower."""
    return min(SILENT_PEAK, 1e-3 * peak)


def _with_remarks(
    recording: Recording,
    path: Path,
    sample_rate: int,
    sound: slice,
    decoding: _Decoding,
    warnings: list[str],
) -> Recording:
    """Cut a recording to `sound`, and add remarks, file properties and noise floor."""
    start, stop, _ = sound.indices(len(recording.pcm))
    warnings += [*decoding.warnings(), *decoding.changes()]
    if is_chained(path):
        warnings.append(CHAINED)
    if stop - start < SHORT_SECONDS * sample_rate:
        warnings.append(f"very short: {_duration((stop - start) / sample_rate)}")
    return replace(
        recording,
        reason="; ".join(warnings),
        sample_rate=decoding.rate,
        channels=decoding.channels,
        trimmed_before=start / sample_rate,
        trimmed_after=(len(recording.pcm) - stop) / sample_rate,
        pcm=recording.pcm[sound],
        noise=noise_floor(samples_of(recording.pcm[sound], recording.exponent), sample_rate),
    )


def _decoded(
    path: Path,
    sample_rate: int,
    mix_of: Callable[[int], Mix | BothChannels],
    gathered: Callable[[Iterator[F32]], T],
) -> tuple[_Decoding, T]:
    """Decode a file to its statistics and its `gathered` samples. `mix_of` maps the number of channels to a mix."""
    with open_audio(path) as stream:
        size, rate = path.stat().st_size, stream.sample_rate
        decoding = _Decoding(stream, mix_of(stream.channels))
        if (
            stream.frames is not None and stream.frames <= size
        ):  # headers of compressed files may lie
            np.empty(
                int(stream.frames * (sample_rate / rate)), dtype=np.float32
            )  # MemoryError at once
        samples = gathered(_resampled(decoding, rate, sample_rate))
    decoding.check(size)
    return decoding, samples


def _joined(blocks: Iterable[F32]) -> F32:
    """Concatenate blocks `[n, 2]` to `[N, 2]`, with little extra memory."""
    samples, length = np.empty((1 << 16, 2), np.float32), 0
    for block in blocks:
        if (needed := length + len(block)) > len(samples):
            samples.resize(
                (needed + needed // 8, 2), refcheck=False
            )  # large blocks move without a copy
        samples[length:needed] = block
        length = needed
    samples.resize((length, 2), refcheck=False)
    return samples


def _resampled(blocks: Iterable[F32], rate: int, sample_rate: int) -> Iterator[F32]:
    if rate == sample_rate:
        yield from blocks
        return
    resampler, shape = None, ()
    for block in blocks:
        shape = block.shape[1:]
        resampler = resampler or soxr.ResampleStream(
            rate, sample_rate, *(shape or (1,)), dtype="float32", quality="HQ"
        )
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler:
        yield resampler.resample_chunk(np.empty((0, *shape), dtype=np.float32), last=True)


def _peak(decoding: _Decoding, parts: Sequence[F32], sample_rate: int) -> float:
    """Peak magnitude of the resampled parts. Raises AudioError if they are silent."""
    if decoding.peak < SILENT_PEAK:
        level = f"{20 * np.log10(decoding.peak):.0f} dBFS" if decoding.peak else "0"
        raise AudioError(f"is silent (peak {level})")
    peak = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)
    if peak < SILENT_PEAK:
        samples = f"{decoding.frames} samples at {decoding.rate} Hz"
        raise AudioError(f"holds no sound at {sample_rate} Hz: {samples} leave silence")
    return peak


def _sound(samples: Pcm | F32, least_loud: float, sample_rate: int) -> slice:
    """Range from the first to the last sample of magnitude `least_loud` or more, with a margin.

    Up to 0.1 s of silence at an end is kept. Longer silence is cut to 0.01 s before and 0.05 s after the sound.
    """
    least, before, after = (round(seconds * sample_rate) for seconds in (0.1, 0.01, 0.05))
    start, stop = len(samples), 0
    for first in range(0, len(samples), BLOCK):  # blocks keep temporary arrays small
        part = samples[first : first + BLOCK]
        loud = np.flatnonzero((part >= least_loud) | (part <= -least_loud))
        if len(loud):
            start, stop = min(start, first + int(loud[0])), first + int(loud[-1]) + 1
    return slice(
        start - before if start > least else 0,
        stop + after if len(samples) - stop > least else len(samples),
    )


def open_audio(path: Path) -> AudioStream:
    """Open an audio file. Raises AudioError with the reason only, as `read_recording` does."""
    if text := _as_text(_first_bytes(path)):
        raise AudioError(f"is text, not audio: it begins with {' '.join(text.split())[:40]!r}")
    with ExitStack() as opened:
        stream = opened.enter_context(_stream(path))
        rate, channels = stream.sample_rate, stream.channels
        if rate not in SAMPLE_RATES:
            usable = f"{SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz can be used"
            raise AudioError(f"has a sample rate of {rate} Hz; {usable}")
        if channels > MOST_CHANNELS:
            raise AudioError(f"has {channels} channels; at most {MOST_CHANNELS} can be used")
        opened.pop_all()
    return stream


def _stream(path: Path) -> AudioStream:
    """Open a file with the first reader for its suffix that can. Raises the AudioError of the first reader."""
    first, *others = READERS.get(path.suffix.strip().lower(), READERS[".wav"])
    try:
        stream = first(path)
    except AudioError:
        for reader in others:
            with suppress(AudioError):
                return reader(path)
        raise
    return _whole(path, stream) if stream.coding in ("FLAC", "MP3") else stream


def _whole(path: Path, stream: AudioStream) -> AudioStream:
    """Stream of a FLAC or MP3 file, reopened with FFmpeg if the file is longer than its header announces.

    In MP3 up to half a second may be encoder delay and padding. In a chained file only the first stream is read.
    """
    announced = math.inf if stream.announced is None else stream.announced
    padding = 0.5 if stream.coding == "MP3" else 0.5 / stream.sample_rate
    if ffmpeg.seconds_held(path) < announced / stream.sample_rate + padding or is_chained(path):
        return stream
    with stream:
        whole = FFmpegStream(path)
    whole.announced = stream.announced
    return whole


def _first_bytes(path: Path) -> bytes:
    """First bytes of a regular file. Raises AudioError for anything else; a pipe is never opened."""
    try:
        if not path.is_file():
            reasons = {
                "is missing": not os.path.lexists(path),
                "is a link that leads nowhere": not path.exists(),
                "is a folder": path.is_dir(),
                "is not a regular file": True,
            }
            raise AudioError(next(filter(reasons.get, reasons)))
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from error
    if not head:
        raise AudioError("is empty (0 bytes)")
    return head


def _as_text(head: bytes) -> str:
    """Decode `head` as text, or "" if it is binary or NIST Sphere, an audio format that begins with text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(
            head
        )  # ignores a character cut off at the end
    except UnicodeDecodeError:
        return ""
    printable = all(character.isprintable() or character in "\t\n\r" for character in text)
    return text if printable and not head.startswith(b"NIST_1A") else ""


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"
