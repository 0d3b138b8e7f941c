"""Codes of a corpus on disk: uint16 shards, the index of recordings, the codec's geometry, and the split."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from distill.audio.side_info import UNKNOWN, SideInfo, read_side_info, write_side_info
from distill.codec.layout import FrameLayout
from distill.errors import ArtifactError
from distill.params import CodebookSizes, Params, Settings
from distill.split import END, Side
from distill.storage.files import damaged, read_json, write_bytes, write_json
from distill.storage.shards import ShardReader, ShardWriter
from distill.storage.tables import read_rows, schema_of, write_rows

CODEWORDS, RECORDINGS, INDEX = "codewords.safetensors", "recordings.parquet", "index.parquet"

Codes = NDArray[np.int64]
Vectors = NDArray[np.float32]  # [Q, V, C]


def uniform_bits(codebook_sizes: Sequence[int]) -> float:
    """Bits per frame if all codes of a level are equally likely."""
    return sum(map(math.log2, codebook_sizes))


class CodeLevels(Settings):
    """Base of settings for certain codes: `codebook_sizes` is the number of codes of each level, coarsest first."""

    codebook_sizes: CodebookSizes

    @property
    def codebook_size(self) -> int:
        """V, the largest codebook size: tokens below it are codes."""
        return max(self.codebook_sizes)

    @property
    def num_quantizers(self) -> int:
        """Q, the number of levels."""
        return len(self.codebook_sizes)

    @property
    def layout(self) -> FrameLayout:
        """Meaning of each level."""
        return FrameLayout(self.codebook_sizes)


class CodesConfig(CodeLevels):
    """Geometry and origin of the codes: codebook sizes, frame rate in Hz, codec and recordings."""

    frame_rate: float
    codec_sha256: str
    sample_rate: int = 0  # of the recordings in Hz
    corpus_sha256: str = ""  # of the corpus manifest


@dataclass(frozen=True, slots=True)
class IndexRow:
    """Location of a coded view of a recording. View 0 is the unmodified recording."""

    recording_id: str
    view: int
    shard: str
    offset: int
    frames: int
    group: str


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """Path, label ("" if unlabelled) and side of a recording. A held-out end has the path of its recording."""

    recording_id: str
    path: str
    label: str
    side: Side


INDEX_SCHEMA = schema_of(IndexRow, view=pa.int32())
RECORDINGS_SCHEMA = schema_of(RecordingRow)


def write_corpus_codes(
    folder: Path,
    config: CodesConfig,
    codewords: Vectors,
    recordings: Sequence[RecordingRow],
    views: Iterable[tuple[str, int, str, NDArray[np.integer]]],
    side_info: Sequence[SideInfo] = (),
) -> None:
    """Write the codes of a corpus, the index last. A view is recording id, view index, group and codes `[F, Q]`.

    `side_info` is in the order of `recordings`; if empty, all of it is UNKNOWN.
    """
    rows = []
    with ShardWriter(folder, "codes") as shards:
        for recording_id, view, group, codes in views:
            shard, offset = shards.append(codes.astype(np.uint16, copy=False))
            rows.append(IndexRow(recording_id, view, shard, offset, len(codes), group))
    write_bytes(folder / CODEWORDS, save({"codewords": np.ascontiguousarray(codewords)}))
    write_json(folder / "config.json", config.model_dump())
    write_side_info(folder, side_info or [UNKNOWN] * len(recordings))
    write_rows(folder / RECORDINGS, recordings, RECORDINGS_SCHEMA)
    write_rows(folder / INDEX, rows, INDEX_SCHEMA)


class CodesReader:
    """Reads the folder that `write_corpus_codes` wrote. Raises ArtifactError."""

    def __init__(self, folder: Path) -> None:
        self.config = CodesConfig.model_validate(
            read_json(folder / "config.json", "the geometry of codes")
        )
        self.rows = read_rows(folder / INDEX, IndexRow, "the index of codes", INDEX_SCHEMA)
        self._shards = ShardReader(folder, "codes")
        self._folder = folder

    def codewords(self) -> Vectors:
        """Codewords `[Q, V, C]`; a level with fewer than V codes is padded with zeros."""
        path = self._folder / CODEWORDS
        try:
            books: Vectors = load_file(path)["codewords"]
        except (OSError, SafetensorError, KeyError) as error:
            raise damaged(path, "the codec's codewords", error) from error
        size, levels = self.config.codebook_size, self.config.num_quantizers
        if books.ndim != 3 or books.shape[:2] != (levels, size):
            expected = f"up to {size} codewords for each of {levels} levels, as config.json says"
            raise damaged(path, expected, list(books.shape))
        return books

    def recordings(self) -> dict[str, RecordingRow]:
        """Path, label and side of each recording, by id."""
        rows = read_rows(
            self._folder / RECORDINGS, RecordingRow, "the names of recordings", RECORDINGS_SCHEMA
        )
        return {row.recording_id: row for row in rows}

    def side_info(self) -> dict[str, SideInfo]:
        """Side information of each recording, by id."""
        names = [*self.recordings()]
        return dict(zip(names, read_side_info(self._folder, len(names)), strict=True))

    def codes(self, row: IndexRow) -> NDArray[Any]:
        """Read the codes `[F, Q]` uint16 of a row."""
        return self._shards.read(row.shard, row.offset, row.frames)


def out_of_range(codes: NDArray[np.integer], codebook_sizes: Sequence[int]) -> str:
    """Text for an error if codes `[F, Q]`, F at least 1, exceed their level's codebook; otherwise ""."""
    for level, (own, size) in enumerate(zip(codes.T, codebook_sizes, strict=True)):
        for code in (int(own.min()), int(own.max())):
            if not 0 <= code < size:
                return f"expected codes from 0 to {size - 1} at level {level}, found {code}"
    return ""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Side of a recording in the split."""

    recording_id: str
    group: str
    side: Side


SPLIT_SCHEMA = schema_of(SplitRow)


def rows_by_side(reader: CodesReader, split: Path) -> dict[Side, dict[str, list[IndexRow]]]:
    """Rows of each side's recordings, by id: all views of training recordings, only view 0 of held-out recordings.

    Raises ArtifactError if codes and split do not match or a side is empty.
    """
    sides = {row.recording_id: row.side for row in read_split(split)}
    missing = [row.recording_id for row in reader.rows if row.recording_id not in sides]
    if missing:
        raise damaged(
            split,
            "a side for every recording",
            f"none for {len(missing)} of them (such as {missing[0]})",
        )
    by_side: dict[Side, dict[str, list[IndexRow]]] = {"train": {}, "val": {}}
    for row in reader.rows:
        side = sides[row.recording_id]
        if side == "train" or row.view == 0:
            by_side[side].setdefault(row.recording_id, []).append(row)
    for side, rows in by_side.items():
        if not rows:
            raise ArtifactError(
                f"{split}: expected recordings on both sides, found none on side {side}; change split.val_fraction or seed"
            )
    return by_side


def read_split(path: Path) -> list[SplitRow]:
    """Read `split.parquet`."""
    return read_rows(path, SplitRow, "the split", SPLIT_SCHEMA)


def split_codes(codes: Path, split: Path, params: Params) -> dict[str, float]:
    """Write the sides of the recordings, as stored in the folder `codes`, to the file `split`.

    Returns the metrics of `metrics/split.json`: held-out fraction, and recordings, frames and groups of each side.
    """
    reader = CodesReader(codes)
    about, recordings = reader.recordings(), [row for row in reader.rows if row.view == 0]
    sides = {name: row.side for name, row in about.items()}
    rows = [SplitRow(row.recording_id, row.group, sides[row.recording_id]) for row in recordings]
    write_rows(split, rows, SPLIT_SCHEMA)
    metrics = {"val_fraction": params.split.resolve(sum(not name.endswith(END) for name in about))}
    for side in ("train", "val"):
        chosen = [row for row in recordings if sides[row.recording_id] == side]
        metrics[f"{side}_recordings"] = len(chosen)
        metrics[f"{side}_frames"] = sum(row.frames for row in chosen)
        metrics[f"{side}_groups"] = len({row.group for row in chosen})
    return metrics
