"""Pictures for docs/benchmarks.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.audio.plots import FLOOR_DB, drawing, spectrogram_db
from distill.codec.model import VQVAE

SECONDS = 1.5  # of each sound


def write_kinds(path: Path, kinds: Mapping[str, Sequence[NDArray[np.float32]]], codec: VQVAE) -> None:
    """Write spectrograms of a few sounds `[N]` of each kind, one row a kind."""
    rate = codec.spectrogram.sample_rate
    columns = max(map(len, kinds.values()))
    with drawing(path, (1.6 * columns, 1.2 * len(kinds)), dpi=80) as figure:
        axes = figure.subplots(len(kinds), columns, squeeze=False)
        for row, (name, sounds) in zip(axes, kinds.items(), strict=True):
            for axis, samples in zip(row, sounds, strict=False):
                padded = np.zeros(round(SECONDS * rate), dtype=np.float32)
                padded[: min(len(samples), len(padded))] = samples[: len(padded)]
                levels = spectrogram_db(padded, rate)
                axis.pcolormesh(levels, cmap="magma", vmin=FLOOR_DB, vmax=0, rasterized=True)
                axis.set_yscale("asinh", linear_width=0.03 * len(levels))
                axis.set_xticks([])
                axis.set_yticks([])
            row[0].set_ylabel(name, fontsize=7)
