"""Report on an ingested folder: counts, reasons, warnings, and errors for folders that do not make a corpus."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.audio.assembly import firsts
from distill.audio.bandwidth import (
    ChannelsChoice,
    RateChoice,
)
from distill.audio.corpus import (
    Corpus,
    ManifestRow,
    kept_rows,
)
from distill.audio.motion import LEAST_SECONDS, tempo
from distill.audio.source import (
    LISTED,
    Scan,
)
from distill.errors import AudioError
from distill.text import several

# A single recording has its end held out
LEAST_RECORDINGS, LEAST_SECONDS_OF_ONE, ENOUGH_RECORDINGS = 2, 10.0, 5


def folder_report(
    rows: Sequence[ManifestRow], scan: Scan, rate: RateChoice, channels: ChannelsChoice, trim: bool
) -> dict[str, Any]:
    """Report on all files, as JSON. Exact copies count once in the seconds."""
    chosen = {
        "channels": "stereo" if channels.is_stereo else "mono",
        "channels_reason": channels.reason,
    }
    kept = kept_rows(rows)
    labels, groups = {"", *(row.label for row in kept)}, {row.group for row in kept}
    empty = firsts((row for row in rows if row.label not in labels), "label")
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


def check_corpus(folder: Path | str, report: Mapping[str, Any], max_rejected: float) -> None:
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
