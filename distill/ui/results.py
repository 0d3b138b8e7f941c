"""Results of commands: cards of the sounds that they made, and keys that play the sounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from distill.ui import keyboard, view
from distill.ui.jobs import NO_JOB, OTHERS, Job, read_end
from distill.ui.worker import STDOUT
from distill.ui.workspace import Workspace

NEAREST = "_nearest"  # ends the name of a sound's nearest recording


def rows_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a command's JSON report, one for each sound."""
    return [row for kind in ("sounds", "takes", "steps") for row in report.get(kind, [])]


class Results:
    """Sounds that the jobs of a working folder have made."""

    def __init__(self, work: Workspace) -> None:
        self._work = work

    def folder(self, job: Job) -> Path:
        """Folder of a job's sounds."""
        return self._work.generated / job.id

    def jobs(self, also: str | None) -> list[Job]:
        """Jobs that have made something, newest first, and the job with the id `also`."""
        return [job for job in self._all() if job.id == also or self._has_sounds(job)]

    def newest(self) -> str | None:
        """Id of the newest job, or None."""
        return next((job.id for job in self._all()), None)

    def job(self, name: str | None) -> Job:
        """The job with this id if it has made something, otherwise the newest job before it that has, or NO_JOB."""
        until_then = (job for job in self._all() if job.id <= (name or ""))
        return next(filter(self._has_sounds, until_then), NO_JOB)

    def _all(self) -> list[Job]:
        return self._work.jobs.all(*OTHERS)

    def _has_sounds(self, job: Job) -> bool:
        return job.state == "done" or bool(self._files(job))

    def _files(self, job: Job) -> list[Path]:
        """Sounds that a job has made until now; all sounds of a kit come together, at its end."""
        paths = sorted(self.folder(job).glob("*.wav"))
        return [path for path in paths if not path.stem.endswith(NEAREST)]

    def html(self, job: Job) -> tuple[str, str]:
        """Keys that play the sounds of a job, and a card for each sound or for a kit."""
        if not job.kind:
            return "", ""
        folder, report = self.folder(job), job.read(STDOUT)
        warnings = "".join(view.note(text, "warning") for text in job.warnings)
        head = f'<h2 data-job="{job.id}">{escape(job.title)}</h2>{warnings}'
        if job.kind == "kit":
            text = self._work.check_inside(folder / "kit.txt")
            return keyboard.of_kit(folder, report), head + _kit_card(folder, text)
        rows = rows_of(report) or [{"file": path.name} for path in self._files(job)]
        paths = [folder / Path(row["file"]).name for row in rows]
        names = names_of(len(rows), report.get("columns"))
        cards = "".join(_cards(report, rows, paths, names))
        body = f'{head}{_summary(report, rows)}<div class="cards">{cards}</div>'
        if "columns" in report:
            return keyboard.of_grid(paths, names, report["columns"]), body
        return keyboard.of_sounds(paths, rows), body


def names_of(count: int, columns: int | None) -> list[str]:
    """Names of sounds: numbers, or in a morph of a single row the percentage of the way to the last recording."""
    if columns == count > 1:
        return [f"{number / (count - 1):.0%}" for number in range(count)]
    return [f"sound {number}" for number in range(1, count + 1)]


