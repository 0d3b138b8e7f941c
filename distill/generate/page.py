"""The audition page: one HTML file that plays sounds lying beside it, without a server."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from distill.files import write_bytes

VERDICTS = {
    "new": "new: no closer to a training recording than held-out recordings are",
    "close": "close: closer to a training recording than 95 % of held-out recordings",
    "copy": "copy: repeats a training recording",
}


def write_page(path: Path, metrics: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page for the rows and figures of `report.json`."""
    template = Template(files("distill.generate").joinpath("audition.html").read_text(encoding="utf-8"))
    sounds = "\n".join(_section(number, row) for number, row in enumerate(rows))
    write_bytes(path, template.substitute(summary=_summary(metrics), sounds=sounds).encode("utf-8"))


def _section(number: int, row: Mapping[str, Any]) -> str:
    verdict = str(row["verdict"])
    details = (
        f"{row['seconds']:.2f} s; {row['agreement']:.0%} of its codes stand at the same place in the nearest training "
        f"recording, more than for {row['percentile']:.0%} of the held-out recordings; longest copied run "
        f"{row['copied_seconds']:.2f} s."
    )
    return f"""<section>
<h2>Sound {number} <span class="verdict {escape(verdict)}">{escape(VERDICTS[verdict])}</span></h2>
<p>{escape(details)}</p>
<div class="players">
<label>generated <audio controls preload="none" src="{escape(row["file"])}"></audio></label>
<label>nearest in training: {escape(str(row["nearest_path"]))} <audio controls preload="none" src="{escape(row["nearest_file"])}"></audio></label>
</div>
<img loading="lazy" src="{escape(row["picture"])}" alt="spectrograms of sound {number} and of the nearest training recording">
</section>"""


def _summary(metrics: Mapping[str, float]) -> str:
    lines = [
        f"{metrics['sounds']:.0f} sounds: {metrics['new']:.0f} new, {metrics['close']:.0f} close, "
        f"{metrics['copies']:.0f} copies of training recordings.",
        f"Mean length {metrics['mean_seconds']:.2f} s; held-out recordings {metrics['held_out_mean_seconds']:.2f} s.",
    ]
    if "kernel_distance" in metrics:
        lines.append(
            f"Kernel distance to held-out sound {metrics['kernel_distance']:.1f}; as many training recordings score "
            f"{metrics['kernel_distance_null_mean']:.1f} ± {metrics['kernel_distance_null_deviation']:.1f}."
        )
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)
