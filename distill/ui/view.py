"""HTML of what the page shows: progress, tables, notes. All text from files is escaped."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from distill.audio.source import left_out_line, not_entered_line
from distill.params import default_params
from distill.progress import STATUS
from distill.text import several
from distill.training.events import HEALTH, kept_weights
from distill.ui.chart import is_finite
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
    label = status.get("label", "starting")
    total, done, left = (status.get(key) for key in ("total", "done", "seconds_left"))
    task = escape(TASKS.get(label, label))
    if not total:
        return f"<p>{task} …</p>"
    time = f", about {clock(left)} left" if is_finite(left) and done < total else ""
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
    warnings = "".join(note(text, "warning") for text in made.get("warnings", []))
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
            value if is_finite(value) else 0.0 for value in map(health_of.get, HEALTH)
        )
        rows.append(
            (level, f"{used:.0%}" + " ⚠" * (level in warned), f"{perplexity:.1f}", f"{dead:.0f}")
        )
    title = f"<h2>Codebooks on held-out recordings, epoch {int(last['epoch']) + 1}</h2>"
    return title + table(("level", "utilisation", "perplexity", "dead codes"), rows) if rows else ""
