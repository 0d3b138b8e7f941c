"""HTML of the audition page: one file that plays the sounds beside it, without a server."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from distill.storage.files import write_bytes

VERDICTS = {
    "new": "new: no more similar to a training recording than held-out recordings are",
    "close": "close: more similar to a training recording than 97.5 % of held-out recordings",
    "copy": "copy: repeats a training recording",
}


def write_page(path: Path, metrics: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page for the rows and figures of `report.json`."""
    template = Template(files("distill.generate").joinpath("audition.html").read_text(encoding="utf-8"))
    sounds = "\n".join(_section(number, row) for number, row in enumerate(rows))
    write_bytes(path, template.substitute(summary=_summary(metrics), sounds=sounds).encode("utf-8"))


def _section(number: int, row: Mapping[str, Any]) -> str:
    verdict = str(row["verdict"])
    label = f", {row['label']}" if row["label"] else ""
    facts = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in _facts(row))
    return f"""<section>
<h2>Sound {number}{escape(label)} <span class="verdict {escape(verdict)}">{escape(VERDICTS[verdict])}</span></h2>
<div class="players">
<label>generated, {row["seconds"]:.2f} s <audio controls preload="none" src="{escape(row["file"])}"></audio></label>
<label>nearest in training: {escape(str(row["nearest_path"]))} <audio controls preload="none" src="{escape(row["nearest_file"])}"></audio></label>
</div>
<img loading="lazy" src="{escape(row["picture"])}" alt="spectrograms of sound {number} and of the nearest training recording">
<img loading="lazy" src="{escape(row["codes_picture"])}" alt="codes of sound {number}">
<table>
<tr><th></th><th>codes</th><th>spectra</th></tr>
{facts}
</table>
</section>"""


def _facts(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    codes, spectra = row["codes"], row["spectra"]
    alignment = (f"{codes['likeness']:.0%} of codes equal", f"{spectra['difference_db']:.1f} dB apart")
    both = [(name, *(show(space[key]) for space in (codes, spectra))) for name, key, show in _SHARED]
    return [("nearest recording", codes["nearest"], spectra["nearest"]), ("best alignment", *alignment), *both]


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _share(value: float) -> str:
    return f"{value:.0%}"


_SHARED = (
    ("longest copied run", "copied_seconds", _seconds),
    ("edit distance", "edit_distance", _share),
    ("novelty percentile", "percentile", _share),
)


def _summary(metrics: Mapping[str, float]) -> str:
    lines = [
        f"{metrics['sounds']:.0f} sounds: {metrics['new']:.0f} new, {metrics['close']:.0f} close, "
        f"{metrics['copies']:.0f} copies of training recordings.",
        f"Mean length {metrics['mean_seconds']:.2f} s; held-out recordings {metrics['held_out_mean_seconds']:.2f} s.",
        f"Mean novelty percentile {metrics['mean_percentile_codes']:.0%} in codes, "
        f"{metrics['mean_percentile_spectra']:.0%} in spectra: the share of held-out recordings that are less similar to a "
        "training recording. 50 % is as new as held-out recordings; near 100 % the model repeats its training recordings.",
    ]
    if "kernel_distance" in metrics:
        lines.append(
            f"Kernel distance to held-out recordings {metrics['kernel_distance']:.1f}; as many training recordings have "
            f"{metrics['kernel_distance_null_mean']:.1f} ± {metrics['kernel_distance_null_deviation']:.1f}."
        )
    if "diversity" in metrics:
        lines.append(
            f"Diversity (Vendi score, the effective number of different sounds) {metrics['diversity']:.1f}; as many "
            f"training recordings have {metrics['diversity_of_recordings']:.1f}."
        )
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)
