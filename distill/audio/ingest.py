"""Ingest a folder of recordings into a corpus on disk: manifest, report, PCM shards.

Files are measured and decoded in blocks, here or on other machines. Blocks can be cached: a block that an earlier or an
interrupted run decoded is not decoded again. The corpus does not depend on the cache.

A decoded block is a folder with a manifest of its files, and shards, side information and fingerprints of its
recordings, with exact copies stored once.
"""

import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from distill.audio.bandwidth import (
    UNREADABLE,
    Bandwidth,
    ChannelsChoice,
    RateChoice,
    choose_channels,
    choose_rate,
)
from distill.audio.corpus import (
    MANIFEST,
    PREFIX,
    REPORT,
    SCHEMA,
    Corpus,
    ManifestRow,
    kept_rows,
    load_corpus,
    read_manifest,
    recording_id,
)
from distill.audio.decode import Decoder
from distill.audio.motion import LEAST_SECONDS, tempo
from distill.audio.near_duplicates import Fingerprint, NearDuplicates, find_near_duplicates
from distill.audio.read import Recording, reader_versions
from distill.audio.side_info import SideInfo, read_side_info, write_side_info
from distill.audio.source import (
    LISTED,
    AudioFile,
    Scan,
    address,
    is_url,
    left_out_line,
    list_recordings,
    not_entered_line,
    open_source,
    printable,
)
from distill.errors import AudioError
from distill.params import Channels, CorpusConfig
from distill.progress import Progress, ProgressReport
from distill.storage.files import atomic_folder, sha256_json, write_json
from distill.storage.shards import ShardReader, ShardWriter
from distill.storage.tables import read_rows, schema_of, write_rows
from distill.storage.work import (
    HERE,
    Cache,
    Executor,
    R,
    T,
    cut_blocks,
    map_cached,
    work_folder,
    work_version,
)
from distill.text import several

BLOCK_FILES = 512
LEAST_RECORDINGS, LEAST_SECONDS_OF_ONE, ENOUGH_RECORDINGS = (
    2,
    10.0,
    5,
)  # a single recording has its end held out

_FINGERPRINTS = "fingerprints.safetensors"
_BANDWIDTHS = schema_of(Bandwidth)

FileBlock = tuple[AudioFile, ...]  # consecutive files


