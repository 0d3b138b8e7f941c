"""Codes of a corpus on disk: uint16 shards, an index of who is where, the geometry they were made with, and the split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.errors import ArtifactError
from distill.params import Params, Settings
from distill.split import Side, split_groups
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
    """Writes codes `[F, Q]` view by view. Use as a context manager: its end writes the index, an error leaves it out."""

    def __init__(
        self, folder: Path, config: CodesConfig, codewords: Vectors, recordings: Sequence[RecordingRow] = ()
    ) -> None:
        self._folder, self._config, self._codewords, self._recordings = folder, config, codewords, recordings
        self._shards = ShardWriter(folder, "codes")
        self._rows: list[IndexRow] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._shards.__exit__(*error)
        if error[0] is None:
            write_bytes(self._folder / CODEWORDS, save({"codewords": np.ascontiguousarray(self._codewords)}))
            write_json(self._folder / "config.json", self._config.model_dump())
            write_rows(self._folder / RECORDINGS, self._recordings, RECORDINGS_SCHEMA)
            write_rows(self._folder / INDEX, self._rows, INDEX_SCHEMA)

    def append(self, recording_id: str, view: int, group: str, codes: NDArray[np.integer]) -> None:
        """Add one coded view `[F, Q]`."""
        shard, offset = self._shards.append(codes.astype(np.uint16, copy=False))
        self._rows.append(IndexRow(recording_id, view, shard, offset, len(codes), group))


class CodesReader:
    """Reads what a `CodesWriter` wrote. Raises ArtifactError."""

    def __init__(self, folder: Path) -> None:
        self.config = CodesConfig.model_validate(read_json(folder / "config.json", "the geometry of codes"))
        self.rows = read_index(folder)
        self._shards = ShardReader(folder, "codes")
        self._folder = folder

    def codewords(self) -> Vectors:
        """The vectors `[Q, V, C]` that the codes stand for."""
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
        """What each recording is called, by its id."""
        rows = read_rows(self._folder / RECORDINGS, RecordingRow, "the names of recordings", RECORDINGS_SCHEMA)
        return {row.recording_id: row for row in rows}

    def at_rest(self, row: IndexRow) -> NDArray[Any]:
        """Codes `[F, Q]` uint16 of one row, a quarter as large as `codes`."""
        return self._shards.read(row.shard, row.offset, row.frames)

    def codes(self, row: IndexRow) -> Codes:
        """Codes `[F, Q]` of one row."""
        return self.at_rest(row).astype(np.int64)


def read_index(folder: Path) -> list[IndexRow]:
    """The index alone."""
    return read_rows(folder / INDEX, IndexRow, "the index of codes", INDEX_SCHEMA)


def frame_counts(recordings: Sequence[Codes]) -> NDArray[np.int64]:
    """Number of frames of each recording, `[n]`."""
    return np.array([len(codes) for codes in recordings], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The side of one recording."""

    recording_id: str
    group: str
    side: Side


SPLIT_SCHEMA = schema_of(SplitRow)


@dataclass(frozen=True)
class Sides:
    """Rows of the index by recording id: the training side with all its views, the first as it is; the held-out side."""

    train: dict[str, list[int]]
    held_out: dict[str, int]
    groups: dict[str, str]  # of both sides


def rows_by_side(reader: CodesReader, split: Path) -> Sides:
    """What to learn from and what to judge by. Raises ArtifactError where codes and split do not belong together."""
    sides = {row.recording_id: row.side for row in read_split(split)}
    missing = [row.recording_id for row in reader.rows if row.recording_id not in sides]
    if missing:
        raise ArtifactError(
            f"{split}: expected a side for every recording, found none for {len(missing)} of them "
            f"(such as {missing[0]}); run `dvc repro` again"
        )
    found = Sides({}, {}, {row.recording_id: row.group for row in reader.rows})
    for number, row in enumerate(reader.rows):
        if sides[row.recording_id] == "train":
            found.train.setdefault(row.recording_id, []).append(number)
        elif row.view == 0:
            found.held_out[row.recording_id] = number
    for name, side in (("train", found.train), ("val", found.held_out)):
        if not side:
            raise ArtifactError(
                f"{split}: expected recordings on both sides, found none on side {name}; change split.val_fraction or seed"
            )
    return found


def read_split(path: Path) -> list[SplitRow]:
    """Read `split.parquet`."""
    return read_rows(path, SplitRow, "the split", SPLIT_SCHEMA)


def split_codes(codes: Path, split: Path, params: Params) -> dict[str, float]:
    """Decide as the settings say which recordings of the folder `codes` are held out, and write the file `split`.

    Returns the metrics of `metrics/split.json`: recordings, frames and groups of each side. Raises ValueError for fewer
    than two groups.
    """
    recordings = [row for row in read_index(codes) if row.view == 0]
    fraction = params.split.resolve(len(recordings))
    sides = split_groups((row.group for row in recordings), params.seed, fraction)
    write_rows(split, [SplitRow(row.recording_id, row.group, sides[row.group]) for row in recordings], SPLIT_SCHEMA)
    metrics = {"val_fraction": fraction}
    for side in ("train", "val"):
        chosen = [row for row in recordings if sides[row.group] == side]
        metrics[f"{side}_recordings"] = len(chosen)
        metrics[f"{side}_frames"] = sum(row.frames for row in chosen)
        metrics[f"{side}_groups"] = len({row.group for row in chosen})
    return metrics
