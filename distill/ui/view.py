"""HTML of what the page shows: progress, tables, notes. All text from files is escaped."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from distill.training.events import LOW_UTILIZATION
from distill.ui.charts import line_chart
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
    parts = [f'<p class="state {state}" role="status">{head}</p>']
    if state == "running":
        parts.append(_task(job.progress))
    elif state in ("refused", "defect"):
        text = job.message if state == "refused" else "this is a defect of Distill; its report is in " + job.folder.name
        parts.append(note(text, "alarm"))
    return "".join(parts)


def _task(now: Mapping[str, Any]) -> str:
    """The task at work, of a status."""
    label, total, done, left = (now.get(key) for key in ("label", "total", "done", "seconds_left"))
    what = escape(TASKS.get(label or "", label or "starting"))
    time = f", about {duration(left)} left of this step" if _is_finite(left) else ""
    bar = f'{what}: {done} of {total}{time}<progress max="{total}" value="{done}"></progress>'
    text = f'<p class="small">{escape(now["text"])}</p>' if now.get("text") else ""
    return (f'<label class="progress">{bar}</label>' if total else f"<p>{what} …</p>") + text


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
    rows += [
        ("near-duplicates", ", ".join(group["paths"]), "alike: they share a side of the split")
        for group in report["groups"][:MOST_ROWS]
    ]
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
    return line_chart("Codec: loss", _lines(metrics, names), "epoch", _best(metrics))


def prior_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Charts of the prior by epoch, the best epoch marked."""
    best = _best(metrics)
    bits = line_chart("Prior: bits per second", _lines(metrics, {"val_bits_per_second": "held out"}), "epoch", best)
    perplexity = line_chart("Prior: perplexity", _lines(metrics, {"val_perplexity": "held out"}), "epoch", best)
    loss = line_chart(
        "Prior: loss", _lines(metrics, {"train_loss": "training", "val_loss": "validation"}), "epoch", best
    )
    return perplexity + bits + loss


def _best(metrics: Sequence[Mapping[str, Any]]) -> tuple[float, str] | None:
    scored = [one for one in metrics if _is_finite(one.get("val_loss"))]
    if not scored:
        return None
    epoch = int(min(scored, key=lambda one: one["val_loss"])["epoch"]) + 1
    return epoch, f"best epoch {epoch}"


def _lines(metrics: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    return {
        shown: [(one["epoch"] + 1, float(one[name])) for one in metrics if _is_finite(one.get(name))]
        for name, shown in names.items()
    }


def _is_finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)
