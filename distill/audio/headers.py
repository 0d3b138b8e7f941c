"""Headers of uncompressed sound files (RIFF, RIFX, RF64, BW64, W64, AIFF, CAF, AU): position and size of the samples.

Recorders write the sizes in a header last: after a loss of power the header has the sizes of the last save, or none.
FFmpeg does not report the stated size. It takes the length of WAV and W64 from the file size, and reads no samples from
AIFF, RF64 and W64 files without sizes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Literal


@dataclass(frozen=True)
class Header:
    """Position of the samples in a file, and their `stated` size in bytes.

    For codings in blocks of `block_bytes`, `frames` is the stated length without the padding of the last block. Both
    are 0 if the header does not state them.
    """

    parts: tuple[tuple[int, int], ...]  # byte ranges (start, stop) in the file
    stated: int
    is_short: bool = False  # samples continue past the stated end
    has_tags: bool = False  # chunks follow the samples, and the header states no end
    frames: int = 0
    block_bytes: int = 0
    is_bw64: bool = False

    @property
    def held(self) -> int:
        """Size of all parts in bytes."""
        return sum(stop - start for start, stop in self.parts)

    @property
    def is_of_a_pipe(self) -> bool:
        """Whether the stated size is a pipe's placeholder: more than the file holds, and within 4 KB of a maximum."""
        sizes_of_a_pipe = (1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)
        return self.stated > self.held and any(
            size - 0x1000 <= self.stated <= size for size in sizes_of_a_pipe
        )


