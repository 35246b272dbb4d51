"""Differences as tables whose last column is drawn (forest plot), and confusion matrices with their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retino_cli.grades import GRADE_NAMES, GRADES, SHORT_GRADE_NAMES
from retino_cli.report.charts import draw_line, ticks_of
from retino_cli.report.markup import Content, Html, element, join

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DifferenceRow:
    """A difference with its interval. ``told``: the data tell the two apart; ``note``: what they tell, in words."""

    label: Content
    estimate: float
    low: float
    high: float
    told: bool
    note: Content


def difference_plot(
    rows: Sequence[DifferenceRow], *, caption: str, first: str, ends: tuple[str, str], lower_is_better: bool = False
) -> Html:
    """Differences, one a line, on one axis with a line at 0: a table, read as numbers, whose last column is drawn.

    ``first`` names the rows. ``ends``: what lies left and right of 0; where lower is better the axis runs from right to
    left, so that each keeps its side. Values stay as they are.
    """
    reach = 1.06 * max([*(max(abs(row.low), abs(row.high)) for row in rows), 1e-6])
    low, high = (reach, -reach) if lower_is_better else (-reach, reach)
    ticks = [tick + 0.0 for tick in ticks_of(-reach, reach, most=5)]

    def across(value: float) -> float:
        return round(1000 * (value - low) / (high - low), 1)

    lines = []
    for row in rows:
        x = across(row.estimate)
        drawing = element(
            "svg",
            [draw_line((across(tick), 0), (across(tick), 24), "grid") for tick in ticks],
            draw_line((across(0.0), 0), (across(0.0), 24), "zero"),
            draw_line((across(row.low), 12), (across(row.high), 12), "whisker"),
            draw_line((x, 12), (x, 12), "dot"),
            None if row.told else draw_line((x, 12), (x, 12), "hole"),
            viewBox="0 0 1000 24",
            preserveAspectRatio="none",
            aria_hidden="true",
            class_="clear" if row.told else None,
        )
        lines.append(
            element(
                "tr",
                element("th", row.label, scope="row"),
                element(
                    "td",
                    element("span", f"{row.estimate:+.4f}"),
                    " ",
                    element("span", f"[{row.low:+.3f}, {row.high:+.3f}]", class_="ends"),
                ),
                element("td", row.note, class_="told" if row.told else "untold"),
                element("td", drawing, class_="drawn"),
            )
        )
    axis = element(
        "span",
        [element("span", f"{tick:g}", style=f"left:{across(tick) / 10:.1f}%") for tick in ticks],
        class_="axis",
        aria_hidden="true",
    )
    sides = element(
        "span", element("span", f"← {ends[0]}"), element("span", f"{ends[1]} →"), class_="ways", aria_hidden="true"
    )
    head = element(
        "tr",
        [element("th", text, scope="col") for text in (first, "Difference, 95 % interval", "The data say")],
        element("th", element("span", "Drawn", class_="unseen"), sides, axis, scope="col", class_="drawn"),
    )
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", lines))
    return element(
        "div", whole, class_="scroll forest differences", tabindex="0", role="region", aria_label=f"Table: {caption}"
    )


def small_matrix(matrix: Matrix, *, caption: Content, name: str, digits: int = 0) -> Html:
    """Images by true (rows) and predicted grade with the share of the row. ``digits``: decimals (of a mean)."""
    total = matrix.sum(axis=1)
    cells = [
        [
            (
                f"{matrix[true, said]:,.{digits}f}",
                f"{matrix[true, said] / total[true]:.0%}" if total[true] else "n/a",
                f"--share:{0.9 * matrix[true, said] / total[true]:.3f}" if total[true] else "--share:0",
                _kind(true, said, empty=not matrix[true, said]),
            )
            for said in GRADES
        ]
        for true in GRADES
    ]
    return _grid(cells, caption=caption, name=name)


def difference_matrix(first: Matrix, second: Matrix, *, caption: Content, name: str, digits: int = 0) -> Html:
    """``second`` minus ``first``, in images; the colour is that of the side that says it more often, its strength the
    share of the row."""
    difference = second - first
    total = first.sum(axis=1)
    cells = []
    for true in GRADES:
        line = []
        for said in GRADES:
            value = float(difference[true, said])
            text = f"{value:+,.{digits}f}" if abs(value) >= 0.5 * 10.0**-digits else "0"
            share = min(abs(value) / total[true], 0.5) if total[true] else 0.0
            more = "more" if value > 0 else "less" if value < 0 else "same"
            percent = f"{100 * value / total[true]:+.0f} pt" if total[true] and text != "0" else ""
            line.append((text, percent, f"--share:{share:.3f}", f"{_kind(true, said, empty=False)} {more}"))
        cells.append(line)
    return _grid(cells, caption=caption, name=name)


def _kind(true: int, said: int, *, empty: bool) -> str:
    return ("right" if true == said else "far" if abs(true - said) >= 2 else "near") + (" empty" if empty else "")


def _grid(cells: Sequence[Sequence[tuple[str, str, str, str]]], *, caption: Content, name: str) -> Html:
    head = element(
        "tr",
        element("th", element("span", "True grade", class_="unseen"), scope="col"),
        [element("th", _grade(grade), scope="col", title=GRADE_NAMES[grade]) for grade in GRADES],
    )
    lines = [
        element(
            "tr",
            element("th", _grade(true), scope="row", title=GRADE_NAMES[true]),
            [
                element("td", element("strong", text), element("span", below), style=style, class_=kind)
                for text, below, style, kind in row
            ],
        )
        for true, row in zip(GRADES, cells, strict=True)
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", lines),
        class_="matrix small-matrix",
    )
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"Table: {name}")


def _grade(grade: int) -> Html:
    return join([element("span", str(grade), class_="digit"), SHORT_GRADE_NAMES[grade]])
