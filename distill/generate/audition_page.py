"""HTML of the audition page: one file that plays the sounds beside it, without a server."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from distill.storage.files import write_bytes

Row = Mapping[str, Any]
Space = Mapping[str, Any]


def write_page(path: Path, figures: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write the page for the rows and figures of `report.json`."""
    template = Template(files("distill.generate").joinpath("audition.html").read_text(encoding="utf-8"))
    sounds = "\n".join(_section(number, row) for number, row in enumerate(rows))
    write_bytes(path, template.substitute(summary=_summary(figures), sounds=sounds).encode("utf-8"))


def _section(number: int, row: Row) -> str:
    verdict = escape(str(row["verdict"]))
    label = f", {row['label']}" if row["label"] else ""
    return f"""<section>
<h2>Sound {number}{escape(label)} <span class="badge {verdict}">{verdict}</span></h2>
<p class="verdict">{escape(str(row["explanation"]))}.{_faults(row)}</p>
<div class="players">
<label>the new sound, {row["seconds"]:.2f} s <audio controls preload="none" src="{escape(row["file"])}"></audio></label>
<label>your nearest recording, {escape(str(row["nearest_path"]))} <audio controls preload="none" src="{escape(row["nearest_file"])}"></audio></label>
</div>
<img loading="lazy" src="{escape(row["picture"])}" alt="spectrograms of sound {number} and of the nearest training recording">
<details>
<summary>Figures and codes</summary>
<table>
<thead><tr><th scope="col">term</th><th scope="col">in codes</th><th scope="col">in spectra</th></tr></thead>
{_terms(row)}
</table>
<img loading="lazy" src="{escape(row["codes_picture"])}" alt="codes of sound {number}">
</details>
</section>"""


def _faults(row: Row) -> str:
    return f" Faulty: {escape(', '.join(row['faults']))}." if row["faults"] else ""


def _terms(row: Row) -> str:
    """A body for each term: its two figures, and below them what it means."""
    bodies = []
    for term, in_codes, in_spectra, meaning in TERMS:
        cells = f"<td>{escape(in_codes(row['codes']))}</td><td>{escape(in_spectra(row['spectra']))}</td>"
        bodies.append(
            f'<tbody><tr><th scope="row">{escape(term)}</th>{cells}</tr>'
            f'<tr class="meaning"><td colspan="3">{escape(meaning)}</td></tr></tbody>'
        )
    return "\n".join(bodies)


def _both(key: str, show: Callable[[float], str]) -> tuple[Callable[[Space], str], Callable[[Space], str]]:
    return (lambda space: show(space[key])), (lambda space: show(space[key]))


def _name(space: Space) -> str:
    return str(space["nearest"])


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _share(value: float) -> str:
    return f"{value:.0%}"


TERMS: tuple[tuple[str, Callable[[Space], str], Callable[[Space], str], str], ...] = (
    ("nearest recording", _name, _name, "The training recording that is most like the sound, wherever the two lie."),
    (
        "best alignment",
        lambda space: f"{space['likeness']:.0%} equal",
        lambda space: f"{space['difference_db']:.1f} dB apart",
        "Laid over that recording where they agree most: the share of codes that are the same, and the mean difference "
        "of the spectra.",
    ),
    (
        "longest copied run",
        *_both("copied_seconds", _seconds),
        "The longest stretch without a gap that is as in some training recording.",
    ),
    (
        "edit distance",
        *_both("edit_distance", _share),
        "The share of the sound's frames to replace, leave out or insert until it is a passage of that recording: 0% is "
        "a copy, 100% has nothing in common with it.",
    ),
    (
        "novelty percentile",
        *_both("percentile", _share),
        "The share of held-out recordings, which the model never heard, that are less like a training recording: 50% is "
        "as new as they are, near 100% is suspicious.",
    ),
)


def _summary(figures: Mapping[str, Any]) -> str:
    lines = [
        f"{figures['sounds']:.0f} sounds: {figures['new']:.0f} new, {figures['close']:.0f} close, "
        f"{figures['copies']:.0f} copies of training recordings.",
        f"Mean length {figures['mean_seconds']:.2f} s; held-out recordings, which the model never heard, "
        f"{figures['held_out_mean_seconds']:.2f} s.",
        f"On average {figures['mean_percentile_codes']:.0%} (in codes) and {figures['mean_percentile_spectra']:.0%} (in "
        "spectra) of the held-out recordings are less like a training recording than a sound of these. 50% is as new as "
        "held-out recordings; near 100% the model repeats what it learned.",
        f"{_sentence(str(figures['kernel_distance_in_words']))} The distance is small where the sounds as a set are like "
        "your recordings.",
    ]
    if "diversity" in figures:
        lines.append(
            f"Diversity (Vendi score, the effective number of different sounds) {figures['diversity']:.1f}; as many "
            f"training recordings have {figures['diversity_of_recordings']:.1f}."
        )
    lines += [line.strip() for line in figures["faults"]["in_words"]]
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
