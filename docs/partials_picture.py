"""Sounds and picture of docs/noise-between-partials.md: `python -m docs.partials_picture` writes them.

Sounds of before noise floors were coded are there already: commit 92cfae6f made them in the same way. The model is
`models/demo.distill`.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

import distill
from distill.audio.partial_noise import PartialNoise
from distill.audio.write import write_audio

STATIC = Path(__file__).parent / "static"
WINDOW, HIGHEST = 4096, 9000  # samples, Hz
RECORDINGS = {
    "string": "data/demo/plucked_string/a2_hard.flac",
    "chord": "data/demo/chord/g_seventh.flac",
    "pipe": "data/demo/blown_pipe/d4_airy.flac",
}
COLUMNS = ("recording", "before", "now")


def main() -> None:
    """Decode, write, measure, and draw."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model = distill.load("models/demo.distill")
    rate = model.sample_rate
    recordings = {name: model.samples(path) for name, path in RECORDINGS.items()}
    figure, axes = plt.subplots(
        3, 3, figsize=(9, 7), sharex="row", sharey=True, layout="constrained"
    )
    for row, (name, recording) in zip(axes, recordings.items(), strict=True):
        before, _ = soundfile.read(STATIC / "sounds" / f"{name}_before.flac", dtype="float32")
        now = model.decode(model.encode(recording), model.side_info(recording).in_mono)[
            : len(recording)
        ]
        for axis, column, sound in zip(
            row, COLUMNS, (recording, before[: len(recording)], now), strict=True
        ):
            if column != "before":
                write_audio(STATIC / "sounds" / f"{name}_{column}.flac", sound, rate, "flac")
            windows = sliding_window_view(np.pad(sound, WINDOW // 2), WINDOW)[
                :: WINDOW // 16
            ] * np.blackman(WINDOW)
            level = (
                20 * np.log10(np.abs(np.fft.rfft(windows)) + 1e-4)[:, : HIGHEST * WINDOW // rate]
            )
            span = (0, len(sound) / rate, 0, HIGHEST / 1000)
            colours = {"vmin": level.max() - 90, "vmax": level.max(), "cmap": "magma"}
            axis.imshow(level.T, origin="lower", aspect="auto", extent=span, **colours)
            axis.set_title(f"{name}, {column}", loc="left", fontsize=9)
        row[0].set_ylabel("kHz")
        levels = PartialNoise.measure(recording, rate, before[: len(recording)], now).levels
        print(name, dict(zip(COLUMNS, np.median(levels, axis=0).round(1).tolist(), strict=True)))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        STATIC / "partials.png", optimize=True
    )


if __name__ == "__main__":
    main()
