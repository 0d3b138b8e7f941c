"""Parts of README from the last `make repro`: its summary, and a picture of recordings next to new sounds.

`python docs/readme_parts.py`, run from the repository's root, writes both.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.figure import Figure
from numpy.typing import NDArray

from distill.audio.plots import FLOOR_DB, spectrogram_db
from distill.code_version import CODE
from distill.params import load_params
from stages.ops.summary import run_log, summarise
from stages.running import AUDITION, PARAMS

README, PICTURE = Path("README.md"), Path("docs/spectrograms.png")
MARKS = "<!-- summary -->\n```\n", "```\n<!-- end -->"
PAIRS = 4
Sound = NDArray[np.float32]


def summary() -> str:
    """Last output of `make repro`, as on a terminal of 80 columns. It has to have run all stages."""
    stages = ["prepare", *CODE]
    last = run_log()[-len(stages) :]
    ran = [entry["stage"] for entry in last]
    if ran != stages:
        raise SystemExit(
            f"README: expected a run of all stages, found that {', '.join(ran)} ran last; remove artifacts, .distill and "
            ".dvc/cache, and run make repro"
        )
    os.environ["COLUMNS"] = "80"
    seconds = last[-1]["started"] + last[-1]["seconds"] - last[0]["started"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        summarise(load_params(PARAMS), last, seconds)
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().strip().splitlines())


def write_picture(path: Path) -> None:
    """Recordings above, below each the new sound that it is nearest to: the longest ones, no recording twice."""
    report = json.loads((AUDITION / "report.json").read_text(encoding="utf-8"))
    pairs: dict[str, tuple[Sound, Sound, int]] = {}
    for entry in sorted(report["generated"], key=lambda sound: -float(sound["seconds"])):
        new, rate = soundfile.read(AUDITION / entry["file"], dtype="float32")
        recording, _ = soundfile.read(AUDITION / entry["nearest_file"], dtype="float32")
        pairs.setdefault(Path(entry["nearest_path"]).stem, (recording, new, rate))
    chosen = list(pairs.items())[:PAIRS]
    figure = Figure(figsize=(10.0, 4.4), dpi=100, layout="constrained")
    axes = figure.subplots(2, PAIRS, sharey=True)
    for column, (name, (recording, new, rate)) in enumerate(chosen):
        seconds = max(len(recording), len(new)) / rate
        for axis, samples in zip(axes[:, column], (recording, new), strict=True):
            levels = spectrogram_db(
                np.pad(samples, (0, round(seconds * rate) - len(samples))), rate
            )
            frequencies = np.linspace(0, rate / 2000, len(levels))
            times = np.linspace(0, seconds, levels.shape[1])
            axis.pcolormesh(
                times, frequencies, levels, cmap="magma", vmin=FLOOR_DB, vmax=0, rasterized=True
            )
            axis.set_yscale("asinh", linear_width=0.7)
            axis.set_yticks([0, 0.5, 1, 2, 5, 10], ["0", "0.5", "1", "2", "5", "10"])
            axis.set_ylim(0, frequencies[-1])
            axis.tick_params(labelsize=7)
        axes[0, column].set_title(name.replace("_", " "), fontsize=9, loc="left")
        axes[1, column].set_xlabel("seconds", fontsize=8)
    axes[0, 0].set_ylabel("your recording\nkHz", fontsize=9)
    axes[1, 0].set_ylabel("a new sound\nkHz", fontsize=9)
    figure.savefig(path, format="png")


def main() -> None:
    """Write both."""
    before, after = map(re.escape, MARKS)
    block = MARKS[0] + summary() + MARKS[1]
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(f"{before}.*?{after}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8"
    )
    write_picture(PICTURE)


if __name__ == "__main__":
    main()
