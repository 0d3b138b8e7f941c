"""Ingestion of a folder of recordings into a corpus on disk: manifest, report, PCM shards.

Files are decoded in blocks, and decoded blocks can be kept: what was decoded before, by an earlier or an interrupted
run, is not decoded again. The corpus does not depend on it.
"""

import statistics
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal

import soundfile as sf

from distill.audio.bandwidth import RateChoice, choose_rate
from distill.audio.blocks import (
    BlockRow,
    BlockWorker,
    DecodedBlock,
    DecodeTask,
    FileBlock,
    blocks_of,
    known_files,
    read_bandwidths,
)
from distill.audio.corpus import (
    MANIFEST,
    PREFIX,
    REPORT,
    ManifestRow,
    kept_rows,
    write_manifest,
)
from distill.audio.fingerprint import Fingerprint
from distill.audio.near_duplicates import near_duplicate_groups
from distill.audio.scan import AudioFile, Scan
from distill.audio.source import LISTED, address, is_url, list_recordings, open_source
from distill.errors import AudioError
from distill.params import CorpusConfig
from distill.progress import ProgressReport
from distill.status import Progress
from distill.storage.files import atomic_folder, write_json
from distill.storage.shards import ShardWriter
from distill.storage.work import HERE, Cache, Executor, Threads, map_cached, work_folder, work_version

MINIMUM_GROUPS, RECOMMENDED_RECORDINGS = 2, 5
COUNTS = ("used", "warned", "rejected", "duplicates", "near_duplicates", "groups", "ignored")


@dataclass(frozen=True)
class IngestReport:
    """Result of `ingest`. Counts are of audio files, except `ignored` (entries) and `groups`."""

    used: int
    warned: int  # in the corpus, or an exact copy of a recording in it, with a warning
    rejected: int
    duplicates: int  # exact copies, kept once
    near_duplicates: int  # recordings that share a group with an earlier one; all are kept
    ignored: int  # hidden entries and files that are not audio
    seconds: float  # of sound in the corpus, exact copies once
    groups: int  # different sounds: near-duplicates count once
    sample_rate: int  # Hz, of the corpus
    treble_share: float  # of the sound, 0 to 1, in recordings with energy above 10 kHz
    rate_reason: str  # one line: the sample rate and what it follows from
    rejections: tuple[str, ...]  # "path: reason" of each rejected file

    def summary(self) -> str:
        """The counts as one line."""
        return (
            f"{self.used} used, {self.warned} used with a warning, {self.rejected} rejected, "
            f"{self.duplicates} exact copies, {self.seconds:.1f} s of sound"
        )


def ingest(
    folder: Path | str,
    output: Path,
    sample_rate: int | Literal["auto"],
    max_rejected: float,
    executor: Executor = HERE,
    progress: Progress | None = None,
    kept: Path | None = None,
) -> IngestReport:
    """Decode every recording below `folder` to mono int16 at `sample_rate` Hz and write the corpus `output`.

    `folder` may be a URL such as s3://bucket/prefix: each object is a temporary file while it is decoded, and the corpus
    has the same bytes as that of a folder with the same files.
    "auto" chooses the rate by the bandwidth of the recordings, as `distill.audio.bandwidth` says. `max_rejected` is the
    largest proportion of audio files, 0 to 1, that may be unusable. `executor` decodes; the output does not depend on
    it. `progress` is called with (files done, files in all, path), and with 0 files done for each one whose bandwidth
    was measured. Decoded blocks are kept in the folder `kept`, where one is given.
    Raises AudioError, and leaves `output` as it was, if the folder does not make a corpus.
    """
    found, place = list_recordings(open_source(folder)), address(folder)
    blocks = blocks_of(found.audio)
    reads = [] if is_url(place) else [Path(place)]
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(output))
        work = stack.enter_context(work_folder(kept, temporary))
        version = work_version("ingest", sf.__libsndfile_version__)
        measured, decoded = Cache(work / "bandwidths", version), Cache(work / "decoded", version)
        count = _Count(len(found.audio), progress)
        if executor.processors > 1:  # calls wait for decoders, so that several may be at work
            executor = stack.enter_context(closing(Threads(executor.processors)))
        worker = stack.enter_context(closing(BlockWorker(place, executor.processors, count.say)))
        bandwidths = map_cached(worker.measure, blocks, attrgetter("key"), executor, measured, reads=reads)
        rate = choose_rate((one for path in bandwidths for one in read_bandwidths(path)), sample_rate)
        tasks = _decode_tasks(blocks, rate.sample_rate, decoded)
        folders = map_cached(worker.decode, tasks, attrgetter("key"), executor, decoded, count.say_decoded, reads)
        rows = _assemble(folders, temporary)
        _check_rejected(folder, rows, max_rejected)
        report = _report(rows, found, rate)
        _check_groups(folder, report)
        write_json(temporary / REPORT, _report_json(report, rows, found))
        write_manifest(temporary / MANIFEST, rows)
    if kept is not None:
        measured.keep_only(bandwidths)
        decoded.keep_only(folders)
    return report


