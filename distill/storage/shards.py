"""Sharded arrays on disk: many recordings in a few safetensors files, read by slices through memory maps."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from distill.errors import ArtifactError
from distill.storage.files import atomic_path, canonical_json, link_or_copy

SHARD_BYTES = 64 << 20
HEADER_BYTES = 192  # reserved before the rows are known, a multiple of 8
MAPPED_BYTES = 8 << 20  # read before maps are reopened: resident pages would add up to the whole shard

_KINDS = {
    "<i2": "I16",
    "<u2": "U16",
    "<i4": "I32",
    "<u4": "U32",
    "<i8": "I64",
    "<f4": "F32",
}  # of NumPy: of safetensors


class ShardWriter:
    """Writer of arrays `[n, ...]`, equal in type and trailing shape, as `<prefix>-00000.safetensors`, ….

    Holds no rows in memory. `close()` completes the last shard; as a context manager, an error leaves it out.
    """

    def __init__(self, folder: Path, prefix: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._prefix, self._shard_bytes = folder, prefix, shard_bytes
        self._open = ExitStack()
        self._file: BinaryIO | None = None
        self._kind: tuple[str, tuple[int, ...]] = ("", ())
        self._bytes = self._rows = 0
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._open.__exit__(kind, error, trace)

    def append(self, rows: NDArray[Any]) -> tuple[str, int]:
        """Add `rows` `[n, ...]` and return (shard file name, offset of the first row in it)."""
        if self._file is not None and self._bytes + rows.nbytes > self._shard_bytes:
            self.close()
        if self._file is None:
            self._file = self._begin(rows)
        position = (self._names[-1], self._rows)
        self._file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self._bytes += rows.nbytes
        self._rows += len(rows)
        return position

    def add_shard(self, shard: Path) -> str:
        """Add a whole shard of another folder, which is linked where the disk can; return its name here."""
        self.close()
        self._names.append(self._name())
        link_or_copy(shard, self._folder / self._names[-1])
        return self._names[-1]

    def close(self) -> None:
        """Complete the shard in progress, if any."""
        if self._file is None:
            return
        kind, trailing = self._kind
        entry = {"dtype": kind, "shape": [self._rows, *trailing], "data_offsets": [0, self._bytes]}
        self._file.seek(0)
        self._file.write(_header({self._prefix: entry}))
        self._file = None
        self._open.close()

    def _begin(self, rows: NDArray[Any]) -> BinaryIO:
        self._names.append(self._name())
        temporary = self._open.enter_context(atomic_path(self._folder / self._names[-1]))
        file = self._open.enter_context(temporary.open("wb"))
        file.write(bytes(HEADER_BYTES))
        self._kind, self._bytes, self._rows = (_KINDS[rows.dtype.str], rows.shape[1:]), 0, 0
        return file

    def _name(self) -> str:
        return f"{self._prefix}-{len(self._names):05d}.safetensors"


def _header(entries: dict[str, Any]) -> bytes:
    """A safetensors header of HEADER_BYTES: its length as 8 bytes, then JSON that spaces fill up."""
    text = canonical_json(entries).encode()
    assert len(text) <= HEADER_BYTES - 8
    return (HEADER_BYTES - 8).to_bytes(8, "little") + text.ljust(HEADER_BYTES - 8)


class ShardReader:
    """Reader of row ranges of the shards that a `ShardWriter` with the same prefix wrote into `folder`."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._slices: dict[str, Any] = {}
        self._read_bytes = 0

    def read(self, shard: str, offset: int, length: int) -> NDArray[Any]:
        """Rows `[offset, offset + length)` of `shard`, copied from the memory map. Raises ArtifactError."""
        path = self._folder / shard
        if self._read_bytes > MAPPED_BYTES:
            self._slices.clear()
            self._read_bytes = 0
        try:
            if shard not in self._slices:
                self._slices[shard] = safe_open(path, framework="numpy").get_slice(self._prefix)
            rows: NDArray[Any] = self._slices[shard][offset : offset + length]
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"{path}: expected rows {offset} to {offset + length} of {self._prefix}, found {error}; "
                "run `dvc repro` again"
            ) from error
        self._read_bytes += rows.nbytes
        return rows
