"""Line charts: finite, escaped, and never empty of what there is."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.ui.charts import line_chart

NUMBERS = st.floats(-1e12, 1e12) | st.sampled_from([math.nan, math.inf, -math.inf])
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def parsed(chart: str) -> ElementTree.Element:
    """The chart as XML, which fails where a tag or a quote is left open."""
    return ElementTree.fromstring(chart)


@pytest.mark.parametrize("lines", [{}, {"a": []}, {"a": [(0.0, math.nan)], "b": [(math.inf, 1.0)]}])
def test_nothing_gives_no_chart(lines: dict[str, list[tuple[float, float]]]) -> None:
    assert line_chart("loss", lines, "epoch") == ""


@given(st.dictionaries(st.text(max_size=5), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4), max_size=3), NUMBERS)
def test_no_chart_has_numbers_that_are_none(lines: dict[str, list[tuple[float, float]]], mark: float) -> None:
    chart = line_chart("loss", lines, "epoch", (mark, "best"))
    drawn = " ".join(re.findall(r'(?:points|x\d?|y\d?|cx|cy)="([^"]*)"', chart))
    assert not re.search("nan|inf", drawn)


def test_a_line_of_one_point_is_a_dot() -> None:
    chart = parsed(line_chart("loss", {"training": [(1.0, 2.0)]}, "epoch"))
    assert len(list(chart.iter("circle"))) == 1


def test_points_keep_their_order_and_place() -> None:
    chart = parsed(line_chart("loss", {"training": [(1.0, 3.0), (2.0, math.nan), (3.0, 1.0)]}, "epoch", (3.0, "best")))
    (line,) = chart.iter("polyline")
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in str(line.get("points")).split())
    assert x1 < x2
    assert y1 < y2  # down, as the loss
    (mark,) = (one for one in chart.iter("line") if one.get("class") == "mark")
    assert float(str(mark.get("x1"))) == x2


def test_a_flat_line_is_in_the_middle() -> None:
    for value in (0.0, 5.0, -5.0):
        assert "polyline" in line_chart("loss", {"training": [(1.0, value), (2.0, value)]}, "epoch")


def test_names_are_text() -> None:
    chart = line_chart(HOSTILE, {HOSTILE: [(1.0, 1.0), (2.0, 2.0)]}, HOSTILE, (1.0, HOSTILE))
    assert "<img" not in chart
    assert HOSTILE in (parsed(chart).findtext("figcaption") or "")
