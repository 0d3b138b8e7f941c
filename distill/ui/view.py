"""HTML of what the page shows: progress, tables, notes, charts. All text from files is escaped."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from distill.audio.source import left_out_line
from distill.params import default_params
from distill.progress import STATUS
from distill.training.events import HEALTH
from distill.ui.jobs import Job

MOST_COLUMNS = 5  # that a narrow window shows side by side
MOST_ROWS = 100  # recordings of a kind in the report of a folder
STATES = {
    "running": "at work",
    "done": "done",
    "refused": "refused",
    "interrupted": "cancelled; what was done is saved",
    "defect": "failed",
    "gone": "stopped from outside; what was done is saved",
}
TASKS = {
    "ingest": "reading recordings",
    "codec": "training the codec",
    "encode": "encoding",
    "prior": "training the prior",
}
WIDTH, HEIGHT = 640, 260  # of a chart
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 34
COLOURS = ("var(--d-1)", "var(--d-2)", "var(--d-3)")  # of its lines
CHARTS = (
    ("codec", "Codec: loss", {"train_loss": "training", "val_loss": "validation", "train_commit_loss": "commitment"}),
    ("prior", "Prior: perplexity", {"val_perplexity": "held out"}),
    ("prior", "Prior: bits per second", {"val_bits_per_second": "held out"}),
    ("prior", "Prior: loss", {"train_loss": "training", "val_loss": "validation"}),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are text. In a narrow window rows of many columns are lists, each cell after the name of its column."""
    is_many = len(head) > MOST_COLUMNS
    cells = [f' data-name="{escape(name)}"' if is_many else "" for name in head]
    lines = ((f"<td{cell}>{escape(str(text))}</td>" for cell, text in zip(cells, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    headings = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    kind = "wide many" if is_many else "wide"
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


def progress(job: Job | None, nothing: str) -> str:
    """What a job does now, with the time left, or how it ended."""
    if job is None:
        return note(nothing)
    state = job.state
    head = f"<strong>{escape(job.title)}</strong>: {escape(STATES[state])}"
    shown = f'<p class="state {state}" role="status">{head}</p>'
    if state == "running":
        now = job.read(STATUS)
        label, total, done, left = (now.get(key) for key in ("label", "total", "done", "seconds_left"))
        what = escape(TASKS.get(label or "", label or "starting"))
        time = f", about {timedelta(seconds=round(left))} left of this step" if _is_finite(left) else ""
        bar = f'{what}: {done} of {total}{time}<progress max="{total}" value="{done}"></progress>'
        text = f'<p class="small">{escape(now["text"])}</p>' if now.get("text") else ""
        return shown + (f'<label class="progress">{bar}</label>' if total else f"<p>{what} …</p>") + text
    if state == "refused":
        return shown + note(job.message, "alarm")
    report = f"this is a defect of Distill; its report is in {job.folder.name}"
    return shown + (note(report, "alarm") if state == "defect" else "")


def previews(job: Job) -> str:
    """Players of held-out recordings and their reconstructions by the best weights so far."""
    rows = ""
    for path in sorted((job.folder / "previews").glob("preview_*_original.wav")):
        decoded = path.with_name(path.name.replace("_original.wav", "_best.wav"))
        rows += f'<div class="players">{player(path, "original")}{player(decoded, "reconstruction")}</div>'
    return f"<h3>Held-out recordings, before and after the codec</h3>{rows}" if rows else ""


def ingest(report: Mapping[str, Any], tier: str | None = None) -> str:
    """What was found in the folder of recordings: counts, rejected files with reasons, near-duplicates.

    For the codec of a `tier`, also how many codewords its codebooks have by the number of usable recordings.
    """
    if not report:
        return ""
    counts = report["counts"]
    line = (
        f"{counts['used']} used, {counts['warned']} used with a warning, {counts['rejected']} rejected, "
        f"{counts['duplicates']} exact copies left out, {counts['near_duplicates']} near-duplicates; "
        f"{report['seconds']:.1f} s of sound"
    )
    if reason := report.get("sample_rate_reason"):
        line += f"; {reason}"
    if left_out := left_out_line(report.get("left_out", {})):
        line += f"; {left_out}"
    if tier is not None:
        usable, params = counts["audio_files"] - counts["rejected"] - counts["duplicates"], default_params(tier=tier)
        codewords, preset = params.vqvae_config(usable).codebook_size, params.tier_name(usable)
        line += f". {usable} usable recordings: {codewords} codewords in each codebook, by the preset {preset}"
    rows = [(kind, one["path"], one["reason"]) for kind in ("rejected", "warned") for one in report[kind][:MOST_ROWS]]
    alike = [", ".join(group["paths"]) for group in report["groups"][:MOST_ROWS]]
    rows += [("near-duplicates", paths, "alike: one side of the split where others can be held out") for paths in alike]
    listed = table(("", "recording", "reason"), rows) if rows else ""
    return f"<h3>Recordings</h3><p>{escape(line)}</p>{listed}"


def health(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Codebook health of the last of the codec's epochs, a row for each level; those that training warns of are marked."""
    if not epochs:
        return ""
    last, rows = epochs[-1], []
    warned = {warning.partition(":")[0] for warning in last["utilization_warnings"]}
    for level, figures in zip(last.get("level_names", ()), last["codebook_health"].values(), strict=False):
        used, perplexity, dead = (float(one) if _is_finite(one) else 0.0 for one in map(figures.get, HEALTH))
        low = " ⚠" if level in warned else ""
        rows.append((level, f"{used:.0%}{low}", f"{perplexity:.1f}", f"{dead:.0f}"))
    title = f"<h3>Codebooks on held-out recordings, epoch {int(last['epoch']) + 1}</h3>"
    return title + table(("level", "utilisation", "perplexity", "dead codes"), rows) if rows else ""


def charts(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Charts of the metrics of tasks, a record for each epoch."""
    return "".join(chart(title, metrics[task], names) for task, title, names in CHARTS)


def _is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)


def chart(title: str, metrics: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """A chart of metrics by epoch, as SVG in the page's colours: `names` are the metrics and what their lines are called.

    A vertical line marks the epoch with the lowest `val_loss`. A dot ends each line; the legend has its value there.
    """
    lines = {
        shown: [(one["epoch"] + 1, float(one[name])) for one in metrics if _is_finite(one.get(name))]
        for name, shown in names.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    epochs, values = zip(*(point for points in lines.values() for point in points), strict=True)
    first, last, low, high = min(epochs), max(epochs), min(values), max(values)

    def at(epoch: float, value: float) -> tuple[str, str]:
        x = LEFT + (epoch - first) / max(last - first, 1) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (value - low) / (high - low or 1.0) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f}", f"{y:.1f}"

    parts = []
    for value in sorted({low, high}):
        _, y = at(first, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:.4g}</text>')
    for epoch, anchor in {last: "end", first: "start"}.items():
        parts.append(f'<text x="{at(epoch, low)[0]}" y="{HEIGHT - 8}" text-anchor="{anchor}">epoch {epoch}</text>')
    scored = [one for one in metrics if _is_finite(one.get("val_loss")) and first <= one["epoch"] + 1 <= last]
    if scored:
        best = min(scored, key=lambda one: one["val_loss"])["epoch"] + 1
        title += f", best epoch {best}"
        x, _ = at(best, low)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    legend = {}
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        places = [at(*point) for point in points]
        path, (x, y) = " ".join(map(",".join, places)), places[-1]
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="2" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        legend[f"{name}: {points[-1][1]:.3g}"] = f'<span style="color: {colour}">━</span>'
    named = "".join(f"<span>{sample} {escape(said)}</span>" for said, sample in legend.items())
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape("; ".join([title, *legend]))}">'
        f'{"".join(parts)}</svg><div class="legend">{named}</div></figure>'
    )
