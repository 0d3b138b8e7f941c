"""Corpus on disk: recordings and their samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.audio.manifest import ManifestRow, read_manifest
from distill.errors import ArtifactError
from distill.storage.files import read_json
from distill.storage.shards import ShardReader

MANIFEST, REPORT, PREFIX = "manifest.parquet", "report.json", "pcm"


def kept_rows(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Rows of the files in the corpus: usable ones, exact copies once."""
    return [row for row in rows if row.status != "rejected" and not row.duplicate_of]


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """Entry of one recording in a corpus; exact copies and rejected files have none."""

    recording_id: str
    path: str
    group: str
    label: str
    samples: int
    shard: str
    offset: int
    pcm_sha256: str


class Corpus:
    """The recordings that `ingest` kept, sorted by path, and their samples."""

    def __init__(self, folder: Path, sample_rate: int, entries: tuple[CorpusEntry, ...]) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        self.entries = entries
        self._shards = ShardReader(folder, PREFIX)

    def pcm(self, entry: CorpusEntry, start: int = 0, length: int | None = None) -> NDArray[np.int16]:
        """Samples `[length]` of `entry` from `start` on, to its end if `length` is None; only these are read."""
        length = entry.samples - start if length is None else length
        if not 0 <= start <= start + length <= entry.samples:
            raise ValueError(f"{entry.path}: samples {start} to {start + length} asked for, it has {entry.samples}")
        return np.asarray(self._shards.read(entry.shard, entry.offset + start, length), dtype=np.int16)


def load_corpus(folder: Path) -> Corpus:
    """Open the corpus that `ingest` wrote to `folder`. Raises ArtifactError if it is missing or damaged."""
    rows = read_manifest(folder / MANIFEST)
    report = read_json(folder / REPORT, "the report of a corpus")
    sample_rate = report.get("sample_rate") if isinstance(report, dict) else None
    if not isinstance(sample_rate, int):
        raise ArtifactError(f"{folder / REPORT}: expected a corpus sample rate, found none; run `dvc repro` again")
    entries = (
        CorpusEntry(
            row.recording_id, row.path, row.group, row.label, row.frames_in_shard, row.shard, row.offset, row.pcm_sha256
        )
        for row in kept_rows(rows)
    )
    return Corpus(folder, sample_rate, tuple(entries))
