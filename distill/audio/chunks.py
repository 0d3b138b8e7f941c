"""Chunk files (RIFF, RIFX, RF64, AIFF, CAF): where their samples are, and samples behind the end that the header states.

Recorders write the sizes in a header last: one that loses power leaves the sizes of its last save, or none.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

# By the first bytes of a file: how its chunks begin, where the first one does, which one holds the samples, after how
# many bytes of its own, and to how many bytes chunks are padded.
_LAYOUTS = {
    b"RIFF": ("<4sI", 12, b"data", 0, 2),
    b"RIFX": (">4sI", 12, b"data", 0, 2),
    b"RF64": ("<4sI", 12, b"data", 0, 2),
    b"FORM": (">4sI", 12, b"SSND", 8, 2),
    b"caff": (">4sq", 8, b"data", 4, 1),
}
_IN_DS64 = 0xFFFFFFFF  # a size that the chunk ds64 has
_TAGS = (b"ID3", b"TAG", b"APET", b"LYRI")  # begin what programs append to any file


@dataclass(frozen=True)
class SampleBytes:
    """The samples in a file, in bytes: where they begin, how many the header states, and how many there are."""

    start: int
    stated: int
    held: int


def samples_behind_end(path: Path) -> SampleBytes | None:
    """The samples of a file that go on behind the end in its header; None where they do not."""
    with path.open("rb") as file:
        if (layout := _LAYOUTS.get(file.read(4))) is None:
            return None
        begin, position, wanted, before, padding = layout
        size, in_ds64 = path.stat().st_size, _IN_DS64
        while (chunk := _chunk(file, begin, position)) is not None and chunk[0] != wanted and chunk[1] >= 0:
            if chunk[0] == b"ds64":
                in_ds64 = int.from_bytes(file.read(16)[8:], "little")
            position += struct.calcsize(begin) + chunk[1] + chunk[1] % padding
        if chunk is None or chunk[1] < 0:  # CAF: up to the end of the file
            return None
        start = position + struct.calcsize(begin) + before
        stated = in_ds64 if chunk[1] == _IN_DS64 else max(0, chunk[1] - before)
        end = start + stated
        if end >= size or _are_others(file, begin, end, size, padding):
            return None
        return SampleBytes(start, stated, size - start)


def _chunk(file: io.BufferedReader, begin: str, position: int) -> tuple[bytes, int] | None:
    """Name and size of the chunk at a position, None at the end of the file."""
    file.seek(position)
    head = file.read(struct.calcsize(begin))
    return struct.unpack(begin, head) if len(head) == struct.calcsize(begin) else None


def _are_others(file: io.BufferedReader, begin: str, end: int, size: int, padding: int) -> bool:
    """Whether what follows the samples is none: further chunks, a tag, zeros."""
    for position in {end, end + end % padding}:
        chunk = _chunk(file, begin, position)
        if chunk is None:
            continue
        name, length = chunk
        is_chunk = all(0x20 <= byte < 0x7F for byte in name) and length <= size - position
        if is_chunk or name.startswith(_TAGS):
            return True
    file.seek(end)
    return not any(block.strip(b"\0") for block in iter(lambda: file.read(1 << 20), b""))