class _FileProgress:
    """Progress over files: reports them when measured and, counted once each, when decoded, here or elsewhere."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._decoded: set[AudioFile] = set()
        self._one_at_a_time = threading.Lock()

    def __call__(self, files: FileBlock, is_decoded: bool = True) -> None:
        with self._one_at_a_time:
            for file in filter(lambda file: file not in self._decoded, files):
                self._decoded.update([file] * is_decoded)
                self._progress(len(self._decoded), self._total, file.path)


def ingest(
    folder: Path | str,
    output: Path,
    sample_rate: int | Literal["auto"],
    max_rejected: float,
    executor: Executor = HERE,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
    *,
    trim: bool = True,
    channels: Channels = "auto",
) -> dict[str, Any]:
    """Decode all recordings below `folder` at `sample_rate` Hz, mono or with stereo images; write the corpus `output`.

    `folder` may be a URL such as s3://bucket/prefix. The corpus has the same bytes as for a folder with the same files.
    Sample rate "auto" follows the bandwidth of the recordings, see `distill.audio.bandwidth`. Channels "auto" stores
    images if enough recordings have two differing channels; "mono" mixes all to mono. `max_rejected` is the largest
    proportion of audio files, 0 to 1, that may be unusable. The output does not depend on `executor`, which decodes.
    `progress` is called with (files done, number of files, path) after each decoded file, and while the bandwidth is
    measured. `kept` is a folder that caches decoded blocks. `trim` as in `read_recording`.

    Returns the content of `report.json`, see `_report`.
    Raises AudioError, and leaves `output` unchanged, if the folder does not make a corpus.
    """
    scan, place = list_recordings(open_source(folder)), address(folder)
    say, blocks = _FileProgress(len(scan.audio), progress), _blocks(scan)
    reads = [] if is_url(place) else [Path(place)]
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(output))
        work = stack.enter_context(work_folder(kept, temporary))
        measured = Cache(work / "bandwidths", work_version("ingest", *reader_versions()))
        worker = stack.enter_context(closing(BlockWorker(place, executor.processors, say)))
        executor = worker if executor.is_here else executor
        bandwidths = map_cached(worker.measure, blocks, _key, executor, measured, reads=reads)
        rows = [
            row
            for path in bandwidths
            for row in read_rows(path, Bandwidth, "bandwidths", _BANDWIDTHS)
        ]
        rate, choice = choose_rate(rows, sample_rate), choose_channels(rows, channels)
        settings = (rate.sample_rate, trim, choice.is_stereo)
        decoded = Cache(
            work / "decoded", work_version("ingest", *reader_versions(), *map(str, settings))
        )
        decode = partial(worker.decode, *settings)
        folders = map_cached(decode, blocks, _key, executor, decoded, say, reads)
        manifest = _assemble(folders, temporary)
        report = _report(manifest, scan, rate, choice, trim)
        _check(folder, report, max_rejected)
        write_json(temporary / REPORT, report)
        write_rows(temporary / MANIFEST, manifest, SCHEMA)
        measured.keep_only(bandwidths)
        decoded.keep_only(folders)
    return report


def _blocks(scan: Scan) -> list[FileBlock]:
    """Split the files into blocks of up to BLOCK_FILES files and 64 MB as stored."""
    names, sizes = [file.path for file in scan.audio], [file.size for file in scan.audio]
    return [
        scan.audio[cut.start : cut.stop] for cut in cut_blocks(names, sizes, BLOCK_FILES, 64 << 20)
    ]


def ingest_folder(
    folder: Path | str,
    output: Path,
    params: CorpusConfig,
    executor: Executor,
    kept: Path | None = None,
) -> dict[str, Any]:
    """`ingest` with the settings `params`; reports progress, warnings and rejected files. Raises AudioError."""
    with ProgressReport("ingest") as progress:
        settings = (params.sample_rate, params.max_rejected)
        report = ingest(
            folder,
            output,
            *settings,
            executor,
            progress,
            kept,
            trim=params.trim,
            channels=params.channels,
        )
        progress.status.keep(output / REPORT, "ingest.json")
        counted = "{used} used, {warned} used with a warning, {rejected} rejected, {duplicates} exact copies"
        trimmed = f"{report['trimmed_seconds']:.1f} s of silence at beginnings and ends trimmed (corpus.trim)"
        rejected = "\n".join([f"rejected, as {output / REPORT} says:", *listed_rejections(report)])
        sentences = [
            f"{counted.format(**report['counts'])}, {report['seconds']:.1f} s of sound",
            left_out_line(report["left_out"]),
            not_entered_line(
                (folder["path"], folder["reason"]) for folder in report["skipped_folders"]
            ),
            report["sample_rate_reason"],
            report.get("channels_reason", ""),
            trimmed * bool(report["trimmed_seconds"]),
            tempo_line(load_corpus(output)),
            *(
                f"warning: {sentence}"
                for sentence in corpus_warnings(report, params.labels == "folder")
            ),
            rejected * bool(report["rejected"]),
        ]
        for sentence in filter(None, sentences):
            progress.say(sentence)
    return report


def corpus_of_one(path: Path, folder: Path) -> Corpus:
    """Corpus of one untrimmed recording, at the rate that `ingest` would choose. `folder` receives its samples.

    Remarks on the file are an AudioWarning. Raises AudioError.
    """
    with Decoder() as decoder:
        rate = choose_rate([decoder.bandwidth(path) or UNREADABLE], "auto").sample_rate
        recording = decoder.recording(path, rate, "fold")
    with ShardWriter(folder, PREFIX) as shards:
        place = shards.append(recording.pcm)
    name = printable(path.name)
    row = replace(
        _row(AudioFile(name, name), recording, rate, *place), group=recording.pcm_sha256[:16]
    )
    return Corpus(folder, rate, (row,), trim=False, side_info=[recording.side_info])


def _key(block: FileBlock) -> str:
    """Cache key of a block: a hash of its paths and identities."""
    return sha256_json([[file.path, file.identity] for file in block])[:32]


class BlockWorker(Executor):
    """Measures and decodes blocks of files from one source, with its own decoders until it is closed.

    `said` is called with files that were measured (False) or decoded (True). As an executor it processes several blocks
    in parallel, since a block may be one large file. Pickled for another machine, a worker has one decoder.
    """

    def __init__(
        self, place: str, decoders: int, said: Callable[[FileBlock, bool], object] = lambda *_: None
    ) -> None:
        """`place` is an absolute folder or a URL."""
        super().__init__(decoders)
        self._place, self._said, self._source = place, said, open_source(place)
        self._decoders = [Decoder(decoders) for _ in range(decoders)]
        self._idle = [*self._decoders]
        self._threads = ThreadPoolExecutor(decoders)  # one for each decoder

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockWorker, (self._place, 1)

    def close(self) -> None:
        """End the decoders at once."""
        for decoder in self._decoders:
            decoder.close()
        self._threads.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        folders: Sequence[Path],  # noqa: ARG002 - for subclasses
    ) -> Iterator[tuple[T, R]]:
        """`Executor.map` with results in order. Ends the decoders on any exception."""
        items = [*items]
        with ThreadPoolExecutor(self.processors) as threads:
            try:
                yield from zip(items, threads.map(function, items), strict=True)
            except BaseException:
                self.close()
                raise

    def measure(self, block: FileBlock, path: Path) -> bool:
        """Write the bandwidths of a block's files. False if measuring again may give other results."""
        measured = [bandwidth for _, bandwidth in self._each(block, False, Decoder.bandwidth)]
        write_rows(path, [bandwidth or UNREADABLE for bandwidth in measured], _BANDWIDTHS)
        return None not in measured

    def decode(
        self, sample_rate: int, trim: bool, stereo: bool, block: FileBlock, folder: Path
    ) -> bool:
        """Write a decoded block. False if decoding again may give other results."""
        rows: list[ManifestRow] = []
        prints: dict[str, NDArray[Any]] = {}
        side_info: dict[str, SideInfo] = {}
        places: dict[str, tuple[str, int]] = {
            "": ("", 0)
        }  # by pcm_sha256, which is empty without samples
        is_certain = True
        with atomic_folder(folder) as temporary:
            with ShardWriter(temporary, PREFIX) as shards:
                call = partial(
                    Decoder.decoded,
                    sample_rate=sample_rate,
                    trim=trim,
                    channels="fold" if stereo else "mono",
                )
                for file, recording in self._each(block, True, call):
                    sha256 = recording.pcm_sha256
                    if sha256 not in places:
                        places[sha256] = shards.append(recording.pcm)
                        side_info[sha256] = recording.side_info
                        assert recording.fingerprint
                        for name, values in recording.fingerprint._asdict().items():
                            prints[f"{sha256} {name}"] = values
                    rows.append(_row(file, recording, sample_rate, *places[sha256]))
                    is_certain &= recording.is_certain
            (temporary / _FINGERPRINTS).write_bytes(save(prints))
            write_side_info(temporary, [*side_info.values()])
            write_rows(temporary / MANIFEST, rows, SCHEMA)
        return is_certain

    def _each(
        self, block: FileBlock, is_decoded: bool, call: Callable[[Decoder, Path], R]
    ) -> Iterator[tuple[AudioFile, R]]:
        """Yield each file of a block, in order, with the result of `call` on a decoder and the file."""

        def called(file: AudioFile) -> R:
            decoder = self._idle.pop()
            try:
                with self._source.local(file) as path:
                    return call(decoder, path)
            finally:
                self._idle.append(decoder)

        for file, result in zip(block, self._threads.map(called, block), strict=True):
            yield file, result
            self._said((file,), is_decoded)


