"""Sequential reading of FFmpeg's formats with PyAV. Shapes: `n` frames of the file, `C` channels."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.audio.pcm import F32
from distill.audio.sndfile import AudioStream
from distill.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame
    from av import AudioStream as Track
    from av.container import InputContainer

# fmt: off
SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".dff", ".dsf", ".dts", ".eac3", ".flv", ".m4a",
    ".m4b", ".m4p", ".m4r", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".mpc", ".spx", ".tak", ".tta", ".voc",
    ".weba", ".webm", ".wma", ".wmv", ".wv",
)
# FFmpeg's demuxers. No other demuxer is tried, as some open further files or URLs. A container's header states the
# length of the sound. For bare frames FFmpeg guesses the length, and mistakes other bytes for frames.
CONTAINERS = (
    "aiff", "ape", "asf", "avi", "caf", "dsf", "flac", "flv", "iff", "matroska", "mov", "mpc", "mpc8", "ogg", "tak",
    "tta", "voc", "w64", "wav", "wv",
)
BARE = ("aac", "ac3", "amr", "dts", "eac3", "mp3")
# fmt: on


class FFmpegStream(AudioStream):
    """Open sound file, read with FFmpeg: its first audio track."""

    def __init__(self, path: Path, formats: Iterable[str] = (*CONTAINERS, *BARE)) -> None:
        """Open a file in one of `formats`. Raises AudioError with the reason only."""
        self._failure, self._damaged, self._position = "", 0, 0
        with ExitStack() as opened:
            container = opened.enter_context(_opened(path, formats))
            track, self._tracks = _track_of(container), len(container.streams.audio)
            frames = self._frames(container, track)
            first = next(frames, None)  # in some containers only a frame has the rate and channels
            if first is None:
                raise AudioError(
                    f"cannot be decoded: {self._failure or 'its track of sound is empty'}"
                )
            self.sample_rate, self.channels, self.coding = (
                first.sample_rate,
                first.layout.nb_channels,
                "",
            )
            self.bits = {1: 16, 2: 16, 4: 32}.get(first.format.bytes, 64)
            self.frames, self.announced = None, _announced(container, track, self.sample_rate)
            # If the header counts samples, padding in the codec's last packet is cut off. FLAC has no padding.
            counts_samples = (
                track.time_base == Fraction(1, self.sample_rate) and container.format.name != "flac"
            )
            self._blocks = self._samples(
                chain([first], frames), (counts_samples and self.announced) or 0
            )
            self._rest = np.empty((0, self.channels), np.float32)
            self._opened = opened.pop_all()

    def read_block(self, most: int) -> tuple[F32, str]:
        """Read up to `most` frames `[n, C]`, none at the end, and the reason for a failure or ""."""
        AudioStream.watch(True)
        while len(self._rest) < most and (block := next(self._blocks, None)) is not None:
            self._rest = np.concatenate([self._rest, block])
        block, self._rest = self._rest[:most], self._rest[most:]
        self._position += len(block)
        return block, "" if len(block) == most else self._failure

    def skip_to(self, frame: int) -> bool:
        """Skip ahead to `frame` by decoding up to it. False if the file ends before."""
        at_once = 1 << 16
        while self._position < frame:
            if not len(self.read_block(min(at_once, frame - self._position))[0]):
                return False
        return True

    def remarks(self) -> list[str]:
        """Remarks on the frames read so far, as parts of a sentence."""
        packets = "packet was" if self._damaged == 1 else "packets were"
        remarks = {
            f"{self._damaged} damaged {packets} left out": self._damaged > 0,
            f"holds {self._tracks} tracks of sound, of which the first was decoded": self._tracks
            > 1,
        }
        return [remark for remark, is_true in remarks.items() if is_true]

    def _frames(self, container: "InputContainer", track: "Track") -> "Iterator[AudioFrame]":
        """Decoded frames up to the end or an error of the container; skips damaged packets."""
        import av

        try:
            for packet in container.demux(track):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    _reason(error)
                    self._damaged += 1
                else:
                    yield from frames
        except (av.FFmpegError, OSError) as error:
            self._failure = _reason(error)

    def _samples(self, frames: "Iterable[AudioFrame]", end: int) -> Iterator[F32]:
        """Samples of frames until rate or channels change. Cuts the last frame's padding at `end`, 0 if unknown."""
        held, done = np.empty((0, self.channels), np.float32), 0
        for frame in frames:
            if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
                self._failure = (
                    f"it goes on with {frame.layout.nb_channels} channels at {frame.sample_rate} Hz"
                )
                break
            yield held
            done, held = done + len(held), _scaled(frame)
        yield held[: end - done] if done < end < done + len(held) else held


