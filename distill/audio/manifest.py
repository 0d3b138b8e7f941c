"""The manifest of a corpus: one row for each audio file that was found, in a Parquet file with fixed columns."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from distill.errors import ArtifactError
from distill.storage.tables import read_rows, write_rows

Status = Literal["used", "warned", "rejected"]


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What became of one audio file. Fields are the columns, in their order."""

    recording_id: str
    path: str  # relative to the corpus, unprintable bytes escaped
    status: Status
    reason: str
    sha256: str  # of the file, "" if it cannot be read
    pcm_sha256: str  # of the decoded samples, "" if rejected
    duplicate_of: str  # recording_id of the exact copy that was kept, or ""
    group: str  # shared by near-duplicates, "" if rejected
    sample_rate: int  # of the source file, 0 if rejected
    channels: int  # of the source file, 0 if rejected
    seconds: float
    frames_in_shard: int  # samples at the corpus rate
    shard: str
    offset: int
    label: str


_INTEGERS = {"sample_rate": pa.int32(), "channels": pa.int32(), "frames_in_shard": pa.int64(), "offset": pa.int64()}
SCHEMA = pa.schema(
    [
        (field.name, pa.float64() if field.name == "seconds" else _INTEGERS.get(field.name, pa.string()))
        for field in fields(ManifestRow)
    ]
)


def recording_id(relative: str) -> str:
    """Identity of a recording: 16 hex digits from the bytes of its path relative to the corpus."""
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:16]


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Write `rows` to `path` atomically; equal rows give equal bytes."""
    write_rows(path, rows, SCHEMA)


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read what `write_manifest` wrote. Raises ArtifactError if it is missing, damaged or of another layout."""
    rows = read_rows(path, ManifestRow, "the manifest of a corpus", SCHEMA)
    if unknown := {row.status for row in rows} - set(get_args(Status)):
        raise ArtifactError(
            f"{path}: expected status used, warned or rejected, found {sorted(unknown)}; run `dvc repro` again"
        )
    return rows