def _row(
    file: AudioFile, decoded: Recording, sample_rate: int, shard: str, offset: int
) -> ManifestRow:
    """Manifest row of a file within its block, before duplicates in other blocks are known."""
    return ManifestRow(
        recording_id=recording_id(file.relative),
        path=file.path,
        status="rejected" if not decoded.pcm_sha256 else "warned" if decoded.reason else "used",
        reason=decoded.reason,
        sha256=decoded.sha256,
        pcm_sha256=decoded.pcm_sha256,
        duplicate_of="",
        group="",
        sample_rate=decoded.sample_rate,
        channels=decoded.channels,
        channels_used=decoded.channels_used,
        trimmed_before=decoded.trimmed_before,
        trimmed_after=decoded.trimmed_after,
        seconds=len(decoded.pcm) / sample_rate,
        peak=float(np.abs(decoded.samples).max(initial=0.0)),
        frames_in_shard=len(decoded.pcm),
        shard=shard,
        offset=offset,
        exponent=decoded.exponent,
        label=file.label,
    )


def _assemble(blocks: Sequence[Path], output: Path) -> list[ManifestRow]:
    """Write the shards and side information of a corpus, exact copies once, and return its manifest rows."""
    rows: list[ManifestRow] = []
    originals: dict[str, ManifestRow] = {}  # by pcm_sha256
    fingerprints: list[Fingerprint] = []
    side_info: dict[str, SideInfo] = {}  # by pcm_sha256
    with ShardWriter(output, PREFIX) as shards:
        for block in blocks:
            own = read_manifest(block / MANIFEST)
            sounds = _firsts((row for row in own if row.pcm_sha256), "pcm_sha256")
            new = [row for sha256, row in sounds.items() if sha256 not in originals]
            for row, (shard, offset) in zip(
                new, _copied(block, new, len(new) == len(sounds), shards), strict=True
            ):
                originals[row.pcm_sha256] = replace(row, shard=shard, offset=offset)
            prints, own_side_info = (
                load_file(block / _FINGERPRINTS),
                read_side_info(block, len(sounds)),
            )
            for row, about in zip(sounds.values(), own_side_info, strict=True):
                side_info.setdefault(row.pcm_sha256, about)
            for row in new:
                fingerprints.append(
                    Fingerprint(
                        *(prints[f"{row.pcm_sha256} {name}"] for name in Fingerprint._fields)
                    )
                )
            rows += own
    related = _related(rows, originals, find_near_duplicates(fingerprints))
    write_side_info(output, [side_info[row.pcm_sha256] for row in kept_rows(related)])
    return related