def _opened(path: Path, formats: Iterable[str]) -> "InputContainer":
    import av

    options = {"format_whitelist": ",".join(formats)}
    # Before PyAV 19 a tag that is not text raises an error without this argument; PyAV 19 has removed it.
    tags: dict[str, Any] = (
        {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    )
    try:
        container: InputContainer = av.open(f"file:{path}", "r", container_options=options, **tags)
    except (av.FFmpegError, OSError) as error:
        file = f"suffix {path.suffix or 'missing'}, {path.stat().st_size} bytes"
        raise AudioError(
            f"is not audio in a known format, or only a part of it ({file})"
        ) from error
    return container


def _track_of(container: "InputContainer") -> "Track":
    """First audio track. Raises AudioError if none can be decoded."""
    if not container.streams.audio:
        raise AudioError(
            "holds pictures and no sound" if container.streams.video else "holds no sound"
        )
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise AudioError("holds sound in a coding that no decoder is known for")
    with suppress(UnicodeDecodeError):  # a tag that is not text
        if track.codec_context.codec_tag in ("aavd", "drms", "enca"):
            raise AudioError("is encrypted (DRM): only the programs of its shop play it")
    track.codec_context.thread_count = 1
    return track


def _announced(container: "InputContainer", track: "Track", sample_rate: int) -> int | None:
    """Number of frames by the header, or None. A container's length counts only if it has no video."""
    if not {*container.format.name.split(",")}.isdisjoint(BARE):
        return None
    if track.duration and track.time_base:
        return round(float(track.duration * track.time_base) * sample_rate)
    if container.duration and not container.streams.video:
        return round(container.duration / 1e6 * sample_rate)
    return None


def seconds_held(path: Path) -> float:
    """Length of a FLAC or MP3 file in seconds by its frames, not its header; 0 if it has no frames."""
    import av

    lengths = {"flac": _flac_length, "mp3": _mp3_length}
    with suppress(AudioError, av.FFmpegError), _opened(path, lengths) as container:
        track = _track_of(container)
        return float(lengths[container.format.name](container, track) * (track.time_base or 0))
    return 0.0


def _flac_length(container: "InputContainer", track: "Track") -> int:
    """Length in units of the track's time base. FLAC frames have timestamps, so reading the last frames is enough."""
    if container.size > 1 << 20:  # FFmpeg cannot seek in a file of a few frames
        container.seek(1 << 62, stream=track)
    return max((packet.pts or 0) + (packet.duration or 0) for packet in container.demux(track))


def _mp3_length(container: "InputContainer", track: "Track") -> int:
    """Length in units of the track's time base: the sum over frames. Packets without a frame sync come from tags."""
    packets = (packet for packet in container.demux(track) if bytes(packet)[:2] >= b"\xff\xe0")
    return sum(packet.duration or 0 for packet in packets)


def _scaled(frame: "AudioFrame") -> F32:
    """Samples `[n, C]` of a frame, full scale at 1; exact for 16 and 24 bits.

    From eight channels on, PyAV's `planes` lists more planes than exist: PyAV 19 raises an error, earlier versions
    crash. So planes are read one by one.
    """
    from av.audio.frame import format_dtypes
    from av.audio.plane import AudioPlane

    # PyAV lists no 64-bit integer formats.
    channels, dtype = frame.layout.nb_channels, np.dtype(format_dtypes.get(frame.format.name, "i8"))
    if frame.format.is_planar:
        planes: list[Any] = [AudioPlane(frame, number) for number in range(channels)]
        columns = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1)
    else:
        packed: Any = AudioPlane(frame, 0)
        columns = np.frombuffer(packed, dtype, frame.samples * channels).reshape(-1, channels)
    samples = columns.astype(np.float32)
    if dtype.kind == "f":
        return samples
    samples /= np.float32(1 << (8 * dtype.itemsize - 1))
    return samples - np.float32(1.0) if dtype.kind == "u" else samples


def _reason(error: Exception) -> str:
    """FFmpeg's error message. Re-raises MemoryError, which is not the file's fault."""
    if isinstance(error, MemoryError):
        raise error
    return str(getattr(error, "strerror", None) or error)
