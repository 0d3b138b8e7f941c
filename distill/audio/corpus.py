"""Corpus on disk: a manifest with a row for each audio file of the source, samples and side information."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distill.audio.pcm import samples_of
from distill.audio.side_info import UNKNOWN, SideInfo, read_side_info
from distill.storage.files import damaged, read_json
from distill.storage.shards import ShardReader
from distill.storage.tables import read_rows, schema_of

MANIFEST, REPORT, PREFIX = "manifest.parquet", "report.json", "pcm"
MOST_GAIN = 1 << 24  # 144 dB: anything softer is below the last of 24 bits

Status = Literal["used", "warned", "rejected"]


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """Result for one audio file. The fields are the manifest's columns, in order."""

    recording_id: str
    path: str  # relative to the source, unprintable bytes escaped
    status: Status
    reason: str
    sha256: str  # of the file, "" if it cannot be read
    pcm_sha256: str  # of the samples, "" if rejected
    duplicate_of: str  # recording_id of the exact copy in the corpus, or ""
    group: str  # shared by near-duplicates, "" if rejected
    sample_rate: int  # of the source file, 0 if rejected
    channels: int  # of the source file, 0 if rejected
    channels_used: (
        str  # mixed channels, counted from 1, such as "1,2"; "stereo" for a downmix with an image
    )
    trimmed_before: float  # seconds of silence removed
    trimmed_after: float
    seconds: float
    peak: float  # largest magnitude of the samples
    frames_in_shard: int  # samples at the corpus rate
    shard: str
    offset: int
    exponent: int  # samples are pcm / 32768 * 2**exponent
    label: str

    @property
    def samples(self) -> int:
        """Number of samples at the corpus rate."""
        return self.frames_in_shard


SCHEMA = schema_of(ManifestRow, sample_rate=pa.int32(), channels=pa.int32(), exponent=pa.int32())


def recording_id(relative: str) -> str:
    """Recording id: 16 hex digits, hashed from the bytes of the path relative to the source."""
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:16]


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read the rows of a manifest. Raises ArtifactError if it is missing, damaged or of another layout."""
    rows = read_rows(path, ManifestRow, "the manifest of a corpus", SCHEMA)
    if unknown := {row.status for row in rows} - set(get_args(Status)):
        raise damaged(path, "status used, warned or rejected", sorted(unknown))
    return rows


def kept_rows(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Rows of the files in the corpus: usable, and not an exact copy of another file."""
    return [row for row in rows if row.status != "rejected" and not row.duplicate_of]


class Corpus:
    """Recordings that `ingest` kept, sorted by path, with samples and side information."""

    def __init__(
        self,
        folder: Path,
        sample_rate: int,
        entries: tuple[ManifestRow, ...],
        trim: bool = True,
        side_info: Sequence[SideInfo] = (),
    ) -> None:
        """`side_info` has one item for each entry; if empty, all entries have UNKNOWN."""
        self.folder, self.sample_rate, self.trim = (
            folder,
            sample_rate,
            trim,
        )  # arguments of `ingest`
        self.entries = entries
        self._side_info = {
            entry.recording_id: (entry.offset, about)
            for entry, about in zip(entries, side_info, strict=False)
        }
        self._shards = ShardReader(folder, PREFIX)

    def read(
        self, entry: ManifestRow, start: int = 0, length: int | None = None
    ) -> NDArray[np.float32]:
        """Read samples `[length]` in [-1, 1] of `entry` from `start`; to its end if no `length`. Raises ValueError."""
        stop = entry.samples if length is None else start + length
        if not 0 <= start <= stop <= entry.samples:
            raise ValueError(
                f"{entry.path}: samples {start} to {stop} asked for, it has {entry.samples}"
            )
        return samples_of(
            self._shards.read(entry.shard, entry.offset + start, stop - start), entry.exponent
        )

    def side_info(self, entry: ManifestRow) -> SideInfo:
        """Side information of `entry`, cut to its part of the recording."""
        whole, _, _ = entry.recording_id.partition(":")  # ids of held-out ends have a suffix
        offset, about = self._side_info.get(whole, (entry.offset, UNKNOWN))
        return about.cut(
            (entry.offset - offset) / self.sample_rate, entry.samples / self.sample_rate
        )

    @property
    def is_stereo(self) -> bool:
        """Whether any recording has a stereo image."""
        return any(about.is_stereo for _, about in self._side_info.values())

    @property
    def gain(self) -> int:
        """`level_gain` for the loudest recording of the whole corpus, before any split."""
        return level_gain(max((entry.peak for entry in self.entries), default=0.0))


def level_gain(peak: float) -> int:
    """Power of two, 1 to MOST_GAIN, that brings a peak amplitude into (0.5, 1] or closest to it."""
    return min(MOST_GAIN, 1 << max(0, math.floor(-math.log2(peak)))) if peak else 1


def load_corpus(folder: Path) -> Corpus:
    """Open the corpus that `ingest` wrote to `folder`. Raises ArtifactError if it is missing or damaged."""
    rows = read_manifest(folder / MANIFEST)
    report = read_json(folder / REPORT, "the report of a corpus")
    match report:
        case {"sample_rate": int(sample_rate)}:
            kept = tuple(kept_rows(rows))
            return Corpus(
                folder,
                sample_rate,
                kept,
                report.get("trim", True),
                read_side_info(folder, len(kept)),
            )
    raise damaged(folder / REPORT, "a corpus sample rate", "none")