def _firsts(rows: Iterable[ManifestRow], column: str) -> dict[str, ManifestRow]:
    """First row for each value of a column, by value."""
    firsts: dict[str, ManifestRow] = {}
    for row in rows:
        firsts.setdefault(getattr(row, column), row)
    return firsts


def _copied(
    block: Path, rows: Sequence[ManifestRow], are_all: bool, shards: ShardWriter
) -> list[tuple[str, int]]:
    """Add recordings of a block to the shards; return (shard, offset) of each. Links whole shards for `are_all`."""
    if not are_all:
        pcm = ShardReader(block, PREFIX)
        return [shards.append(pcm.read(row.shard, row.offset, row.frames_in_shard)) for row in rows]
    names = {name: shards.add_shard(block / name) for name in sorted({row.shard for row in rows})}
    return [(names[row.shard], row.offset) for row in rows]


def _related(
    rows: Sequence[ManifestRow], originals: Mapping[str, ManifestRow], alike: NearDuplicates
) -> list[ManifestRow]:
    """Complete the rows with shard, group and copies, from the first recording of each sound and its near-duplicates.

    A group is named by its smallest PCM hash, so renaming files does not change it.
    """
    group_of = dict(zip(originals, alike.groups, strict=True))
    names = {group: sha256[:16] for sha256, group in sorted(group_of.items(), reverse=True)}
    notes = _notes([*originals.values()], alike)
    related = []
    for row in rows:
        if row.pcm_sha256:
            original, note = originals[row.pcm_sha256], notes[row.pcm_sha256]
            row = replace(
                row,
                group=names[group_of[row.pcm_sha256]],
                shard=original.shard,
                offset=original.offset,
            )
            if row.recording_id != original.recording_id:
                note = f"exact copy of {original.path}"
                row = replace(row, duplicate_of=original.recording_id)
            if note:
                row = replace(
                    row, status="warned", reason="; ".join(filter(None, [note, row.reason]))
                )
        related.append(row)
    return related


