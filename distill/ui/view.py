"""HTML of what the page shows: progress, tables, notes, charts. All text from files is escaped."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard
from urllib.parse import quote

from distill.audio.source import left_out_line, not_entered_line
from distill.params import default_params
from distill.progress import STATUS
from distill.text import several
from distill.training.events import HEALTH, kept_weights
from distill.ui.jobs import Job
from distill.verbs import VERBS

STATES = {
    "running": "at work",
    "done": "done",
    "refused": "refused",
    "interrupted": "cancelled",
    "defect": "failed",
    "gone": "stopped from outside; what was done is saved",
}
TASKS = {
    "ingest": "reading recordings",
    "fit": "preparing the codec",
    "codec": "training the codec",
    "encode": "encoding",
    "prior": "training the prior",
    **{verb.name: verb.doing for verb in VERBS.values()},
    "pictures": "drawing pictures",
}
CHARTS = (
    (
        "codec",
        "Codec: loss",
        {"train_loss": "training", "val_loss": "validation", "train_commit_loss": "commitment"},
    ),
    ("prior", "Prior: perplexity", {"val_perplexity": "held out"}),
    ("prior", "Prior: bits per second", {"val_bits_per_second": "held out"}),
    ("prior", "Prior: loss", {"train_loss": "training", "val_loss": "validation"}),
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str = "") -> str:
    """A table, or without rows the note `nothing`; cells are text.

    In a narrow window rows of many columns are lists, each cell after the name of its column.
    """
    if not rows:
        return note(nothing)
    headings = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    kind, openings = "wide", ["<td>"] * len(head)
    if len(head) > 5:  # columns, more than a narrow window shows side by side
        kind, openings = "wide many", [f'<td data-name="{escape(name)}">' for name in head]
    body = ""
    for row in rows:
        cells = [
            opening + escape(str(text)) + "</td>"
            for opening, text in zip(openings, row, strict=True)
        ]
        body += f"<tr>{''.join(cells)}</tr>"
    return f'<div class="{kind}"><table><thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table></div>'


def note(text: str, kind: str = "note") -> str:
    """A sentence in a box: kind `note`, `warning` or `alarm`."""
    role = "alert" if kind == "alarm" else "status"
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>' if text else ""


def address(path: Path) -> str:
    """Where Gradio serves a file; another one after it has changed, so that no browser shows the old one."""
    return f"gradio_api/file={quote(path.as_posix())}?{path.stat().st_mtime_ns if path.exists() else 0}"


def player(path: Path, label: str) -> str:
    """A player of a sound with its name."""
    sound = f'<audio controls preload="none" src="{address(path)}"></audio>'
    return f'<label class="player">{escape(label)}{sound}</label>'


def picture(path: Path, label: str) -> str:
    """A picture, loaded when it is seen."""
    return f'<img loading="lazy" src="{address(path)}" alt="{escape(label)}">'


def progress(job: Job, nothing: str) -> str:
    """State of a job: its task, its time, and how it ended; the note `nothing` without a job."""
    if not job.kind:
        return note(nothing)
    state = job.state
    said = STATES[state]
    if state == "running" and job.is_cancelled:
        said = "cancelling; what was done is saved first"
    if state == "interrupted" and "is saved" in job.message:
        said += "; what was done is saved"
    time = {"done": f" in {clock(job.seconds)}", "running": f", {clock(job.seconds)}"}.get(
        state, ""
    )
    title = f"<strong>{escape(job.title)}</strong>: {escape(said)}{time}"
    shown = f'<p class="state {state}" role="status" data-job="{job.id}">{title}</p>'
    if state == "running":
        return shown + _bar(job.read(STATUS))
    defect = f"this is a defect of Distill; its report is in {job.id}"
    return shown + note({"refused": job.message, "defect": defect}.get(state, ""), "alarm")


def clock(seconds: float) -> str:
    """A time in words: "0.4 s", "12 s", "3:05"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return str(timedelta(seconds=round(seconds))).removeprefix("0:").lstrip("0")


