"""The curve of a range test: what is drawn, what is left out, and that it fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from retino_cli.figures.range_test import draw_range_test

RATES = np.geomspace(1e-6, 1, 80)
LOSSES = 1.5 - 0.4 / (1 + 1e-3 / RATES) + 50 * RATES**2


def drawn(figure: Figure) -> set[object]:
    return {line.get_gid() for line in figure.axes[0].get_lines()}


def test_the_curve_and_the_choice_are_drawn_and_the_divergence_is_cut_off(
    check_layout: Callable[[Figure], None], texts: Callable[[Figure], list[str]]
) -> None:
    figure = draw_range_test(RATES, LOSSES, LOSSES, chosen=0.012, edge=0.12, title="resnet18-pretrained-idrid-s0")
    (axes,) = figure.axes
    assert drawn(figure) == {"loss", "smoothed", "edge", "chosen"}
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < LOSSES.min() <= LOSSES[0] <= high < LOSSES.max()
    assert "chosen: 0.012" in texts(figure)
    check_layout(figure)


def test_nothing_chosen_and_one_step_or_none_can_be_drawn(check_layout: Callable[[Figure], None]) -> None:
    for n in (0, 1, 5):
        figure = draw_range_test(RATES[:n], LOSSES[:n], LOSSES[:n], chosen=None, edge=None, title="none")
        assert drawn(figure) == {"loss", "smoothed"}
        check_layout(figure)
