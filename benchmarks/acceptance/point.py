"""Acceptance criteria, each with its measured figures and their bounds."""

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.report import MISSING

COLUMNS = ("corpus", "point", "criterion", "figure", "found", "bound")
SIGNS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Figure:
    """A measured figure, which is accepted where it is less than, at most, ... (`sign`) its `bound`; NaN never is."""

    name: str
    value: float
    sign: str
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the figure is within its bound."""
        return SIGNS[self.sign](self.value, self.bound)

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} ({self.sign} {self.bound:.4g})"


@dataclass(frozen=True)
class Point:
    """An acceptance criterion with its figures; `problem` says why there are none, `remark` what they mean."""

    number: int
    name: str
    figures: tuple[Figure, ...]
    problem: str = ""
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether all figures are within their bounds."""
        return not self.problem and all(figure.passed for figure in self.figures)

    def __str__(self) -> str:
        state = "reached" if self.passed else "MISSED"
        remark = f"; {self.remark}" if self.remark else ""
        return f"{self.number} {state:8}{self.name}: {self.problem or '; '.join(map(str, self.figures))}{remark}"

    def as_json(self) -> dict[str, Any]:
        """The criterion for a JSON document."""
        finite = [figure.value if math.isfinite(figure.value) else None for figure in self.figures]
        figures = [
            {**asdict(figure), "passed": figure.passed, "found": value}
            for figure, value in zip(self.figures, finite, strict=True)
        ]
        return {**asdict(self), "passed": self.passed, "figures": figures}

    def rows(self, corpus: str) -> list[tuple[str, ...]]:
        """Rows of `COLUMNS` for a table of measurements."""
        first = (corpus, str(self.number), self.name)
        rows: list[tuple[str, ...]] = [
            (*first, figure.name, f"{figure.value:.4g}", f"{figure.sign} {figure.bound:.4g}")
            for figure in self.figures
        ]
        return rows or [(*first, self.problem, MISSING, MISSING)]


def summary(points: list[Point]) -> str:
    """The number of criteria reached, and those missed."""
    missed = sorted(point.number for point in points if not point.passed)
    reached = f"{len(points) - len(missed)}/{len(points)}"
    return f"{reached}; missed: {', '.join(map(str, missed))}" if missed else reached
