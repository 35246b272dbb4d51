"""The reliability diagram: its points, its bars, and that it fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from retino_cli.evaluation.probability import Binning, Reliability, reliability
from retino_cli.figures.reliability import draw_reliability

Texts = Callable[[Figure], list[str]]
Check = Callable[[Figure], None]


def bins(n: int = 500, *, binning: Binning = "equal_width") -> Reliability:
    rng = np.random.default_rng(n)
    p = rng.dirichlet(np.full(5, 0.4), n)
    grade = np.where(rng.random(n) < 0.6, p.argmax(axis=1), rng.integers(0, 5, n))
    return reliability(grade, p, binning=binning)


def test_points_histogram_and_calibration_error_are_those_of_the_bins(texts: Texts, check_layout: Check) -> None:
    given = bins()
    figure = draw_reliability([("run", given)], title="Title")
    top, bottom = figure.axes
    lines = {line.get_gid(): line for line in top.get_lines()}
    filled = given.count > 0
    assert 0 < filled.sum() < 15
    np.testing.assert_array_equal(lines["reliability"].get_xdata(), given.confidence[filled])
    np.testing.assert_array_equal(lines["reliability"].get_ydata(), given.accuracy[filled])
    assert list(lines["diagonal"].get_ydata()) == [0, 1]
    (bars,) = top.collections
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, np.stack([given.low[filled], given.high[filled]], axis=1), atol=1e-9)
    heights = [patch.get_height() for patch in bottom.patches]
    np.testing.assert_allclose(heights, 100 * given.count / 500)
    assert f"ECE {given.calibration_error:.3f}\n500 images" in texts(figure)
    assert {"run", "Title", "Confidence", "Accuracy", "% of images"} <= set(texts(figure))
    check_layout(figure)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_it_fits(n: int, binning: Binning, check_layout: Check) -> None:
    name = "resnet50-pretrained_strong-recipe-seed-0-with-a-long-name"
    figure = draw_reliability([(f"{i} {name}", bins(53_576, binning=binning)) for i in range(n)])
    check_layout(figure)
    assert len(figure.axes) == 2 * n


def test_one_image_that_is_wrong_can_be_drawn(check_layout: Check) -> None:
    check_layout(draw_reliability([("one", reliability([1], [[1.0, 0, 0, 0, 0]]))]))


@pytest.mark.parametrize("n", [0, 5])
def test_no_run_and_too_many_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} runs to draw"):
        draw_reliability([("run", bins())] * n)
