"""Codes of a corpus on disk: uint16 shards, an index of who is where, and the geometry they were made with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.errors import ArtifactError
from distill.params import Settings
from distill.storage.files import read_json, write_bytes, write_json
from distill.storage.shards import ShardReader, ShardWriter
from distill.storage.tables import read_rows, schema_of, write_rows

CODEWORDS, RECORDINGS, INDEX = "codewords.safetensors", "recordings.parquet", "index.parquet"

Codes = NDArray[np.int64]
Vectors = NDArray[np.float32]  # [Q, V, C]


class CodesConfig(Settings):
    """What the codes mean: their ranges, their rate and the codec that made them."""

    codebook_size: int
    num_quantizers: int
    frame_rate: float
    codec_sha256: str
    shared_coordinates: bool = False  # whether codewords are in coordinates that all codecs share


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Where one coded view of a recording lies. View 0 is the recording as it is."""

    recording_id: str
    view: int
    shard: str
    offset: int
    frames: int
    group: str


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """What people call a recording; `label` is "" where it has none."""

    recording_id: str
    path: str
    label: str


INDEX_SCHEMA = schema_of(IndexRow, view=pa.int32())
RECORDINGS_SCHEMA = schema_of(RecordingRow)


class CodesWriter:
    """Writes codes `[F, Q]` recording by recording; `close()` writes the index, last.

    As a context manager, an error leaves the index out.
    """

    def __init__(
        self, folder: Path, config: CodesConfig, codewords: Vectors, recordings: Sequence[RecordingRow] = ()
    ) -> None:
        self._folder, self._config, self._codewords, self._recordings = folder, config, codewords, recordings
        self._shards = ShardWriter(folder, "codes")
        self._rows: list[IndexRow] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.close()
        else:
            self._shards.__exit__(*error)

    def append(self, recording_id: str, view: int, group: str, codes: NDArray[np.integer]) -> None:
        """Add one coded view `[F, Q]`."""
        shard, offset = self._shards.append(codes.astype(np.uint16, copy=False))
        self._rows.append(IndexRow(recording_id, view, shard, offset, len(codes), group))

    def close(self) -> None:
        """Write what is left, then the codewords and the geometry, then the index."""
        self._shards.close()
        write_bytes(self._folder / CODEWORDS, save({"codewords": np.ascontiguousarray(self._codewords)}))
        write_json(self._folder / "config.json", self._config.model_dump())
        write_rows(self._folder / RECORDINGS, self._recordings, RECORDINGS_SCHEMA)
        write_rows(self._folder / INDEX, self._rows, INDEX_SCHEMA)


class CodesReader:
    """Reads what a `CodesWriter` wrote."""

    def __init__(self, folder: Path) -> None:
        self.config = CodesConfig.model_validate(read_json(folder / "config.json", "the geometry of codes"))
        self.rows = read_index(folder)
        self._shards = ShardReader(folder, "codes")
        self._folder = folder

    def codewords(self) -> Vectors:
        """The vectors `[Q, V, C]` that the codes stand for. Raises ArtifactError."""
        path = self._folder / CODEWORDS
        try:
            books: Vectors = load_file(path)["codewords"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ArtifactError(
                f"{path}: expected the codec's codewords, found none that can be read ({error}); run `dvc repro` again"
            ) from error
        size, levels = self.config.codebook_size, self.config.num_quantizers
        if books.ndim != 3 or books.shape[:2] != (levels, size):
            raise ArtifactError(
                f"{path}: expected {size} codewords for each of {levels} levels, as config.json says, "
                f"found {list(books.shape)}; run `dvc repro` again"
            )
        return books

    def recordings(self) -> dict[str, RecordingRow]:
        """What each recording is called, by its id. Raises ArtifactError."""
        rows = read_rows(self._folder / RECORDINGS, RecordingRow, "the names of recordings", RECORDINGS_SCHEMA)
        return {row.recording_id: row for row in rows}

    def codes(self, row: IndexRow) -> Codes:
        """Codes `[F, Q]` of one row."""
        return self._shards.read(row.shard, row.offset, row.frames).astype(np.int64)

    def stored(self, rows: Sequence[int]) -> "StoredCodes":
        """Codes of the rows of these numbers, read when they are asked for. Raises ArtifactError then."""
        names = sorted({row.shard for row in self.rows})
        number = {name: index for index, name in enumerate(names)}
        columns = [(number[row.shard], row.offset, row.frames) for row in map(self.rows.__getitem__, rows)]
        return StoredCodes(self._shards, names, np.array(columns, dtype=np.int64).reshape(-1, 3))


class StoredCodes(Sequence[Codes]):
    """Codes `[F, Q]` of many recordings or views, each read from the memory map when it is asked for.

    In memory there are 24 bytes for each. Slices read nothing.
    """

    def __init__(self, shards: ShardReader, names: Sequence[str], places: NDArray[np.int64]) -> None:
        """`places` `[n, 3]` are the number of the shard in `names`, the offset in it, and the frames."""
        self._shards, self._names, self._places = shards, names, places

    @property
    def frames(self) -> NDArray[np.int64]:
        """Number of frames of each, `[n]`; nothing is read."""
        return self._places[:, 2]

    def read(self, index: int, start: int, stop: int) -> NDArray[np.uint16]:
        """Frames `start` to `stop` of one, `[stop - start, Q]`; only these are read. Raises ArtifactError."""
        shard, offset, _ = self._places[index].tolist()
        rows: NDArray[np.uint16] = self._shards.read(self._names[shard], offset + start, stop - start)
        return rows

    def chosen(self, indices: NDArray[np.int64]) -> "StoredCodes":
        """Those of these indices, in this order."""
        return StoredCodes(self._shards, self._names, self._places[indices])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Codes: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredCodes": ...
    def __getitem__(self, index: int | slice) -> "Codes | StoredCodes":
        if isinstance(index, slice):
            return StoredCodes(self._shards, self._names, self._places[index])
        return self.read(index, 0, int(self._places[index, 2])).astype(np.int64)


class StoredViews(Sequence[Sequence[Codes]]):
    """The views of recordings, one after another in `views`; recording `i` begins with view `starts[i]`."""

    def __init__(self, views: StoredCodes, counts: Sequence[int]) -> None:
        """`counts` are the numbers of views of the recordings."""
        self.views, self.starts = views, np.cumsum([0, *counts])

    @property
    def first(self) -> StoredCodes:
        """The first view of each recording."""
        return self.views.chosen(self.starts[:-1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> StoredCodes: ...
    @overload
    def __getitem__(self, index: slice) -> list[StoredCodes]: ...
    def __getitem__(self, index: int | slice) -> StoredCodes | list[StoredCodes]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        return self.views[int(self.starts[number]) : int(self.starts[number + 1])]


def first_views(recordings: Sequence[Sequence[Codes]]) -> Sequence[Codes]:
    """The first view of each recording, read when it is asked for where they are stored."""
    return recordings.first if isinstance(recordings, StoredViews) else [views[0] for views in recordings]


def frame_counts(recordings: Sequence[Codes]) -> NDArray[np.int64]:
    """Number of frames of each recording, `[n]`; stored ones are not read."""
    if isinstance(recordings, StoredCodes):
        return recordings.frames
    return np.array([len(codes) for codes in recordings], dtype=np.int64)


def read_index(folder: Path) -> list[IndexRow]:
    """The index alone."""
    return read_rows(folder / INDEX, IndexRow, "the index of codes", INDEX_SCHEMA)
