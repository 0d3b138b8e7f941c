"""HTML of what the page shows: progress, tables, notes, charts. All text from files is escaped."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from distill.progress import STATUS
from distill.training.events import LOW_UTILIZATION
from distill.ui.jobs import Job

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
COLOURS = [f"var(--d-{number})" for number in range(1, 7)]
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 4")  # lines differ without their colours, too
TICKS = 4


def duration(seconds: float) -> str:
    """Seconds as words."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table; cells are text."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    cells = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    headings = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<div class="wide"><table>{title}<thead><tr>{headings}</tr></thead><tbody>{cells}</tbody></table></div>'


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
        time = f", about {duration(left)} left of this step" if _is_finite(left) else ""
        bar = f'{what}: {done} of {total}{time}<progress max="{total}" value="{done}"></progress>'
        text = f'<p class="small">{escape(now["text"])}</p>' if now.get("text") else ""
        return shown + (f'<label class="progress">{bar}</label>' if total else f"<p>{what} …</p>") + text
    if state == "refused":
        return shown + note(job.message, "alarm")
    report = f"this is a defect of Distill; its report is in {job.folder.name}"
    return shown + (note(report, "alarm") if state == "defect" else "")


def previews(pairs: Iterable[tuple[Path, Path]]) -> str:
    """Players of held-out recordings and their reconstructions."""
    rows = "".join(
        f'<div class="players">{player(original, "original")}{player(decoded, "reconstruction")}</div>'
        for original, decoded in pairs
    )
    return f"<h3>Held-out recordings, before and after the codec</h3>{rows}" if rows else ""


def ingest(report: Mapping[str, Any]) -> str:
    """What was found in the folder of recordings: counts, rejected files with reasons, near-duplicates."""
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
    rows = [(kind, one["path"], one["reason"]) for kind in ("rejected", "warned") for one in report[kind][:MOST_ROWS]]
    alike = [", ".join(group["paths"]) for group in report["groups"][:MOST_ROWS]]
    rows += [("near-duplicates", paths, "alike: they share a side of the split") for paths in alike]
    listed = table(("", "recording", "reason"), rows) if rows else ""
    return f"<h3>Recordings</h3><p>{escape(line)}</p>{listed}"


def health(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Codebook health of the last epoch, a row for each level."""
    if not metrics:
        return ""
    last = metrics[-1]
    levels = sorted({key.split("/")[1] for key in last if key.startswith("codebook/")})
    rows = []
    for level in levels:
        values = (last.get(f"codebook/{level}/{name}") for name in ("utilization", "perplexity", "dead_codes"))
        used, perplexity, dead = (float(value) if _is_finite(value) else 0.0 for value in values)
        low = " ⚠" if used < LOW_UTILIZATION else ""
        rows.append((level.replace("level_", ""), f"{used:.0%}{low}", f"{perplexity:.1f}", f"{dead:.0f}"))
    caption = f"Codebooks on held-out recordings, epoch {int(last['epoch']) + 1}"
    return table(("level", "utilisation", "perplexity", "dead codes"), rows, caption) if rows else ""


def codec_losses(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Chart of the codec's losses by epoch."""
    names = {"train_loss": "training", "val_loss": "validation", "train_commit_loss": "commitment"}
    return _chart("Codec: loss", metrics, names)


def prior_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Charts of the prior by epoch, the best epoch marked."""
    perplexity = _chart("Prior: perplexity", metrics, {"val_perplexity": "held out"})
    bits = _chart("Prior: bits per second", metrics, {"val_bits_per_second": "held out"})
    return perplexity + bits + _chart("Prior: loss", metrics, {"train_loss": "training", "val_loss": "validation"})


def _chart(title: str, metrics: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    lines = {
        shown: [(one["epoch"] + 1, float(one[name])) for one in metrics if _is_finite(one.get(name))]
        for name, shown in names.items()
    }
    scored = [one for one in metrics if _is_finite(one.get("val_loss"))]
    best = int(min(scored, key=lambda one: one["val_loss"])["epoch"]) + 1 if scored else None
    return line_chart(title, lines, "epoch", best)


def _is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)


def line_chart(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], x_label: str, best: float | None = None
) -> str:
    """A chart of lines, each of points (x, y), as SVG that follows the page's colours; a vertical line marks the best."""
    finite = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in lines.items()}
    drawn = {name: points for name, points in finite.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    first, last = min(xs), max(*xs, min(xs) + 1)
    margin = 0.05 * (max(ys) - min(ys)) or max(abs(max(ys)), 1e-6) * 0.05
    low, high = max(min(ys) - margin, 0.0 if min(ys) >= 0 else -math.inf), max(ys) + margin

    def at_x(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def text(x: float, y: float, anchor: str, said: str) -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'

    digits = 3 + max(0, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))))  # neighbouring ticks differ
    parts = [text(WIDTH / 2, HEIGHT - 4, "middle", x_label)]
    for share in (number / TICKS for number in range(TICKS + 1)):
        y = low + (high - low) * share
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(text(LEFT - 6, at_y(y) + 4, "end", f"{y:.{digits}g}"))
    for whole in sorted({round(first + (last - first) * number / TICKS) for number in range(TICKS + 1)}):
        if first <= whole <= last:
            parts.append(text(at_x(whole), HEIGHT - BOTTOM + 15, "middle", f"{whole:g}"))
    if best is not None and first <= best <= last:
        x, is_right = at_x(best), at_x(best) > WIDTH / 2
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(text(x + (-5 if is_right else 5), TOP + 8, "end" if is_right else "start", f"best epoch {best:g}"))
    legend = []
    for number, (name, points) in enumerate(drawn.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        style = f'stroke-width="2" stroke="{colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        if len(points) == 1:
            parts.append(f'<circle cx="{at_x(points[0][0]):.1f}" cy="{at_y(points[0][1]):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline points="{path}" fill="none" {style}/>')
        sample = f'<svg width="28" height="10"><line x1="0" x2="28" y1="5" y2="5" {style}/></svg>'
        legend.append(f"<span>{sample} {escape(name)}</span>")
    said = "; ".join(f"{name}: {points[-1][1]:.3g} at {x_label} {points[-1][0]:g}" for name, points in drawn.items())
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {said}")}">{"".join(parts)}</svg>'
        f'<div class="legend">{"".join(legend)}</div></figure>'
    )