def _summary(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Seed and remarks of a command, and a box that orders the cards if their likeness differs."""
    parts = (report.get(name) or {} for name in ("tuning", "loudness", "faults"))
    remarks = [line for part in parts for line in part.get("in_words", [])]
    lines = [f"<p>{escape(line)}</p>" for line in [*remarks, *report.get("remarks", [])]]
    if report.get("seed") is not None:
        lines.insert(0, f"<p>seed {report['seed']}</p>")
    if len(set(map(_likeness, rows))) > 1:
        # Where the box is checked, the page's style sheet puts the cards in order.
        box, label = '<input type="checkbox">', "Most like your recordings first"
        lines.append(f'<label class="by-likeness">{box} {label}</label>')
    return view.note(report.get("untrained", "")) + "".join(lines)


def _likeness(row: Mapping[str, Any]) -> float:
    """Proportion of held-out recordings that the critic scores lower, or 0."""
    likeness: float = row.get("above_recordings", 0.0)
    return likeness


def _cards(
    report: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    paths: Sequence[Path],
    names: Sequence[str],
) -> Iterator[str]:
    """Cards of the sounds that are still there."""
    unknown = "Novelty unknown: the model has no codes of its recordings."
    remark = unknown if report and "untrained" not in report else ""
    in_order = sorted(map(_likeness, rows), reverse=True)
    for row, path, name in zip(rows, paths, names, strict=True):
        if path.is_file():
            yield Card(path, name, row, in_order.index(_likeness(row)), remark).html()


@dataclass(frozen=True)
class Card:
    """Card of a sound: verdict, players, spectrogram and buttons."""

    path: Path
    name: str
    row: Mapping[str, Any]  # of the JSON report, or only the file while the command runs
    rank: int  # from 0, by likeness to the recordings
    remark: str  # in place of a verdict

    def html(self) -> str:
        """The card as HTML."""
        file, address = escape(self.path.name), view.address(self.path)
        words = escape(". ".join(filter(None, self._sentences())))
        return (
            f'<section class="card" style="--rank: {self.rank}" draggable="true" data-file="{file}" '
            f'data-address="{address}"><p>{words}</p>{self._verdict()}{self._media()}<div class="buttons">'
            f'<button type="button" data-keys="{address}" aria-label="Play on keys: {self.name}">On keys</button>'
            f"{self._button('discard', 'Discard')}{self._button('vary', 'Variations')}"
            f'<a href="{address}" download>Download</a></div></section>'
        )

    def _sentences(self) -> Iterator[str]:
        row = self.row
        if own := row.get("similarity"):
            yield f"{1 - own['equal_codes']:.0%} of codes changed, {own['coding_db']:.1f} dB by coding alone"
        yield row.get("heard", "")
        if faults := row.get("faults"):
            yield f"Faulty: {', '.join(faults)}"
        yield row.get("like_recordings", "")
        if not row.get("explanation"):
            yield self.remark

    def _verdict(self) -> str:
        """Verdict, which unfolds to its explanation; "" if novelty is unknown."""
        if not self.row.get("explanation"):
            return ""
        verdict, short = escape(self.row["novelty"]["verdict"]), escape(self.row["short"])
        summary = f'<summary class="verdict {verdict}">{short}</summary>'
        return f"<details>{summary}{escape(self.row['explanation'])}</details>"

    def _media(self) -> str:
        """Players of the sound and of its nearest recording, and the spectrogram, as far as they are there."""
        nearest = self.path.with_stem(f"{self.path.stem}{NEAREST}")
        picture = self.path.with_suffix(".png")
        length = f", {self.row['seconds']:.2f} s" if "seconds" in self.row else ""
        html = view.player(self.path, f"{self.name}{length}")
        if nearest.is_file():
            html += view.player(nearest, "its nearest training recording")
        if picture.is_file():
            html += view.picture(picture, f"spectrogram of {self.name}")
        return html

    def _button(self, action: str, text: str) -> str:
        return (
            f'<button type="button" data-do="{action}" data-sound="{escape(self.path.name)}" '
            f'aria-label="{text}: {self.name}">{text}</button>'
        )


def _kit_card(folder: Path, text: Path) -> str:
    path = folder / "kit.png"
    picture = view.picture(path, "picture of the kit") if path.is_file() else ""
    sounds = [view.player(path, path.stem) for path in sorted((folder / "samples").glob("*.wav"))]
    return (
        f'{picture}<details><summary>Hear its {len(sounds)} sounds</summary><div class="players">{"".join(sounds)}</div>'
        f'</details><pre class="wide">{escape(read_end(text))}</pre>'
    )
