"""Forest plots: what is drawn where, and that it fits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from retino_cli.figures.forest import ForestPanel, ForestRow, draw_forest

Texts = Callable[[Figure], list[str]]
Check = Callable[[Figure], None]

ROWS = [ForestRow("Accuracy", 0.012, -0.02, 0.05, False), ForestRow("QWK", 0.031, 0.008, 0.055, True)]
LONG = "resnet50-pretrained_strong-recipe-seed-0-with-a-name-that-never-ends-at-all"


def drawn(figure: Figure, panel: int, gid: str) -> list[tuple[list[float], list[float]]]:
    lines = [line for line in figure.axes[panel].get_lines() if line.get_gid() == gid]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_each_row_is_drawn_at_its_numbers_and_says_them(texts: Texts, check_layout: Check) -> None:
    figure = draw_forest([ForestPanel("Higher is better", ROWS)], better=("a better", "b better"), title="b minus a")
    assert [x for x, _ in drawn(figure, 0, "estimate")] == [[0.012], [0.031]]
    assert [x for x, _ in drawn(figure, 0, "interval")] == [[-0.02, 0.05], [0.008, 0.055]]
    shown = texts(figure)
    assert {"Accuracy", "QWK", "← a better", "b better →", "b minus a", "+0.031  [+0.008, +0.055]"} <= set(shown)
    first, second = (y[0] for _, y in drawn(figure, 0, "estimate"))
    low, high = figure.axes[0].get_ylim()
    assert low > second > first > high  # the first row is on top
    check_layout(figure)


def test_what_the_data_cannot_tell_has_an_open_marker() -> None:
    figure = draw_forest([ForestPanel("", ROWS)], better=("a", "b"))
    faces = [line.get_markerfacecolor() for line in figure.axes[0].get_lines() if line.get_gid() == "estimate"]
    assert faces[0] == "white"
    assert faces[1] != "white"


def test_right_is_better_for_b_also_where_lower_is_better() -> None:
    figure = draw_forest([ForestPanel("", ROWS), ForestPanel("", ROWS, lower_is_better=True)], better=("a", "b"))
    (left, right), (turned_left, turned_right) = (axes.get_xlim() for axes in figure.axes)
    assert left == -right < 0
    assert turned_left == -turned_right > 0
    assert drawn(figure, 1, "estimate")[1][0] == [0.031]  # the value itself stays


@pytest.mark.parametrize("n", [1, 16])
def test_it_fits_with_long_names(n: int, check_layout: Check) -> None:
    rows = [ForestRow(f"{LONG} minus {LONG}", 1e-9, -12.3456, 123.456, True)] * n
    panels = [ForestPanel("QWK", rows), ForestPanel("Accuracy", ROWS[:1], lower_is_better=True)]
    check_layout(draw_forest(panels, better=(f"{LONG} is better", f"{LONG} is better"), title=f"{LONG} minus {LONG}"))


def test_no_difference_at_all_can_be_drawn(check_layout: Check) -> None:
    check_layout(draw_forest([ForestPanel("", [ForestRow("QWK", 0.0, 0.0, 0.0, False)])], better=("a", "b")))


@pytest.mark.parametrize("n", [0, 61])
def test_nothing_and_too_much_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} differences to draw"):
        draw_forest([ForestPanel("", ROWS[:1] * n)], better=("a", "b"))
