"""Report of the codec: quality, training, sounds, memory."""

import math
from collections.abc import Sequence

from benchmarks.codec import ORIGINAL, CodecReport
from benchmarks.measures import Difference
from benchmarks.memory import Peak
from benchmarks.report import Grid, Section, number


def codec_section(report: CodecReport, command: str, threads: int) -> Section:
    """Codec comparison on one corpus."""
    rows = tuple(
        (
            one.name,
            f"{one.bits_per_second / 1000:.3f}",
            number(one.training_seconds, 0),
            one.epochs or "–",
            number(_mean(one.quality.mel), 3),
            number(_mean(one.quality.visqol), 2),
        )
        for one in report.systems
    )
    columns = (
        "codec",
        "kbit/s",
        "training s",
        "epochs",
        "mel L1",
        "ViSQOL",
    )
    original = report.speeds[ORIGINAL]
    speeds = tuple(
        (name, _speed(one.encode), _speed(one.decode), _speed(one.decode / original.decode))
        for name, one in report.speeds.items()
    )
    timed = ("codec", "encode x real time", "decode x real time", "decode x original plan")
    differences = tuple(
        (
            f"{one.ours} - {one.peer}",
            _interval(one.mel, 3),
            number(one.mel.ratio, 3),
            _interval(one.visqol, 2),
        )
        for one in report.comparisons
    )
    compared = ("difference", "mel L1, 95 %", "mel L1 ratio", "ViSQOL, 95 %")
    levels = tuple(
        (one.name, str(number), f"{level.utilization:.0%}", f"{level.perplexity:.1f}")
        for one in report.systems
        for number, level in enumerate(one.levels)
    )
    scored = min(sum(map(math.isfinite, one.quality.visqol)) for one in report.systems)
    text = (
        f"`{command}`: tier {report.tier}, {report.training_recordings} training recordings "
        f"({report.training_seconds:.0f} s), {len(report.held_out)} ({report.held_out_seconds:.0f} s) held out, of which ViSQOL could score "
        f"{scored}; speed on {report.timed} of them with {report.timed_seconds:.1f} s; CPU threads: {threads}."
    )
    used = ("codec", "level", "used", "perplexity")
    tables = (Grid(columns, rows), Grid(compared, differences), Grid(timed, speeds), Grid(used, levels))
    return Section(f"codec {report.corpus}", f"Codec on `{report.corpus}`", text, tables)


def profile_section(report: CodecReport, command: str) -> Section:
    """Profile of a training step."""
    profile = report.profile
    assert profile is not None
    shares = (profile.sampling, profile.other, profile.sampling + profile.other)
    row = (str(profile.steps), f"{profile.milliseconds:.0f}", *(f"{share:.1%}" for share in shares))
    columns = (
        "steps",
        "ms a step",
        "sampling batches",
        "transfers, logging, checks",
        "outside network, loss, optimiser",
    )
    title = f"Training step on `{report.corpus}`"
    return Section(f"step {report.corpus}", title, f"`{command}`.", (Grid(columns, (row,)),))


def sounds_section(report: CodecReport, command: str) -> Section:
    """Robustness of the codec on test signals."""
    rows = tuple(
        (
            one.name,
            f"{one.peak:.3f}",
            f"{one.reconstructed_peak:.3f}",
            number(one.reconstructed_peak / one.peak if one.peak else math.nan, 2),
            "yes" if one.finite else "NO",
            number(one.jump_at_seams, 4),
            f"{one.jump_elsewhere:.4f}",
            f"{one.chunking:.1e}",
        )
        for one in report.sounds
    )
    columns = ("sound", "peak", "out", "ratio", "finite", "jump at seams", "elsewhere", "chunks - at once")
    text = (
        f"`{command}`: synthesised sounds through the codec trained last. Jumps are the largest differences of "
        "neighbouring samples; the last column is the largest difference of decoding in chunks of 64 frames."
    )
    return Section(
        f"sounds {report.corpus}", f"Breaking sounds, codec of `{report.corpus}`", text, (Grid(columns, rows),)
    )


def memory_section(peaks: Sequence[Peak], command: str) -> Section:
    """Peak memory of encoding; ratios are to the fewest hours of the same kind."""
    least = {one.recording_seconds: one for one in sorted(peaks, key=lambda one: -one.hours)}
    rows = tuple(
        (
            f"{one.hours:g} h",
            f"{one.recordings} x {one.recording_seconds} s",
            f"{one.baseline_mebibytes:.0f}",
            f"{one.mebibytes:.0f}",
            f"{one.mebibytes / least[one.recording_seconds].mebibytes:.2f}",
            f"{one.times_real_time:.0f}",
        )
        for one in peaks
    )
    columns = ("sound", "recordings", "MiB before", "peak MiB", "ratio", "x real time")
    text = (
        f"`{command}`: `encode_corpus` with an untrained codec of the large tier on synthetic sound, each row a process of "
        "its own; mapped pages of the corpus count, too."
    )
    return Section("memory", "Memory of coding", text, (Grid(columns, rows),))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _speed(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _interval(difference: Difference, digits: int) -> str:
    if not math.isfinite(difference.mean):
        return "–"
    return f"{difference.mean:+.{digits}f} [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