def _notes(originals: Sequence[ManifestRow], alike: NearDuplicates) -> dict[str, str]:
    """Remark by pcm_sha256: whose part or near-duplicate a sound is; "" for the first whole sound of each group."""
    wholes: dict[int, int] = {}
    notes = {}
    for index, (row, group) in enumerate(zip(originals, alike.groups, strict=True)):
        if index in alike.parts:
            part, seconds = alike.parts[index]
            whole = originals[part]
            note = f"part of {whole.path}, at {whole.trimmed_before + seconds:.1f} s"
        else:
            first = wholes.setdefault(group, index)
            note = f"near-duplicate of {originals[first].path}" if first != index else ""
        notes[row.pcm_sha256] = note
    return notes


def _report(
    rows: Sequence[ManifestRow], scan: Scan, rate: RateChoice, channels: ChannelsChoice, trim: bool
) -> dict[str, Any]:
    """Report on all files, as JSON. Exact copies count once in the seconds."""
    chosen = {
        "channels": "stereo" if channels.is_stereo else "mono",
        "channels_reason": channels.reason,
    }
    kept = kept_rows(rows)
    labels, groups = {"", *(row.label for row in kept)}, {row.group for row in kept}
    empty = _firsts((row for row in rows if row.label not in labels), "label")
    members: dict[str, list[str]] = defaultdict(list)
    listed: dict[str, list[dict[str, str]]] = {"used": [], "warned": [], "rejected": []}
    for row in rows:
        members[row.group].append(row.path)
        listed[row.status].append({"path": row.path, "reason": row.reason})
    lengths = [row.seconds for row in kept] or [0.0]
    counts = {
        "audio_files": len(rows),
        **{status: len(files) for status, files in listed.items()},
        "duplicates": sum(bool(row.duplicate_of) for row in rows),
        "near_duplicates": len(kept)
        - len(groups),  # share a group with an earlier recording; all are kept
        "groups": len(groups),  # different sounds
        "ignored": sum(scan.ignored.values()),  # hidden entries and files that are not audio
    }
    return {
        "sample_rate": rate.sample_rate,
        "sample_rate_reason": rate.reason,
        "treble_share": rate.treble_share,
        **(chosen if channels.recordings else {}),  # left out without stereo recordings
        "trim": trim,
        "trimmed_seconds": sum(row.trimmed_before + row.trimmed_after for row in kept),
        "seconds": sum(row.frames_in_shard for row in kept) / rate.sample_rate,
        "counts": counts,
        "durations": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "max": max(lengths),
        },
        "rejected": listed["rejected"],
        "warned": listed["warned"],
        "groups": [
            {"group": name, "paths": members[name]}
            for name in sorted(groups)
            if len(members[name]) > 1
        ],
        "left_out": scan.left_out,
        "empty_labels": [
            {"label": label, "path": row.path, "reason": row.reason} for label, row in empty.items()
        ],
        "ignored_by_suffix": scan.ignored,
        "skipped_folders": [{"path": path, "reason": reason} for path, reason in scan.skipped],
    }


