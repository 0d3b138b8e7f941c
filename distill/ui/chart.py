"""Charts of metrics by epoch, as SVG in the page's colours."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any, TypeGuard

Metrics = Sequence[Mapping[str, Any]]  # a record for each epoch
Points = list[tuple[float, float]]  # epoch and value
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 628, 14, 226  # of the plot


def charts(metrics: Mapping[str, Metrics], kept: Mapping[str, int] = MappingProxyType({})) -> str:
    """Charts of the metrics of the tasks `codec` and `prior`; `kept` as in `chart`, by task."""
    codec, prior = metrics["codec"], metrics["prior"]
    losses = {"train_loss": "training", "val_loss": "validation"}
    commitment = {"train_commit_loss": "commitment"}
    bits = {"val_bits_per_second": "held out"}
    return (
        chart("Codec: loss", codec, {**losses, **commitment}, kept.get("codec"))
        + chart("Prior: perplexity", prior, {"val_perplexity": "held out"}, kept.get("prior"))
        + chart("Prior: bits per second", prior, bits, kept.get("prior"))
        + chart("Prior: loss", prior, losses, kept.get("prior"))
    )


def chart(title: str, metrics: Metrics, names: Mapping[str, str], kept: int | None = None) -> str:
    """A chart of metrics by epoch; `names` are the metrics, and how their lines are called.

    Epoch 0 is before training. A vertical line marks the epoch that is `kept`, from -1 as in records, or, while
    training runs, the epoch with the lowest `val_loss`. A dot ends each line; the legend has its value there.
    """
    lines = {shown: points for name, shown in names.items() if (points := _points(metrics, name))}
    if not lines:
        return ""
    epochs, values = zip(*(point for points in lines.values() for point in points), strict=True)
    plot = Plot(min(epochs), max(epochs), min(values), max(values))
    svg = "".join([*plot.grid(), *plot.epochs()])
    if losses := [(loss, epoch) for epoch, loss in _points(metrics, "val_loss")]:
        word, best = ("best", min(losses)[1]) if kept is None else ("kept", kept + 1)
        title += f", {word}: {f'epoch {best}' if best else 'before training'}"
        svg += plot.mark(best)
    colours = [f"var(--d-{number})" for number in range(1, len(lines) + 1)]
    svg += "".join(map(plot.line, lines.values(), colours))
    ends = [f"{name}: {points[-1][1]:.3g}" for name, points in lines.items()]
    samples = "".join(
        f'<span><span style="color: {colour}">━</span> {escape(end)}</span>'
        for end, colour in zip(ends, colours, strict=True)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape("; ".join([title, *ends]))}">'
        f'{svg}</svg><div class="legend">{samples}</div></figure>'
    )


@dataclass(frozen=True)
class Plot:
    """Ranges of epochs and values, and the parts of a chart that are drawn to their scale."""

    first: float
    last: float
    low: float
    high: float

    def _x(self, epoch: float) -> str:
        return (
            f"{LEFT + (epoch - self.first) / max(self.last - self.first, 1) * (RIGHT - LEFT):.1f}"
        )

    def _y(self, value: float) -> str:
        height = (value - self.low) / (self.high - self.low or 1.0) * (BOTTOM - TOP)
        return f"{BOTTOM - height:.1f}"

    def grid(self) -> Iterator[str]:
        """Horizontal lines with their values."""
        for value in _ticks(self.low, self.high):
            y = self._y(value)
            yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:.4g}</text>'

    def epochs(self) -> Iterator[str]:
        """Numbers of epochs: the first, the last, and round numbers that are near neither."""
        span = self.last - self.first
        inner = [tick for tick in _ticks(self.first, self.last) if tick == round(tick)]
        far = [epoch for epoch in inner if span / 8 <= epoch - self.first <= span * 7 / 8]
        shown = dict.fromkeys(far, ("middle", ""))
        shown |= {self.first: ("start", "epoch "), self.last: ("end", "epoch ")}
        for epoch, (anchor, word) in sorted(shown.items()):
            yield (
                f'<text x="{self._x(epoch)}" y="{HEIGHT - 8}" text-anchor="{anchor}">{word}{epoch:g}</text>'
            )

    def mark(self, epoch: float) -> str:
        """A vertical line."""
        x = self._x(epoch)
        return f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{BOTTOM}"/>'

    def line(self, points: Points, colour: str) -> str:
        """A line through points, with a dot at the last."""
        path = " ".join(f"{self._x(epoch)},{self._y(value)}" for epoch, value in points)
        end_x, end_y = self._x(points[-1][0]), self._y(points[-1][1])
        return (
            f'<polyline points="{path}" fill="none" stroke-width="2" stroke="{colour}"/>'
            f'<circle cx="{end_x}" cy="{end_y}" r="4" fill="{colour}"/>'
        )


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two, both within: three to six; one where they are equal."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _points(metrics: Metrics, name: str) -> Points:
    return [(epoch["epoch"] + 1, epoch[name]) for epoch in metrics if is_finite(epoch.get(name))]
