"""Charts as SVG, from numbers: text stays text, colours are the page's and follow light and dark.

Series differ in colour, dash and marker together, so that none is told by its colour alone. What a chart says is also
in its title and description, for readers who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from retino_cli.report.markup import Content, Html, element

Points = Sequence[tuple[float, float]]
_Place = Callable[[float, float], tuple[float, float]]

WIDTH: Final = 380
HEIGHT: Final = 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 46
_MOST_MARKERS = 12
N_STYLES: Final = 6
"""Looks of series in page.css: classes s1 to s6."""


@dataclass(frozen=True)
class Series:
    """A line: ``points`` (x, y) in order; ``look`` chooses colour and dash (0, 1, ...); ``marked`` draws its points.

    ``intervals``: (x, low, high), drawn as vertical lines. A line without a label is not in the legend.
    """

    label: str
    points: Points
    look: int = 0
    marked: bool = False
    intervals: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Mark:
    """A point of its own. page.js moves the one whose ``key`` it knows ("threshold")."""

    label: str
    x: float
    y: float
    key: str = ""


@dataclass(frozen=True)
class Rule:
    """A dotted line across the chart at ``value`` of the axis "x" or "y"."""

    label: str
    axis: str
    value: float


def line_chart(
    series: Sequence[Series],
    *,
    key: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: str = "",
    marks: Sequence[Mark] = (),
    rules: Sequence[Rule] = (),
) -> Html:
    """A figure with lines, a title above and a legend below.

    ``key`` is unique on the page. Points that are not finite are left out. A range that is not given is that of the
    points. ``diagonal`` names the line x = y, which is drawn where it is not empty.
    """
    lines = [(one, [point for point in one.points if all(map(math.isfinite, point))]) for one in series]
    everything = [point for _, points in lines for point in points] + [(mark.x, mark.y) for mark in marks]
    low_x, high_x = x_range or range_of([x for x, _ in everything] + [r.value for r in rules if r.axis == "x"])
    low_y, high_y = y_range or range_of([y for _, y in everything] + [r.value for r in rules if r.axis == "y"])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts: list[Content] = [_axes((low_x, high_x), (low_y, high_y), place, x_label=x_label, y_label=y_label)]
    if diagonal:
        parts.append(draw_line(place(low_x, low_y), place(high_x, high_y), "reference"))
    for rule in rules:
        ends = (
            (place(rule.value, low_y), place(rule.value, high_y))
            if rule.axis == "x"
            else (place(low_x, rule.value), place(high_x, rule.value))
        )
        parts.append(draw_line(*ends, "rule"))
    for one, points in lines:
        look = f"s{one.look % N_STYLES + 1}"
        parts.extend(
            draw_line(place(x, low), place(x, high), f"interval s{one.look % N_STYLES + 1}")
            for x, low, high in one.intervals
        )
        placed = _thin([place(*point) for point in points])
        parts.append(element("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in placed), class_=f"line {look}"))
        if one.marked and placed:
            every = -(-len(placed) // _MOST_MARKERS)
            parts.extend(_marker(x, y, one.look, look) for x, y in placed[::every])
    for mark in marks:
        x, y = place(mark.x, mark.y)
        parts.append(element("circle", cx=x, cy=y, r=6, class_="mark", data_mark=mark.key or None))
    drawing = element(
        "svg",
        element("title", title, id=f"{key}-name"),
        element("desc", description, id=f"{key}-text"),
        parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{key}-name",
        aria_describedby=f"{key}-text",
        data_plot=" ".join(f"{value:g}" for value in (*place(low_x, low_y), *place(high_x, high_y))),
        data_range=" ".join(repr(float(value)) for value in (low_x, low_y, high_x, high_y)),
    )
    legend = [
        *(
            _legend(one.label, f"line s{one.look % N_STYLES + 1}", one.look if one.marked else None)
            for one in series
            if one.label
        ),
        *([_legend(diagonal, "reference")] if diagonal else []),
        *(_legend(rule.label, "rule") for rule in rules),
        *(_legend(mark.label, "mark") for mark in marks),
    ]
    return element(
        "figure",
        element("figcaption", title),
        drawing,
        element("ul", legend, class_="legend") if len(legend) > 1 or diagonal else None,
        class_="chart",
        id=key,
    )


def ticks_of(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` of them: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * times for times in (1, 2, 5, 10, 20) if span / (power * times) <= most - 1 + 1e-9)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def range_of(values: Sequence[float]) -> tuple[float, float]:
    """The range of finite ``values`` with a margin; one that has a width also for one value, or none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = 0.04 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - margin, high + margin


def _axes(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    place: _Place,
    *,
    x_label: str,
    y_label: str,
) -> Html:
    (low_x, high_x), (low_y, high_y) = x_range, y_range
    parts: list[Content] = []
    for tick in ticks_of(low_x, high_x):
        x, y = place(tick, low_y)
        parts.append(draw_line((x, y), place(tick, high_y), "grid"))
        parts.append(element("text", f"{tick:g}", x=x, y=y + 17, text_anchor="middle"))
    for tick in ticks_of(low_y, high_y):
        x, y = place(low_x, tick)
        parts.append(draw_line((x, y), place(high_x, tick), "grid"))
        parts.append(element("text", f"{tick:g}", x=x - 7, y=y + 4, text_anchor="end"))
    parts.append(draw_line(place(low_x, low_y), place(high_x, low_y), "axis"))
    middle_x, middle_y = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(element("text", x_label, x=middle_x, y=HEIGHT - 8, text_anchor="middle", class_="label"))
    parts.append(
        element(
            "text", y_label, transform=f"translate(13 {middle_y:g}) rotate(-90)", text_anchor="middle", class_="label"
        )
    )
    return element("g", parts, class_="axes")


def draw_line(start: tuple[float, float], end: tuple[float, float], class_: str) -> Html:
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def _marker(x: float, y: float, look: int, class_: str) -> Html:
    shape = look % 3
    if shape == 0:
        return element("circle", cx=x, cy=y, r=3.2, class_=f"marker {class_}")
    if shape == 1:
        return element("rect", x=x - 3, y=y - 3, width=6, height=6, class_=f"marker {class_}")
    path = f"M{x:g} {y - 4:g}L{x + 3.8:g} {y + 3:g}L{x - 3.8:g} {y + 3:g}Z"
    return element("path", d=path, class_=f"marker {class_}")


def _legend(label: str, class_: str, marker: int | None = None) -> Html:
    if class_ == "mark":
        sign: Content = element("circle", cx=14, cy=6, r=5, class_="mark")
    else:
        sign = [
            draw_line((1, 6), (27, 6), class_),
            None if marker is None else _marker(14, 6, marker, class_.removeprefix("line ")),
        ]
    return element("li", element("svg", sign, viewBox="0 0 28 12", aria_hidden="true"), label)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """``points`` without those that repeat, or lie on the straight run between their neighbours."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if kept and point == kept[-1]:
            continue
        if len(kept) > 1:
            (ax, ay), (bx, by) = kept[-2], kept[-1]
            straight = (ax == bx == point[0] and (by - ay) * (point[1] - by) > 0) or (
                ay == by == point[1] and (bx - ax) * (point[0] - bx) > 0
            )
            if straight:
                kept[-1] = point
                continue
        kept.append(point)
    return kept