def tempo_line(corpus: Corpus) -> str:
    """Message about the tempo of repeating recordings; "" for fewer than three. Measures at most 200."""
    least, most = (round(seconds * corpus.sample_rate) for seconds in (LEAST_SECONDS, 10.0))
    long_enough = [row for row in corpus.entries if row.samples >= least]
    rows = long_enough[:: max(1, -(-len(long_enough) // 200))]
    tempos = [
        tempo(corpus.read(row, 0, min(row.samples, most)), corpus.sample_rate) for row in rows
    ]
    repeating = [row for row, beats in zip(rows, tempos, strict=True) if not np.isnan(beats)]
    if len(repeating) < 3:  # a tremolo repeats, too
        return ""
    usual = (f"{beats:.0f}" for beats in np.nanpercentile(tempos, [10, 90], method="nearest"))
    trimmed = sum(row.trimmed_before + row.trimmed_after > 0 for row in repeating)
    keep_it = f"; silence at the ends of {trimmed} was trimmed: corpus.trim: false keeps it"
    return (
        f"{len(repeating)} of {len(rows)} recordings of {LEAST_SECONDS:g} s or more repeat, at "
        f"{' to '.join(dict.fromkeys(usual))} beats a minute; sounds that follow them keep tempo and length where beats "
        "are clear" + keep_it * bool(trimmed)
    )


def corpus_warnings(report: Mapping[str, Any], has_labels: bool) -> list[str]:
    """Warnings about a report: too few recordings, and labels without recordings."""
    counts = report["counts"]
    few = few_recordings(counts["used"] + counts["warned"] - counts["duplicates"])
    return [*filter(None, [few]), *(label_warnings(report) if has_labels else [])]


def few_recordings(count: int) -> str:
    """Warning if a corpus has fewer than `ENOUGH_RECORDINGS` recordings, or ""."""
    if count >= ENOUGH_RECORDINGS:
        return ""
    return (
        f"{several(count, 'recording')}, fewer than {ENOUGH_RECORDINGS}: too little sound is held out to tell well which "
        "epoch is best and how new a sound is; add recordings"
    )


def label_warnings(report: Mapping[str, Any]) -> list[str]:
    """Warning for each folder without a usable recording: its label does not exist."""
    expected = "label {label}: expected recordings of its own, found none ({path}: {reason})"
    return [
        f"{expected}; nothing can be asked for by it".format(**label)
        for label in report["empty_labels"]
    ]


def listed_rejections(report: Mapping[str, Any]) -> list[str]:
    """First rejections of a report as indented lines, then the number of further rejections."""
    lines = ["  {path}: {reason}".format(**file) for file in report["rejected"]]
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"  and {len(lines) - LISTED} more"]


def _check(folder: Path | str, report: Mapping[str, Any], max_rejected: float) -> None:
    """Raise AudioError if the files do not make a corpus."""
    counts, least = report["counts"], LEAST_RECORDINGS
    files, rejected, copies = counts["audio_files"], counts["rejected"], counts["duplicates"]
    reasons = {
        f"expected at least {least} usable recordings, found none among {several(files, 'audio file')}; "
        "replace or repair these files": rejected == files,
        f"expected at most {max_rejected:.0%} of the audio files to be unusable, found {rejected} of {files}; "
        "remove or repair these files, or raise corpus.max_rejected": rejected
        > max_rejected * files,
    }
    if wrong := next(filter(reasons.get, reasons), ""):
        raise AudioError("\n".join([f"{folder}: {wrong}:", *listed_rejections(report)]))
    seconds = report["seconds"]
    if files - rejected - copies < least and seconds < LEAST_SECONDS_OF_ONE:
        usable = (
            f"{1 + copies} usable recordings that are all copies of one sound"
            if copies
            else "1 usable recording"
        )
        raise AudioError(
            f"{folder}: found {usable} of {seconds:.1f} s; at least {least} are needed, or one of "
            f"{LEAST_SECONDS_OF_ONE:.0f} s, so that sound can be held out, {ENOUGH_RECORDINGS} or more recommended"
        )
