"""Reports of measurements: tables on the terminal, in Markdown and as JSON."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distill.storage.files import write_bytes

INTRODUCTION = """\
# Benchmarks

The codec is compared with two peers and Opus, and the prior with that of the original plan. All are trained and
measured in the same run. To repeat it on your own folders:

```sh
make bench CORPUS="folder other-folder" ARGS="--full --splits 3 --profile --sounds --memory --write docs/benchmarks.md"
make bench CORPUS="folder other-folder" ARGS="--prior --throughput --sampling --kills 20 --write docs/benchmarks.md"
```

`--seconds` sets the training time (120), `--json FILE` writes the figures of each recording,
`python -m benchmarks --help` lists the rest. On Linux the first run builds a dependency of ViSQOL, which needs a C++
compiler. Opus needs `opusenc` and `opusdec` (Debian's package opus-tools); without them its rows are left out. Only
`--write` writes the tables; each names the command that made it. `make listen` makes a page to judge by ear, in blind
A/B/X trials.

- **ours**: the codec of this repository with the settings of the corpus's tier, trained for a given time. The time of
  an epoch is measured first, so that the whole learning-rate schedule fits. **ours, full training**: all epochs of the
  tier.
- **no network**: PCA and residual k-means of the log-mel frames of the same training recordings, at our bitrate.
  Decoding is the pseudo-inverse of the mel filters and 32 iterations of Griffin-Lim (`benchmarks/baseline.py`).
- **original plan**: 2-D convolutions over log-mel spectrograms of one second, three codebooks, 128 iterations of
  Griffin-Lim, trained for as long as ours (`benchmarks/original.py`).
- **Opus 6, 12, 24**: Opus for music at that many kbit/s, variable. Bitrates in the tables are those of its packets,
  without the Ogg container (`benchmarks/opus.py`). It learns nothing from the corpus.

All are trained on the same recordings and evaluated on the same held-out ones, each whole (at most 10 s) and with
equal weight. Ours and the original plan keep the weights with the lowest held-out loss. Mel L1 is measured on
recordings that are padded with silence to whole frames of our codec, with Opus, too; all else without the padding.

The corpora:

- **sonic**: the 165 samples that come with Sonic Pi (drums, tabla, bass, loops, ambience; CC0).
- **digits**: 200 recordings of the Free Spoken Digit Dataset (two speakers, ten takes of each digit, 8 kHz; CC BY-SA
  4.0).
- **bd**: the 13 kick drums of sonic.
- **demo**: `data/demo`, the only one in this repository.

For labels the recordings of sonic and digits are in folders named after the first part of their names (bass, tabla,
...; the digit).

The original plan starts at random and from the corpus. Ours starts from principal components and codebooks of the
corpus and of synthetic sounds, and from decoder weights pretrained on synthetic sounds. Pre-training does not count as
training time.

- **mel L1**: L1 distance of log10-mel spectrograms at 7 scales, lower is better. Amplitudes below 1e-5 (-100 dB) count
  as 1e-5. It compares logarithms band by band, and so hardly hears level, peaks and attacks.
- **ViSQOL**: predicted mean opinion score in audio mode at 48 kHz, higher is better. Sounds are padded with silence,
  as its guidelines ask. Differences are more reliable than values: its model was fitted to higher bitrates and to
  sounds of 5 to 10 s. It can choose the wrong decoder: Mimi at 1.1 kbit/s has 1.84 with adversarial losses alone and
  2.82 with reconstruction losses, and listeners give the first 81 and the second 58.8 of 100 (MUSHRA,
  [arXiv 2410.00037](https://arxiv.org/abs/2410.00037)).
- **level**: energy of the whole sound. **absolute**: its mean without sign.
- **peak**: largest absolute sample.
- **attack**: time that the 2 ms envelope takes from 10 to 90 % of its peak, beside the original's.
- **envelope**: correlation of the 2 ms envelopes, 1 is best.
- **before attack**: energy in the 50 ms before the original's attack, as a share of the sound's: echoes ahead of a hit.
- **above 6 kHz**: energy of what lies there.
- **flutter**: how much more the level wavers (deviation from a line) in quarters of a second where the original is
  steady.
- **told apart**: share of right answers of a classifier that says which patches of 256 ms are originals and which
  decodes; .5 is chance. It is a linear one, on levels and differences of log-mel bands and of the 2 ms envelope, fitted
  to other recordings than those it is asked about (8 folds, near-duplicates in one). It never hears a pair. Compare
  within a corpus only: sounds without treble, say, lose nothing with it (`benchmarks/telling_apart.py`).
- **95 %**: bootstrap confidence interval over recordings of the difference ours - peer; an interval without 0 is
  significant.
- **3 splits**: everything is trained again with other held-out recordings, and compared over all of these. Recordings
  that are held out in two splits count twice.
- **prior**: `original plan` is `CodePrior` with the settings of its tier, trained on unmodified recordings and
  evaluated at its best epoch. **ours** is the default of this repository, on the same codes. Bits per second are the
  negative log-likelihood of held-out recordings, EOS included. **counting** has no network: how often each code occurs
  in training, after the coarser code of its frame, after the code of the frame before, and lately in the recording,
  mixed with weights for each level that are fitted on half of the training recordings.
- **x real time**: seconds of sound per second, medians of interleaved rounds. `distill encode`, `distill decode` and
  `encode_codes` process short sounds in batches; peers are called once for each sound.
"""
BLOCK = re.compile(r"\n<!-- (?!end)([^\n]+) -->\n.*?\n<!-- end -->\n", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A heading with a paragraph and tables. `key` identifies it in the Markdown file."""

    key: str
    title: str
    text: str
    tables: tuple["Grid", ...]


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def show(section: Section, console: Console) -> None:
    """Print a section on the terminal."""
    console.print(f"\n[bold]{section.title}[/bold]")
    console.print(section.text, markup=False, highlight=False)
    for grid in section.tables:
        table = Table(*grid.columns)
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)


def write_markdown(path: Path, sections: Sequence[Section]) -> None:
    """Write sections into the file; each replaces the one with the same key, other sections stay."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    blocks = {match.group(1): match.group(0) for match in BLOCK.finditer(text)}
    blocks |= {section.key: _block(section) for section in sections}
    text = INTRODUCTION + "".join(blocks.values())
    write_bytes(path, text.encode())


def write_json(path: Path, command: str, **found: Sequence[Any]) -> None:
    """Write all measurements, those of each recording included; NaN and infinite values become null."""
    values = {"command": command} | {name: [dataclasses.asdict(one) for one in every] for name, every in found.items()}
    write_bytes(path, (json.dumps(_finite(values), indent=2, allow_nan=False) + "\n").encode())


def _block(section: Section) -> str:
    tables = "\n".join(_markdown(grid) for grid in section.tables)
    return f"\n<!-- {section.key} -->\n## {section.title}\n\n{section.text}\n\n{tables}<!-- end -->\n"


def _markdown(grid: Grid) -> str:
    rows = (grid.columns, ("---",) * len(grid.columns), *grid.rows)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def number(value: float, digits: int) -> str:
    """A finite number, or a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