def _bar(status: Mapping[str, Any]) -> str:
    """The bar of the task at work in percent, with the time left."""
    label, total, done, left = (
        status.get(key) for key in ("label", "total", "done", "seconds_left")
    )
    task = escape(TASKS.get(label or "", label or "starting"))
    if not total:
        return f"<p>{task} …</p>"
    time = f", about {clock(left)} left" if _is_finite(left) and done < total else ""
    text = (
        f", {escape(str(status.get('text')))}" if label == "kit" else ""
    )  # whose sounds come all at the end
    return f'<label class="progress">{task}: {done / total:.0%}{time}{text}<progress max="{total}" value="{done}"></progress></label>'


def learned(job: Job) -> str:
    """Summary of a finished training from its command's JSON; "" if it has not ended well."""
    made = job.report
    if "model" not in made:
        return ""
    sound = f", {clock(made['seconds'])} of sound" if "seconds" in made else ""
    trained = (
        {"prior": made} if job.kind == "prior" else {"codec": made, "prior": made.get("prior", {})}
    )
    weights = "; ".join(
        f"{name}: {kept_weights(of['best_epoch'], of['epochs_trained'])}"
        for name, of in trained.items()
        if of
    )
    warnings = "".join(note(text, "warning") for text in made.get("warnings") or [])
    model = escape(Path(made["model"]).name)
    return f"<p>It learned {several(made['recordings'], 'recording')}{sound}. The model is <strong>{model}</strong>.</p><p>{weights}</p>{warnings}"


def previews(job: Job) -> str:
    """Players of held-out recordings and their reconstructions by the best weights so far."""
    rows, names = "", job.read("previews/names.json")
    for path in sorted((job.folder / "previews").glob("preview_*_original.wav")):
        decoded = path.with_name(path.name.replace("_original.wav", "_best.wav"))
        name = names.get(path.name, "recording")
        players = f"{player(path, f'{name}, as it is')}{player(decoded, f'{name}, from codes')}"
        rows += f'<div class="players">{players}</div>'
    return f"<h2>Held-out recordings, before and after the codec</h2>{rows}" if rows else ""


def ingest(report: Mapping[str, Any], tier: str = "") -> str:
    """Report on a folder of recordings: counts, rejected files with reasons, near-duplicates.

    With the `tier` of a codec, also how many codewords its codebooks have by the number of usable recordings.
    """
    if not report:
        return ""
    counts = report["counts"]
    facts = [
        f"{counts['used']} used, {counts['warned']} used with a warning, {counts['rejected']} rejected, "
        f"{counts['duplicates']} exact copies left out, {counts['near_duplicates']} near-duplicates",
        f"{report['seconds']:.1f} s of sound",
        report.get("sample_rate_reason"),
        left_out_line(report.get("left_out", {})),
        not_entered_line(
            (folder["path"], folder["reason"]) for folder in report.get("skipped_folders", [])
        ),
    ]
    line = "; ".join(filter(None, facts)) + (_codewords(counts, tier) if tier else "")
    most = 100  # recordings of a kind
    rows = [
        (kind, row["path"], row["reason"])
        for kind in ("rejected", "warned")
        for row in report[kind][:most]
    ]
    alike = "alike: one side of the split where others can be held out"
    rows += [
        ("near-duplicates", ", ".join(group["paths"]), alike) for group in report["groups"][:most]
    ]
    return f"<h2>Recordings</h2><p>{escape(line)}</p>{table(('', 'recording', 'reason'), rows)}"


def _codewords(counts: Mapping[str, int], tier: str) -> str:
    usable, params = (
        counts["audio_files"] - counts["rejected"] - counts["duplicates"],
        default_params(tier=tier),
    )
    size, preset = params.vqvae_config(usable).codebook_size, params.tier_name(usable)
    return f". {usable} usable recordings: {size} codewords in each shape level, by the preset {preset}"


