"""Ingest a folder of recordings into a corpus on disk: manifest, report, PCM shards.

Files are measured and decoded in blocks, here or on other machines. Blocks can be cached: a block that an earlier or an
interrupted run decoded is not decoded again. The corpus does not depend on the cache.
"""

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from distill.audio.assembly import assemble
from distill.audio.bandwidth import (
    UNREADABLE,
    Bandwidth,
    choose_channels,
    choose_rate,
)
from distill.audio.blocks import BANDWIDTH_COLUMNS, BlockWorker, FileBlock, block_row
from distill.audio.corpus import (
    MANIFEST,
    PREFIX,
    REPORT,
    SCHEMA,
    Corpus,
    load_corpus,
)
from distill.audio.decode import Decoder
from distill.audio.ingest_report import (
    check_corpus,
    corpus_warnings,
    folder_report,
    listed_rejections,
    tempo_line,
)
from distill.audio.read import reader_versions
from distill.audio.source import (
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
from distill.params import Channels, CorpusConfig
from distill.progress import Progress, ProgressReport
from distill.storage.files import atomic_folder, sha256_json, write_json
from distill.storage.shards import ShardWriter
from distill.storage.tables import read_rows, write_rows
from distill.storage.work import (
    HERE,
    Cache,
    Executor,
    cut_blocks,
    map_cached,
    work_folder,
    work_version,
)

BLOCK_FILES = 512


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

    Returns the content of `report.json`, see `folder_report`.
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
            for row in read_rows(path, Bandwidth, "bandwidths", BANDWIDTH_COLUMNS)
        ]
        rate, choice = choose_rate(rows, sample_rate), choose_channels(rows, channels)
        settings = (rate.sample_rate, trim, choice.is_stereo)
        decoded = Cache(
            work / "decoded", work_version("ingest", *reader_versions(), *map(str, settings))
        )
        decode = partial(worker.decode, *settings)
        folders = map_cached(decode, blocks, _key, executor, decoded, say, reads)
        manifest = assemble(folders, temporary)
        report = folder_report(manifest, scan, rate, choice, trim)
        check_corpus(folder, report, max_rejected)
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
        block_row(AudioFile(name, name), recording, rate, *place), group=recording.pcm_sha256[:16]
    )
    return Corpus(folder, rate, (row,), trim=False, side_info=[recording.side_info])


def _key(block: FileBlock) -> str:
    """Cache key of a block: a hash of its paths and identities."""
    return sha256_json([[file.path, file.identity] for file in block])[:32]
