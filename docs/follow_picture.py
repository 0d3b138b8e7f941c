"""The picture of docs/follow.md: a melody that is sung, and what recordings with some labels make of it.

`python -m docs.follow_picture MODEL[=LABEL]...` writes docs/static/follow.png. The voice is synthesised.
"""

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

import distill
from benchmarks.following import sung_note, yin

PICTURE = Path(__file__).parent / "static" / "follow.png"
ODE = (
    (64, 1),
    (64, 1),
    (65, 1),
    (67, 1),
    (67, 1),
    (65, 1),
    (64, 1),
    (62, 1),
    (60, 1),
    (60, 1),
    (62, 1),
    (64, 1),
    (64, 2),
)
BEAT = 0.4  # seconds
WINDOW, HIGHEST = 4096, 4000  # samples, Hz


def voice(sample_rate: int) -> np.ndarray:
    """The beginning of the Ode to Joy (Beethoven 1824), sung an octave lower."""
    rng, notes = np.random.default_rng(1), []
    for key, beats in ODE:
        time = np.arange(round(beats * BEAT * sample_rate)) / sample_rate
        notes.append(sung_note(rng, time, key - 12.0, beats * BEAT)[0])
    sound = np.concatenate(notes)
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)


def main() -> None:
    """Follow, measure, and draw."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models = [
        (distill.load(path), label)
        for path, _, label in (named.partition("=") for named in sys.argv[1:])
    ]
    rate = models[0][0].sample_rate
    truth = yin(voice(rate), rate)
    rows = [("sung", voice(rate), rate)]
    for model, label in models:
        sung = voice(model.sample_rate)
        (sound,) = model.generate(follow=sung, label=label or None, seed=1, width=0).sounds
        rows.append(((label or model.path.stem).replace("_", " "), sound, model.sample_rate))
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(9, 2.1 * len(rows)), sharex=True, layout="constrained"
    )
    for axis, (name, sound, rate) in zip(axes, rows, strict=True):
        windows = sliding_window_view(np.pad(sound, WINDOW // 2), WINDOW)[
            :: WINDOW // 16
        ] * np.hanning(WINDOW)
        power = 20 * np.log10(np.abs(np.fft.rfft(windows)) + 1e-4)[:, : HIGHEST * WINDOW // rate]
        span = (0, len(sound) / rate, 0, HIGHEST / 1000)
        axis.imshow(
            power.T,
            origin="lower",
            aspect="auto",
            extent=span,
            vmin=power.max() - 70,
            vmax=power.max(),
            cmap="magma",
        )
        axis.set_ylabel("kHz")
        axis.set_title(name, loc="left", fontsize=9)
        heard = yin(sound, rate)
        away = heard[: len(truth)] - truth[: len(heard)]
        away = (away - 12 * np.round(away / 12))[np.isfinite(away)]
        print(
            f"{name}: {100 * np.median(np.abs(away)):.1f} cents off, {np.mean(np.abs(away) < 0.5):.0%} within 50"
        )
    axes[-1].set_xlabel("seconds")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        PICTURE, optimize=True
    )


if __name__ == "__main__":
    main()
