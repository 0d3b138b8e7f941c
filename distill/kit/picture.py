"""`kit.png`: the sounds of a kit as spectrograms, a row for each key."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.audio.plots import FLOOR_DB, drawable, drawing, spectrogram_db

HEIGHT = 48  # pixels of a sound
WIDTH = 200  # pixels of the longest sound
GAP = 6  # pixels between sounds
MOST_COLUMNS = 8  # sounds of a key that are shown
LINEAR_KHZ = 0.7  # below it the frequency axis is about linear, above it about logarithmic

Samples = NDArray[np.float32]  # [N]


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A small spectrogram in dB `[HEIGHT, <= WIDTH]`, low frequencies first, and its length."""

    levels: NDArray[np.float32]
    seconds: float
    verdict: str


def thumbnail(samples: Samples, sample_rate: int, verdict: str) -> Thumbnail:
    """Make the small spectrogram of samples `[N]`."""
    levels = spectrogram_db(samples, sample_rate)
    top = np.arcsinh(sample_rate / 2000 / LINEAR_KHZ)
    kilohertz = LINEAR_KHZ * np.sinh(np.linspace(0, top, HEIGHT))
    rows = np.round(kilohertz / (sample_rate / 2000) * (len(levels) - 1)).astype(int)
    columns = np.linspace(0, levels.shape[1] - 1, min(WIDTH, levels.shape[1])).round().astype(int)
    return Thumbnail(levels[rows][:, columns].astype(np.float32), len(samples) / sample_rate, verdict)


def write_picture(path: Path, rows: Sequence[tuple[str, Sequence[Thumbnail]]]) -> None:
    """Draw a row of sounds for each (title, sounds), all at the same scale of time, as PNG."""
    longest = max(one.seconds for _, sounds in rows for one in sounds)
    columns = min(MOST_COLUMNS, max(len(sounds) for _, sounds in rows))
    picture = np.full((len(rows) * (HEIGHT + GAP), columns * (WIDTH + GAP)), np.nan, dtype=np.float32)
    with drawing(path, (2.6 + 1.7 * columns, 0.8 + 0.56 * len(rows))) as figure:
        axis = figure.subplots()
        for row, (title, sounds) in enumerate(rows):
            top = row * (HEIGHT + GAP)
            axis.text(-8, top + HEIGHT / 2, drawable(title, 32), fontsize=8, ha="right", va="center", parse_math=False)
            for column, one in enumerate(sounds[:columns]):
                left = column * (WIDTH + GAP)
                width = max(1, round(one.seconds / longest * WIDTH))
                shown = np.linspace(0, one.levels.shape[1] - 1, width).round().astype(int)
                picture[top : top + HEIGHT, left : left + WIDTH] = FLOOR_DB
                picture[top : top + HEIGHT, left : left + width] = one.levels[::-1, shown]
                place, box = (left + WIDTH - 4, top + 4), {"facecolor": "black", "edgecolor": "none", "pad": 1}
                axis.text(*place, one.verdict, fontsize=6, color="white", ha="right", va="top", bbox=box)
            if len(sounds) > columns:
                axis.text(picture.shape[1], top + HEIGHT / 2, f"+ {len(sounds) - columns}", fontsize=8, va="center")
        axis.imshow(picture, cmap="magma", vmin=FLOOR_DB, vmax=0, aspect="auto", interpolation="nearest")
        axis.set_yticks([])
        axis.set_xticks([0, WIDTH], ["0", f"{longest:.2f} s"], fontsize=7)
        axis.set_frame_on(False)
