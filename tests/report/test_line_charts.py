"""Charts: where points are placed, and what is said in words."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retino_cli.report.charts import HEIGHT, WIDTH, Mark, Rule, Series, line_chart, ticks_of
from retino_cli.report.row_charts import Bar, IntervalRow, bars, interval_plot


def draw(*series: Series, **options: object) -> ElementTree.Element:
    """The chart as XML: it has to be well-formed."""
    asked: dict[str, object] = {"key": "k", "title": "T & T", "description": "D", "x_label": "x", "y_label": "y"}
    return ElementTree.fromstring(line_chart(series, **(asked | options)))  # type: ignore[arg-type] # by name


def test_points_lie_where_the_axes_say() -> None:
    figure = draw(Series("a", [(0, 0), (1, 1)]), x_range=(0, 1), y_range=(0, 1), marks=[Mark("m", 0.5, 0.25, "here")])
    svg = figure.find("svg")
    assert svg is not None
    left, bottom, right, top = map(float, svg.attrib["data-plot"].split())
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    line = svg.find("polyline")
    assert line is not None
    assert line.attrib["points"] == f"{left:g},{bottom:g} {right:g},{top:g}"
    mark = svg.find("circle[@data-mark='here']")
    assert mark is not None
    assert float(mark.attrib["cx"]) == pytest.approx((left + right) / 2, abs=0.06)
    assert float(mark.attrib["cy"]) == pytest.approx(bottom + 0.25 * (top - bottom), abs=0.06)


def test_what_is_drawn_is_said_too() -> None:
    figure = draw(Series("a", [(1, 2)]), rules=[Rule("kept", "x", 1.0)], diagonal="chance")
    svg = figure.find("svg")
    assert svg is not None
    assert svg.attrib["role"] == "img"
    assert svg.findtext("title") == "T & T"
    assert svg.findtext("desc") == "D"
    assert [item.findtext("svg") is not None and "".join(item.itertext()) for item in figure.iter("li")] == [
        "a",
        "chance",
        "kept",
    ]


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)], [(3.0, 0.5)], [(0.0, 0.0), (1.0, math.inf), (2.0, 1.0)]])
def test_missing_and_single_points_are_no_trouble(points: list[tuple[float, float]]) -> None:
    text = line_chart([Series("a", points)], key="k", title="t", description="d", x_label="x", y_label="y")
    assert not re.search(r"\b(nan|inf)\b", text)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = ticks_of(low, low + span)
    assert len(ticks) <= 6
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_bars_hold_their_numbers_and_names() -> None:
    written = bars([Bar("4 <PDR>", 0.25, "0.250", ("true",)), Bar("x", 7.0, "7")], label="l")
    assert "4 &lt;PDR&gt;" in written
    assert "width:25.0%" in written
    assert "width:100.0%" in written
    assert '<li class="is-true">' in written


def test_a_value_below_zero_widens_the_axis() -> None:
    written = interval_plot(
        [IntervalRow("kappa", -0.5, -0.7, -0.2, [0.0]), IntervalRow("b", None, None, None)], caption="c"
    )
    assert "-0.5000" in written
    assert "[-0.700, -0.200]" in written
    assert "n/a" in written
    assert 'x1="0.0"' in written  # the low end of the interval is the end of the axis
