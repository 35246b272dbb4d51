"""ROC and precision-recall figures: their lines, the marked point, and that they fit."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retino_cli.evaluation.curves import Curve, trace_curve
from retino_cli.figures import style
from retino_cli.figures.roc import draw_precision_recall, draw_roc

Texts = Callable[[Figure], list[str]]
Check = Callable[[Figure], None]


def curve(n: int = 200) -> Curve:
    rng = np.random.default_rng(n)
    positive = rng.random(n) < 0.3
    return trace_curve(positive, rng.normal(size=n) + 1.5 * positive)


def line(figure: Figure, name: str) -> Line2D:
    (found,) = [line for line in figure.axes[0].get_lines() if line.get_gid() == name]
    return found


def test_the_lines_are_those_of_the_curve(check_layout: Check, texts: Texts) -> None:
    given = curve()
    figure = draw_roc([("one (AUC 0.9)", given), ("two", curve(100))], title="Referable DR")
    np.testing.assert_array_equal(line(figure, "curve 0").get_xdata(), 1 - given.specificity)
    np.testing.assert_array_equal(line(figure, "curve 0").get_ydata(), given.sensitivity)
    assert list(line(figure, "chance").get_xdata()) == [0, 1]
    assert {"one (AUC 0.9)", "two", "Referable DR", "1 - specificity", "Sensitivity"} <= set(texts(figure))
    check_layout(figure)
    figure = draw_precision_recall([("one", given)])
    np.testing.assert_array_equal(line(figure, "curve 0").get_xdata(), given.sensitivity)
    np.testing.assert_array_equal(line(figure, "curve 0").get_ydata(), given.precision)
    assert line(figure, "curve 0").get_drawstyle() == "steps-pre"
    share = given.n_positive / 200
    assert list(line(figure, "chance").get_ydata()) == [share, share]
    check_layout(figure)


@pytest.mark.parametrize("shift", [0.0, 1e-9])
def test_the_point_is_that_of_its_threshold(shift: float, check_layout: Check, texts: Texts) -> None:
    """A threshold between two scores calls the same images positive as the score above it."""
    given = curve()
    threshold = float(given.threshold[60]) - shift
    for draw in (draw_roc, draw_precision_recall):
        figure = draw([("run", given), ("other", curve(100))], thresholds=[threshold, None])
        point = line(figure, "point 0")
        x, y = (1 - given.specificity, given.sensitivity) if draw is draw_roc else (given.sensitivity, given.precision)
        assert (point.get_xdata()[0], point.get_ydata()[0]) == (x[60], y[60])
        shown = f"sensitivity {given.sensitivity[60]:.3f}, specificity {given.specificity[60]:.3f}"
        assert any(text.endswith(shown) for text in texts(figure))
        assert not [line for line in figure.axes[0].get_lines() if line.get_gid() == "point 1"]
        check_layout(figure)


def test_thresholds_beyond_all_scores_lie_at_the_ends() -> None:
    given = curve()
    figure = draw_roc([("a", given), ("b", given)], thresholds=[1e9, -1e9])
    assert (line(figure, "point 0").get_xdata()[0], line(figure, "point 0").get_ydata()[0]) == (0, 0)
    assert (line(figure, "point 1").get_xdata()[0], line(figure, "point 1").get_ydata()[0]) == (1, 1)


def test_many_images_make_no_large_file() -> None:
    given = curve(53_576)
    figure = draw_roc([("EyePACS", given)], thresholds=[0.5])
    x = line(figure, "curve 0").get_xdata()
    assert len(x) == 2000
    assert (x[0], x[-1]) == (0, 1)
    buffer = io.BytesIO()
    with style.house_style():
        figure.savefig(buffer, format="svg")
    assert buffer.tell() < 150_000


def test_it_fits_with_long_names_and_many_runs(check_layout: Check) -> None:
    name = "resnet50-pretrained_strong-recipe-seed-0-with-a-name-that-never-ends-at-all (AUC 0.951)"
    curves = [(f"{i} {name}", curve(100 + i)) for i in range(6)]
    check_layout(draw_roc(curves, thresholds=[0.5] * 6))
    check_layout(draw_precision_recall(curves, thresholds=[0.5] * 6, title=name))


def test_nothing_to_draw_and_thresholds_that_do_not_fit_are_refused() -> None:
    for draw in (draw_roc, draw_precision_recall):
        with pytest.raises(ValueError, match="no curve"):
            draw([])
        with pytest.raises(ValueError, match="2 thresholds for 1 curves"):
            draw([("run", curve())], thresholds=[0.1, 0.2])