class _Count:
    """Progress of files, each shown once as decoded; blocks that another machine decoded are done at once."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done: set[AudioFile] = set()

    def say(self, file: AudioFile, is_decoded: bool) -> None:
        """Show that a file was measured or decoded. May be called in several threads."""
        with self._lock:
            if self._progress is not None and file not in self._done:
                if is_decoded:
                    self._done.add(file)
                self._progress(len(self._done), self._total, file.path)

    def say_decoded(self, task: DecodeTask) -> None:
        """Show that the files of a block were decoded."""
        for file in task.block.files:
            self.say(file, True)


def _decode_tasks(blocks: Sequence[FileBlock], sample_rate: int, cache: Cache) -> list[DecodeTask]:
    """Blocks to decode. What is in other blocks that `cache` has is not decoded again."""
    tasks = [DecodeTask(block, sample_rate, (None,) * len(block.files)) for block in blocks]
    if all(cache.has(task.key) for task in tasks):
        return tasks
    known = known_files(sorted(cache.folder.glob(f"*-{sample_rate}")))
    return [
        replace(task, known=tuple(known.get((file.path, file.identity)) for file in task.block.files)) for task in tasks
    ]


def ingest_folder(
    folder: Path | str, output: Path, params: CorpusConfig, executor: Executor, kept: Path | None = None
) -> IngestReport:
    """Ingest a folder with the settings `params`, reporting progress and rejected files. Raises AudioError."""
    with ProgressReport("ingest") as progress:
        report = ingest(folder, output, params.sample_rate, params.max_rejected, executor, progress, kept)
        progress.say(report.summary())
        progress.say(report.rate_reason)
        progress.status.keep(output / REPORT, "ingest.json")
        for line in report.rejections[:LISTED]:
            progress.say(f"  rejected {line}")
        if report.rejected > LISTED:
            progress.say(f"  and {report.rejected - LISTED} more in {output / REPORT}")
    return report


def _assemble(folders: Sequence[Path], output: Path) -> list[ManifestRow]:
    """Write the shards of a corpus, exact copies once, and make the rows of its manifest."""
    rows: list[ManifestRow] = []
    kept: dict[str, int] = {}  # pcm_sha256 to row
    fingerprints: list[Fingerprint] = []
    with ShardWriter(output, PREFIX) as shards:
        for decoded in map(DecodedBlock, folders):
            places = _copied(decoded, kept.keys(), shards)
            for row in decoded.rows:
                original = rows[kept[row.pcm_sha256]] if row.pcm_sha256 in kept else None
                if row.pcm_sha256 and original is None:
                    kept[row.pcm_sha256] = len(rows)
                    fingerprints.append(decoded.fingerprint(row))
                rows.append(_row(row, original, places))
    return _grouped(rows, list(kept.values()), near_duplicate_groups(fingerprints))


def _copied(block: DecodedBlock, held: Set[str], shards: ShardWriter) -> dict[str, tuple[str, int]]:
    """Add the recordings of a block that are not `held` (pcm_sha256) to the shards; return their places by pcm_sha256."""
    rows = block.rows
    new = {row.pcm_sha256: row for row in reversed(rows) if row.pcm_sha256 and row.pcm_sha256 not in held}
    if len(new) == len({row.pcm_sha256 for row in rows if row.pcm_sha256}):  # whole shards
        names = {name: shards.add_shard(block.folder / name) for name in sorted({row.shard for row in new.values()})}
        return {key: (names[row.shard], row.offset) for key, row in new.items()}
    return {key: shards.append(block.pcm(row)) for key, row in reversed(new.items())}


def _row(found: BlockRow, original: ManifestRow | None, places: Mapping[str, tuple[str, int]]) -> ManifestRow:
    """Make the row of a file from that in its block. The group follows when all files are decoded."""
    row = ManifestRow(**{column.name: getattr(found, column.name) for column in fields(ManifestRow)})
    if original is None:
        shard, offset = places.get(row.pcm_sha256, ("", 0))
        return replace(row, shard=shard, offset=offset)
    reason = "; ".join(filter(None, [f"exact copy of {original.path}", row.reason]))
    return replace(
        row,
        status="warned",
        reason=reason,
        duplicate_of=original.recording_id,
        shard=original.shard,
        offset=original.offset,
    )


def _grouped(rows: Sequence[ManifestRow], kept: Sequence[int], groups: Sequence[int]) -> list[ManifestRow]:
    """Name the groups by the smallest PCM hash in them, so that renaming files does not move a group."""
    names: dict[int, str] = {}
    for index, group in zip(kept, groups, strict=True):
        name = rows[index].pcm_sha256[:16]
        names[group] = min(name, names.get(group, name))
    first = dict(zip((rows[index].pcm_sha256 for index in kept), groups, strict=True))
    grouped = list(rows)
    for index, row in enumerate(rows):
        if row.status != "rejected":
            group = first[row.pcm_sha256]
            grouped[index] = replace(row, group=names[group])
            earliest = rows[kept[group]]
            if not row.duplicate_of and row.recording_id != earliest.recording_id:
                reason = "; ".join(filter(None, [f"near-duplicate of {earliest.path}", row.reason]))
                grouped[index] = replace(grouped[index], status="warned", reason=reason)
    return grouped


def _report(rows: Sequence[ManifestRow], found: Scan, rate: RateChoice) -> IngestReport:
    statuses = Counter(row.status for row in rows)
    kept = kept_rows(rows)
    groups = len({row.group for row in kept})
    return IngestReport(
        used=statuses["used"],
        warned=statuses["warned"],
        rejected=statuses["rejected"],
        duplicates=sum(bool(row.duplicate_of) for row in rows),
        near_duplicates=len(kept) - groups,
        ignored=sum(found.ignored.values()),
        seconds=sum(row.frames_in_shard for row in kept) / rate.sample_rate,
        groups=groups,
        sample_rate=rate.sample_rate,
        treble_share=rate.treble_share,
        rate_reason=rate.reason,
        rejections=tuple(f"{row.path}: {row.reason}" for row in rows if row.status == "rejected"),
    )


def _report_json(report: IngestReport, rows: Sequence[ManifestRow], found: Scan) -> dict[str, object]:
    lengths = [row.seconds for row in kept_rows(rows)]
    members: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.group:
            members[row.group].append(row.path)
    notes = {
        status: [{"path": row.path, "reason": row.reason} for row in rows if row.status == status]
        for status in ("rejected", "warned")
    }
    return {
        "sample_rate": report.sample_rate,
        "sample_rate_reason": report.rate_reason,
        "treble_share": report.treble_share,
        "seconds": report.seconds,
        "counts": {"audio_files": len(rows), **{name: getattr(report, name) for name in COUNTS}},
        "durations": {"min": min(lengths), "median": statistics.median(lengths), "max": max(lengths)},
        "rejected": notes["rejected"],
        "warned": notes["warned"],
        "groups": [{"group": group, "paths": paths} for group, paths in sorted(members.items()) if len(paths) > 1],
        "ignored_by_suffix": found.ignored,
        "skipped_folders": [{"path": path, "reason": reason} for path, reason in found.skipped],
    }


def _check_rejected(folder: Path | str, rows: Sequence[ManifestRow], max_rejected: float) -> None:
    rejected = [row for row in rows if row.status == "rejected"]
    if len(rejected) == len(rows):
        expected, found = f"at least {MINIMUM_GROUPS} usable recordings", f"none among {len(rows)} audio files"
        remedy = "replace or repair these files"
    elif len(rejected) > max_rejected * len(rows):
        expected = f"at most {max_rejected:.0%} of the audio files to be unusable"
        found = f"{len(rejected)} of {len(rows)}"
        remedy = "remove or repair these files, or raise corpus.max_rejected"
    else:
        return
    lines = [f"  {row.path}: {row.reason}" for row in rejected[:LISTED]]
    more = [f"  and {len(rejected) - LISTED} more"] if len(rejected) > LISTED else []
    raise AudioError("\n".join([f"{folder}: expected {expected}, found {found}; {remedy}:", *lines, *more]))


def _check_groups(folder: Path | str, report: IngestReport) -> None:
    if report.groups >= MINIMUM_GROUPS:
        return
    copies = report.duplicates + report.near_duplicates
    found = f"{1 + copies} usable recordings that are all copies of one sound" if copies else "1 usable recording"
    raise AudioError(
        f"{folder}: found {found}; at least {MINIMUM_GROUPS} are needed so that one can be held out, "
        f"{RECOMMENDED_RECORDINGS} or more recommended"
    )
