"""Charts of rows, which fit a narrow screen: bars as a list, and estimates with their intervals as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from retino_cli.report.charts import draw_line, ticks_of
from retino_cli.report.markup import Html, element
from retino_cli.report.page import scrolling, with_interval


@dataclass(frozen=True)
class Bar:
    """A bar of ``value`` in [0, 1], with ``text`` beside it and ``tags`` ("true", "said") after its label."""

    label: str
    value: float
    text: str
    tags: Sequence[str] = ()


def bars(rows: Sequence[Bar], *, label: str) -> Html:
    """Horizontal bars, as a list."""
    lines = [
        element(
            "li",
            element("span", row.label, [element("em", tag) for tag in row.tags], class_="bar-label"),
            element(
                "span",
                element("span", style=f"width:{100 * min(max(row.value, 0.0), 1.0):.1f}%"),
                class_="bar",
                aria_hidden="true",
            ),
            element("span", row.text, class_="bar-value"),
            class_=" ".join(f"is-{tag}" for tag in row.tags) or None,
        )
        for row in rows
    ]
    return element("ol", lines, class_="bars", aria_label=label)


@dataclass(frozen=True)
class IntervalRow:
    """A value (None: n/a) with the ends of its interval, and ``marks``, other values to hold it against."""

    label: str
    estimate: float | None
    low: float | None
    high: float | None
    marks: Sequence[float] = field(default=())


def interval_plot(rows: Sequence[IntervalRow], *, caption: str) -> Html:
    """Values from 0 to 1, below 0 where one is, with their intervals: a table whose last column is drawn."""
    ends = [v for row in rows for v in (row.estimate, row.low, *row.marks) if v is not None]
    low, high = min([0.0, *ends]), 1.0
    ticks = ticks_of(low, high, most=5)

    def across(value: float) -> float:
        return round(1000 * (value - low) / (high - low), 1)

    lines = []
    for row in rows:
        parts = [draw_line((across(tick), 0), (across(tick), 24), "grid") for tick in ticks]
        if row.low is not None and row.high is not None:
            parts.append(draw_line((across(row.low), 12), (across(row.high), 12), "whisker"))
        if row.estimate is not None:
            parts.append(draw_line((across(row.estimate), 12), (across(row.estimate), 12), "dot"))
        drawing = element(
            "svg", parts, viewBox="0 0 1000 24", preserveAspectRatio="none", aria_hidden="true", class_="clear"
        )
        diamonds = [
            element("span", class_="diamond", style=f"left:{across(mark) / 10:.1f}%", aria_hidden="true")
            for mark in row.marks
        ]
        lines.append(
            element(
                "tr",
                element("th", row.label, scope="row"),
                element(
                    "td",
                    "n/a" if row.estimate is None else with_interval(f"{row.estimate:.4f}", row.low, row.high),
                    class_="number",
                ),
                element("td", element("div", drawing, diamonds, class_="lane"), class_="drawn"),
            )
        )
    axis = element(
        "span",
        [element("span", f"{tick:g}", style=f"left:{across(tick) / 10:.1f}%") for tick in ticks],
        class_="axis",
        aria_hidden="true",
    )
    head = element(
        "tr",
        [element("th", text, scope="col") for text in ("Metric", "Value, 95 % interval")],
        element(
            "th",
            element("span", "Drawn from the first to the last value of the axis", class_="unseen"),
            axis,
            scope="col",
            class_="drawn",
        ),
    )
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", lines))
    return scrolling(whole, caption=caption, class_="forest")
