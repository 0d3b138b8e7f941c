"""Line charts as SVG, which follow the page's colours and width."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 34
COLOURS = ("var(--d-1)", "var(--d-2)", "var(--d-3)", "var(--d-4)", "var(--d-5)", "var(--d-6)")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 4")  # lines differ without their colours, too
TICKS = 4

Points = Sequence[tuple[float, float]]


def line_chart(title: str, lines: Mapping[str, Points], x_label: str, mark: tuple[float, str] | None = None) -> str:
    """A chart of lines, each a sequence of (x, y); `mark` is a vertical line at an x with its name."""
    finite = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in lines.items()}
    drawn = {name: points for name, points in finite.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    low, high = min(ys), max(ys)
    margin = 0.05 * (high - low) or max(abs(high), 1e-6) * 0.05
    low, high, first, last = (
        (max(0.0, low - margin) if low >= 0 else low - margin),
        high + margin,
        min(xs),
        max(max(xs), min(xs) + 1),
    )

    def at_x(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    digits = 3 + max(0, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))))  # neighbouring ticks differ
    parts = []
    for y in (low + (high - low) * number / TICKS for number in range(TICKS + 1)):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:.{digits}g}</text>')
    for whole in sorted({round(first + (last - first) * number / TICKS) for number in range(TICKS + 1)}):
        if first <= whole <= last:
            parts.append(
                f'<text x="{at_x(whole):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{whole:g}</text>'
            )
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    if mark is not None and first <= mark[0] <= last:
        x = at_x(mark[0])
        anchor = "end" if x > WIDTH / 2 else "start"
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{x + (-5 if anchor == "end" else 5):.1f}" y="{TOP + 8}" text-anchor="{anchor}">{escape(mark[1])}</text>'
        )
    legend = []
    for (name, points), colour, dash in zip(drawn.items(), COLOURS * 20, DASHES * 20, strict=False):
        style = f'stroke="{colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        if len(points) == 1:
            x, y = points[0]
            parts.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="2" {style}/>')
        legend.append(
            f'<span><svg width="28" height="10"><line x1="0" x2="28" y1="5" y2="5" stroke-width="2" {style}/></svg> {escape(name)}</span>'
        )
    said = "; ".join(f"{name}: {points[-1][1]:.3g} at {x_label} {points[-1][0]:g}" for name, points in drawn.items())
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {said}")}">{"".join(parts)}</svg>'
        f'<div class="legend">{"".join(legend)}</div></figure>'
    )