@dataclass(frozen=True)
class _Chunks:
    """Chunk layout of a container. The chunk named `samples` holds the samples, after `before` bytes."""

    head: struct.Struct  # name and size
    first: int  # position of the first chunk
    samples: bytes
    before: int = 0
    padding: int = 2  # chunks are padded to a multiple of this
    head_in_size: int = 0  # bytes of a chunk's head included in its size

    def read(self, file: BinaryIO, size: int) -> Header | None:
        """Read the header of a file of `size` bytes; None if no chunk holds samples."""
        in_ds64 = unstated = 0xFFFFFFFF  # placeholder: the size is in the ds64 chunk
        order: Literal["little", "big"] = "big" if self.head.format.startswith(">") else "little"
        frames = block_bytes = 0
        for name, body, length in self._chunks(file, size, self.first):
            match name[:4]:
                case b"ds64":
                    in_ds64 = int.from_bytes(file.read(16)[8:], "little")
                case b"fmt ":
                    block_bytes = int.from_bytes(file.read(14)[12:], order)
                case b"fact":
                    frames = int.from_bytes(file.read(4), order)
            if name == self.samples and length >= 0:
                start = body + self.before
                stated = in_ds64 if length == unstated else max(0, length - self.before)
                header = Header(
                    ((start, max(start, size)),), stated, frames=frames, block_bytes=block_bytes
                )
                is_short = self._has_samples(file, size, start + stated)
                if is_short or header.is_of_a_pipe:
                    stop = self._start_of_tags(file, size, start)
                    has_tags = stop < size and not is_short
                    return replace(
                        header, parts=((start, stop),), is_short=is_short, has_tags=has_tags
                    )
                parts = [(start, start + stated), *self._others(file, size, start + stated)]
                there = tuple((first, max(first, min(stop, size))) for first, stop in parts)
                return replace(
                    header, parts=there, stated=sum(stop - first for first, stop in parts)
                )
        return None

    def _others(self, file: BinaryIO, size: int, end: int) -> list[tuple[int, int]]:
        """Byte ranges of further sample chunks after `end`, with or without padding between."""
        for position in (end + -end % self.padding, end):
            chunks = takewhile(lambda chunk: _is_name(chunk[0]), self._chunks(file, size, position))
            lengths = {
                body + self.before: length - self.before
                for name, body, length in chunks
                if name == self.samples
            }
            if lengths:
                return [
                    (start, size if length < 0 else start + length)
                    for start, length in lengths.items()
                ]
        return []

    def _start_of_tags(self, file: BinaryIO, size: int, start: int) -> int:
        """Position of the first chunk of a run that ends exactly at the end of the file, or `size`."""
        tags_bytes = 4 << 20  # how far from the end of a file without sizes its tags are searched
        first = max(start, size - tags_bytes)
        file.seek(first)
        for name in re.finditer(rb"(?=[ -~]{4})", file.read()):
            position = first + name.start()
            is_aligned = (position - start) % self.padding == 0
            if is_aligned and self._goes_to_the_end(file, size, position):
                return position
        return size

    def _goes_to_the_end(self, file: BinaryIO, size: int, position: int) -> bool:
        """Whether chunks fill the file from `position` to its end; the last may lack padding."""
        ends = [0]
        for name, body, length in self._chunks(file, size, position):
            if not _is_name(name):
                return False
            ends = [body + length, body + length + -length % self.padding]
        return size in ends

    def _chunks(self, file: BinaryIO, size: int, position: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, body position and body length of each chunk from `position` on; `file` is at the body."""
        while position + self.head.size <= size:
            file.seek(position)
            name, length = self.head.unpack(file.read(self.head.size))
            body, length = position + self.head.size, length - self.head_in_size
            yield name, body, length
            if length < 0:  # CAF: up to the end of the file
                return
            position = body + length + -length % self.padding

    def _has_samples(self, file: BinaryIO, size: int, end: int) -> bool:
        """Whether samples follow the stated end, rather than a chunk, a tag or zeros."""
        for position in (end, end + -end % self.padding):
            name, _, length = next(self._chunks(file, size, position), (b"\0", 0, 0))
            is_chunk = name == self.samples or (_is_name(name) and length <= size - position)
            if is_chunk or name.startswith((b"ID3", b"TAG", b"APET", b"LYRI")):
                return False
        return _has_more(file, size, end)


def _is_name(name: bytes) -> bool:
    """Whether bytes can be a chunk name: printable ASCII, also at the start of W64's 16-byte names."""
    return all(0x20 <= byte < 0x7F for byte in name[:4])


def _read_au(order: str, file: BinaryIO, size: int) -> Header | None:
    """Read the header of an AU file."""
    fields = struct.Struct(f"{order}II")
    numbers = file.read(fields.size)
    if len(numbers) < fields.size:
        return None
    start, stated = fields.unpack(numbers)
    return Header(
        ((start, max(start, size)),), stated, is_short=_has_more(file, size, start + stated)
    )


def _has_more(file: BinaryIO, size: int, end: int) -> bool:
    """Whether any byte after `end` is not zero."""
    file.seek(min(end, size))
    return any(block.strip(b"\0") for block in iter(partial(file.read, 1 << 20), b""))


_RIFF, _RIFX = struct.Struct("<4sI"), struct.Struct(">4sI")
_READERS: dict[
    bytes, Callable[[BinaryIO, int], Header | None]
] = {  # by the first four bytes of a file
    b"RIFF": _Chunks(_RIFF, 12, b"data").read,
    b"RIFX": _Chunks(_RIFX, 12, b"data").read,
    b"RF64": _Chunks(_RIFF, 12, b"data").read,
    b"BW64": _Chunks(_RIFF, 12, b"data").read,
    b"FORM": _Chunks(_RIFX, 12, b"SSND", before=8).read,
    b"caff": _Chunks(struct.Struct(">4sq"), 8, b"data", before=4, padding=1).read,
    b"riff": _Chunks(
        struct.Struct("<16sQ"),
        40,
        bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"),
        padding=8,
        head_in_size=24,
    ).read,
    b".snd": partial(_read_au, ">"),
    b"dns.": partial(_read_au, "<"),
}


def read_header(path: Path) -> Header | None:
    """Read the header of an uncompressed file; None for any other format."""
    with path.open("rb") as file:
        reader = _READERS.get(name := file.read(4))
        header = reader and reader(file, path.stat().st_size)
        return header and replace(header, is_bw64=name == b"BW64")
