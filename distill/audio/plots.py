"""Plots of spectrograms and codes, for previews and audition pages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import rc_context, rcdefaults
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from distill.audio.corpus import level_gain
from distill.audio.image import mono
from distill.audio.write import SOFT_PEAK
from distill.storage.files import MARK, atomic_path
from distill.text import one_line

FLOOR_DB = -90.0
WINDOW_SECONDS = 0.043


def spectrogram_db(
    samples: NDArray[np.float32], sample_rate: int, seconds: float = WINDOW_SECONDS
) -> NDArray[np.float64]:
    """Spectrogram `[bins, T]` of samples `[N]` in dB of a full-scale sine, floored at -90.

    Windows last about `seconds`, rounded to a power of two in samples.
    """
    size = max(64, int(2 ** round(np.log2(sample_rate * seconds))))
    hop = size // 4
    padded = np.pad(samples.astype(np.float64), (size // 2, size // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    magnitude = np.abs(np.fft.rfft(frames, axis=1)).T / (size / 4)
    decibels: NDArray[np.float64] = np.maximum(20 * np.log10(np.maximum(magnitude, 1e-9)), FLOOR_DB)
    return decibels


def write_spectrograms(
    path: Path,
    sounds: Sequence[tuple[str, NDArray[np.float32]]],
    sample_rate: int,
    seconds: float = WINDOW_SECONDS,
    dpi: int = 100,
) -> None:
    """Plot spectrograms of (title, samples `[N]`) one above the other as PNG, frequency on a mel-like (asinh) scale.

    Stereo samples `[N, 2]` are averaged. Windows last `seconds`. If all sounds are soft, the loudest is raised to near
    full scale, and the others with it.
    """
    peak = max(float(np.abs(samples).max(initial=0.0)) for _, samples in sounds)
    gain = level_gain(peak) if peak < SOFT_PEAK else 1
    longest = max(1, *(len(samples) for _, samples in sounds)) / sample_rate
    with _rows(path, len(sounds), 2.0, 0.26, dpi) as axes:
        for axis, (title, samples) in zip(axes, sounds, strict=True):
            _draw_spectrogram(axis, gain * mono(samples), sample_rate, seconds)
            axis.set_xlim(0, longest)
            axis.set_title(_drawable(title), fontsize=8, loc="left", parse_math=False)
            axis.tick_params(labelsize=7, labelbottom=axis is axes[-1])
        axes[-1].set_xlabel("seconds", fontsize=8)


def _draw_spectrogram(
    axis: Axes, samples: NDArray[np.float32], sample_rate: int, window: float
) -> None:
    levels = spectrogram_db(samples, sample_rate, window)
    kilohertz = np.linspace(0, sample_rate / 2000, len(levels))
    seconds = np.linspace(0, max(len(samples), 1) / sample_rate, levels.shape[1])
    axis.pcolormesh(
        seconds,
        kilohertz,
        levels,
        cmap="magma",
        vmin=FLOOR_DB,
        vmax=0,
        shading="nearest",
        rasterized=True,
    )
    axis.set_yscale("asinh", linear_width=0.7)
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20) if tick <= kilohertz[-1]]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ylim(0, kilohertz[-1])
    axis.set_ylabel("kHz", fontsize=8)


def _drawable(title: str) -> str:
    """Replace characters that the font lacks by `?`."""
    font = get_font(findfont(FontProperties()))
    return "".join(
        character if font.get_char_index(ord(character)) else "?"
        for character in one_line(title, 120)
    )


def write_codes(path: Path, codes: NDArray[np.integer], names: Sequence[str]) -> None:
    """Plot codes `[F, Q]` as PNG: a row for each quantizer, labelled by `names`, and a colour for each code."""
    with _rows(path, 1, 0.12 * len(names)) as (axis,):
        colours = (
            codes.T * 0.6180339887
        ) % 1.0  # golden-ratio steps give neighbouring codes different colours
        axis.imshow(
            colours, cmap="twilight", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("frames", fontsize=8)
        axis.tick_params(labelsize=6)


@contextmanager
def _rows(
    path: Path, count: int, height: float, gap: float = 0.04, dpi: int = 100
) -> Iterator[list[Axes]]:
    """Context of `count` stacked plots, `gap` inches above each, written to `path` as PNG on exit.

    Ignores the user's styles, such as a `matplotlibrc` file or notebook settings.
    """
    width, left, right, bottom = 6.0, 0.52, 0.08, 0.4
    whole = bottom + count * height
    places = (
        (left, bottom + (count - 1 - row) * height, width - left - right, height - gap)
        for row in range(count)
    )
    with rc_context():
        rcdefaults()
        figure = Figure(figsize=(width, whole), dpi=dpi)
        yield [
            figure.add_axes((x / width, y / whole, w / width, h / whole)) for x, y, w, h in places
        ]
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Comment": MARK})
