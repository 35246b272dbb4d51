"""The confusion figure: what its cells say, and that it fits for one run as for eight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from retino_cli.figures.confusion import draw_confusion
from retino_cli.grades import GRADE_NAMES

Texts = Callable[[Figure], list[str]]
Check = Callable[[Figure], None]

# True grade 3 does not occur.
COUNTS = np.array([[90, 6, 3, 1, 0], [4, 4, 2, 0, 0], [5, 10, 30, 5, 0], [0] * 5, [0, 0, 1, 1, 6]])


def panel_texts(figure: Figure, index: int) -> list[str]:
    return [text.get_text() for text in figure.axes[index].texts]


def test_counts_support_and_full_names(texts: Texts) -> None:
    figure = draw_confusion([("run", COUNTS)], normalise=False)
    shown = panel_texts(figure, 0)
    for i in range(5):
        cells = [str(count) for count in COUNTS[i]]
        assert shown[6 * i : 6 * i + 6] == [*cells, str(COUNTS[i].sum())]
    for grade, name in enumerate(GRADE_NAMES):
        assert f"{name}  {grade}" in texts(figure)
        assert f"{grade}  {name}" in texts(figure)
    assert "Predicted grade (images)" in texts(figure)


def test_normalised_rows_are_percent_and_an_absent_grade_is_blank(texts: Texts) -> None:
    figure = draw_confusion([("run", COUNTS)], normalise=True)
    shown = panel_texts(figure, 0)
    assert shown[:6] == ["90.0", "6.0", "3.0", "1.0", "0.0", "100"]
    assert shown[6:12] == ["40.0", "40.0", "20.0", "0.0", "0.0", "10"]
    assert shown[18:24] == ["–"] * 5 + ["0"]
    assert "Predicted grade (% of row)" in texts(figure)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_colour_is_the_share_of_the_row_and_row_0_is_on_top(normalise: bool) -> None:
    axes = draw_confusion([("run", COUNTS)], normalise=normalise).axes[0]
    (mesh,) = axes.collections
    colours = mesh.get_array()
    np.testing.assert_allclose(colours[0], COUNTS[0] / 100)
    assert colours.mask[3].all()
    assert not colours.mask[[0, 1, 2, 4]].any()
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert mesh.get_clim() == (0, 1)


@pytest.mark.parametrize("n", [1, 3, 4, 8])
@pytest.mark.parametrize("name", ["run", "resnet50-pretrained_strong-recipe-seed-0-with-a-name-that-never-ends-at-all"])
def test_it_fits(n: int, name: str, check_layout: Check) -> None:
    large = COUNTS * 439  # five digits, as on EyePACS
    figure = draw_confusion([(f"{i} {name}", large) for i in range(n)], normalise=False)
    check_layout(figure)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left") != "" and axes.texts]
    assert len(panels) == n
    sides = {tuple(np.round(axes.get_window_extent().size, 3)) for axes in panels}
    assert len(sides) == 1
    width, height = sides.pop()
    assert width == pytest.approx(height)


def test_nothing_to_draw_and_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="no confusion matrix"):
        draw_confusion([], normalise=False)
    with pytest.raises(ValueError, match=r"'run' has the shape \(4, 4\), not \(5, 5\)"):
        draw_confusion([("run", np.ones((4, 4)))], normalise=False)
