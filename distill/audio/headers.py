"""Headers of uncompressed sound files (RIFF, RIFX, RF64, W64, AIFF, CAF, AU): where the samples are, and how many.

Recorders write the sizes in a header last: one that loses power leaves the sizes of its last save, or none. FFmpeg does
not tell what a header states: it takes the length of WAV and W64 from the size of the file, and finds no samples in AIFF,
RF64 and W64 without sizes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

TAGS_BYTES = 4 << 20  # of chunks behind the samples of a file without sizes, at most


@dataclass(frozen=True)
class Header:
    """The samples of a file in bytes: where they begin, how many the header states, and how many there are at most."""

    start: int
    stated: int
    held: int
    is_short: bool = False  # samples go on behind the end that the header states
    has_tags: bool = False  # chunks follow the samples, though the header states no end

    @property
    def is_of_a_pipe(self) -> bool:
        """Whether a program that wrote to a pipe left the stated size, within 4 KB of 2 or 4 GB; there is less."""
        return self.stated > self.held and any(end - 0x1000 <= self.stated <= end for end in (0x80000000, 0xFFFFFFFF))


@dataclass(frozen=True)
class _Chunks:
    """Container of chunks: how one begins, where the first is, and which holds the samples, after `before` bytes."""

    head: struct.Struct  # name and size
    first: int
    samples: bytes
    before: int = 0
    padding: int = 2
    head_in_size: int = 0  # bytes of a chunk's head that its size counts

    def read(self, file: BinaryIO, size: int) -> Header | None:
        """The header of a file of `size` bytes, None where no chunk holds samples."""
        in_ds64 = unstated = 0xFFFFFFFF  # for a size that the chunk ds64 has
        for name, body, length in self._chunks(file, size, self.first):
            if name == b"ds64":
                in_ds64 = int.from_bytes(file.read(16)[8:], "little")
            if name == self.samples and length >= 0:
                start = body + self.before
                stated = in_ds64 if length == unstated else max(0, length - self.before)
                header = Header(start, stated, max(0, size - start))
                if header.is_of_a_pipe:
                    stop = self._start_of_tags(file, size, start)
                    return replace(header, held=max(0, stop - start), has_tags=stop < size)
                return replace(header, is_short=self._has_samples(file, size, start + stated))
        return None

    def _start_of_tags(self, file: BinaryIO, size: int, start: int) -> int:
        """Where the first chunk begins from which chunks go exactly to the end of the file, else that end."""
        first = max(start, size - TAGS_BYTES)
        file.seek(first)
        for name in re.finditer(rb"(?=[ -~]{4})", file.read()):
            position = first + name.start()
            is_aligned = (position - start) % self.padding == 0
            if is_aligned and self._goes_to_the_end(file, size, position):
                return position
        return size

    def _goes_to_the_end(self, file: BinaryIO, size: int, position: int) -> bool:
        """Whether there are chunks from a position to the end of the file, the last of them with or without padding."""
        ends = [0]
        for name, body, length in self._chunks(file, size, position):
            if not _is_name(name):
                return False
            ends = [body + length, body + length + -length % self.padding]
        return size in ends

    def _chunks(self, file: BinaryIO, size: int, position: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, position and length of what is in each chunk from a position on; `file` is there."""
        while position + self.head.size <= size:
            file.seek(position)
            name, length = self.head.unpack(file.read(self.head.size))
            body, length = position + self.head.size, length - self.head_in_size
            yield name, body, length
            if length < 0:  # in CAF, up to the end of the file
                return
            position = body + length + -length % self.padding

    def _has_samples(self, file: BinaryIO, size: int, end: int) -> bool:
        """Whether samples follow the stated end: neither a chunk, nor a tag of any format, nor zeros."""
        for position in (end, end + end % self.padding):
            name, _, length = next(self._chunks(file, size, position), (b"\0", 0, 0))
            is_chunk = _is_name(name) and length <= size - position
            if is_chunk or name.startswith((b"ID3", b"TAG", b"APET", b"LYRI")):
                return False
        file.seek(min(end, size))
        return any(block.strip(b"\0") for block in iter(partial(file.read, 1 << 20), b""))


def _is_name(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name)


def _read_au(order: str, file: BinaryIO, size: int) -> Header | None:
    """The header of an AU file, behind whose end libsndfile reads on by itself."""
    fields = struct.Struct(f"{order}II")
    numbers = file.read(fields.size)
    if len(numbers) < fields.size:
        return None
    start, stated = fields.unpack(numbers)
    return Header(start, stated, max(0, size - start))


_RIFF, _RIFX = struct.Struct("<4sI"), struct.Struct(">4sI")
_READERS: dict[bytes, Callable[[BinaryIO, int], Header | None]] = {  # by the first bytes of a file
    b"RIFF": _Chunks(_RIFF, 12, b"data").read,
    b"RIFX": _Chunks(_RIFX, 12, b"data").read,
    b"RF64": _Chunks(_RIFF, 12, b"data").read,
    b"FORM": _Chunks(_RIFX, 12, b"SSND", before=8).read,
    b"caff": _Chunks(struct.Struct(">4sq"), 8, b"data", before=4, padding=1).read,
    b"riff": _Chunks(
        struct.Struct("<16sQ"), 40, bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), padding=8, head_in_size=24
    ).read,
    b".snd": partial(_read_au, ">"),
    b"dns.": partial(_read_au, "<"),
}


def read_header(path: Path) -> Header | None:
    """What the header of an uncompressed file states of its samples, None where it is of another format."""
    with path.open("rb") as file:
        reader = _READERS.get(file.read(4))
        return reader and reader(file, path.stat().st_size)