def health(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Codebook health of the last of the codec's epochs, a row for each level; those that training warns of are marked."""
    if not epochs:
        return ""
    last, rows = epochs[-1], []
    warned = {warning.partition(":")[0] for warning in last["utilization_warnings"]}
    for level, health_of in zip(
        last.get("level_names", ()), last["codebook_health"].values(), strict=False
    ):
        used, perplexity, dead = (
            value if _is_finite(value) else 0.0 for value in map(health_of.get, HEALTH)
        )
        rows.append(
            (level, f"{used:.0%}" + " ⚠" * (level in warned), f"{perplexity:.1f}", f"{dead:.0f}")
        )
    title = f"<h2>Codebooks on held-out recordings, epoch {int(last['epoch']) + 1}</h2>"
    return title + table(("level", "utilisation", "perplexity", "dead codes"), rows) if rows else ""


def charts(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    kept: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Charts of the metrics of tasks, a record for each epoch, and the epochs that trainings which have ended keep."""
    return "".join(
        chart(title, metrics[task], names, kept.get(task)) for task, title, names in CHARTS
    )


def _is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)


Points = list[tuple[float, float]]  # epoch and value


def chart(
    title: str,
    metrics: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    kept: int | None = None,
) -> str:
    """A chart of metrics by epoch, as SVG in the page's colours: `names` are the metrics and what their lines are called.

    Epoch 0 is before training. A vertical line marks the epoch that is `kept`, from -1 as in records, or, while
    training runs, the epoch with the lowest `val_loss`. A dot ends each line; the legend has its value there.
    """
    lines = {shown: points for name, shown in names.items() if (points := _points(metrics, name))}
    if not lines:
        return ""
    epochs, values = zip(*(point for points in lines.values() for point in points), strict=True)
    first, last, low, high = min(epochs), max(epochs), min(values), max(values)
    width, height = 640, 260
    left, right, top, bottom = 56, 628, 14, 226

    def x(epoch: float) -> str:
        return f"{left + (epoch - first) / max(last - first, 1) * (right - left):.1f}"

    def y(value: float) -> str:
        return f"{bottom - (value - low) / (high - low or 1.0) * (bottom - top):.1f}"

    parts, legend = [], {}
    for value in _ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value)}" y2="{y(value)}"/>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{y(value)}" dy="4" text-anchor="end">{value:.4g}</text>'
        )
    for epoch in sorted(
        {first, last, *(tick for tick in _ticks(first, last) if tick == round(tick))}
    ):
        anchor = "end" if epoch == last else "start" if epoch == first else "middle"
        is_near_end = (
            0 < last - epoch < (last - first) / 8 or 0 < epoch - first < (last - first) / 8
        )
        word = "epoch " * (epoch in (first, last))
        if not is_near_end:
            parts.append(
                f'<text x="{x(epoch)}" y="{height - 8}" text-anchor="{anchor}">{word}{epoch:g}</text>'
            )
    losses = [
        (loss, epoch) for epoch, loss in _points(metrics, "val_loss") if first <= epoch <= last
    ]
    if losses:
        best = min(losses)[1] if kept is None else kept + 1
        title += f", {'best' if kept is None else 'kept'}: {f'epoch {best}' if best else 'before training'}"
        parts.append(f'<line class="mark" x1="{x(best)}" x2="{x(best)}" y1="{top}" y2="{bottom}"/>')
    for number, (name, points) in enumerate(lines.items(), 1):
        colour, (epoch, value) = f"var(--d-{number})", points[-1]
        path = " ".join(f"{x(epoch)},{y(value)}" for epoch, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="2" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x(epoch)}" cy="{y(value)}" r="4" fill="{colour}"/>')
        legend[f"{name}: {value:.3g}"] = f'<span style="color: {colour}">━</span>'
    samples = "".join(f"<span>{sample} {escape(text)}</span>" for text, sample in legend.items())
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape("; ".join([title, *legend]))}">'
        f'{"".join(parts)}</svg><div class="legend">{samples}</div></figure>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two, both within: three to six; one where they are equal."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _points(metrics: Sequence[Mapping[str, Any]], name: str) -> Points:
    return [(epoch["epoch"] + 1, epoch[name]) for epoch in metrics if _is_finite(epoch.get(name))]
