"""Sharded arrays on disk: many recordings in a few safetensors files, read by slices through memory maps."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill.storage.files import damaged, link_or_copy, write_bytes

MAPPED_BYTES = (
    8 << 20
)  # read before maps are reopened: resident pages would add up to the whole shard


class ShardWriter(AbstractContextManager["ShardWriter"]):
    """Writer of arrays `[n, ...]`, equal in type and trailing shape, as `<prefix>-00000.safetensors`, ….

    Holds the rows of one shard. `close()` writes the last one; as a context manager, an error leaves it out.
    """

    def __init__(self, folder: Path, prefix: str, shard_bytes: int = 64 << 20) -> None:
        self._folder, self._prefix, self._shard_bytes = folder, prefix, shard_bytes
        self._rows: list[NDArray[Any]] = []
        self._length, self._bytes = (
            0,
            0,
        )  # of the rows: to sum up 100,000 arrays at each of them takes minutes
        self._shards = 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def append(self, rows: NDArray[Any]) -> tuple[str, int]:
        """Add `rows` `[n, ...]`, not to be changed until `close`; return (shard file name, offset of the first row)."""
        if self._bytes + rows.nbytes > self._shard_bytes:
            self.close()
        position = (self._name, self._length)
        self._rows.append(rows)
        self._length, self._bytes = self._length + len(rows), self._bytes + rows.nbytes
        return position

    def add_shard(self, shard: Path) -> str:
        """Add a whole shard of another folder, which is linked where the disk can; return its name here."""
        self.close()
        name = self._name
        link_or_copy(shard, self._folder / name)
        self._shards += 1
        return name

    def close(self) -> None:
        """Write the shard in progress, if any."""
        if self._rows:
            write_bytes(self._folder / self._name, save({self._prefix: np.concatenate(self._rows)}))
            self._rows = []
            self._length, self._bytes = 0, 0
            self._shards += 1

    @property
    def _name(self) -> str:
        return f"{self._prefix}-{self._shards:05d}.safetensors"


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
            raise damaged(
                path, f"rows {offset} to {offset + length} of {self._prefix}", error
            ) from error
        self._read_bytes += rows.nbytes
        return rows
