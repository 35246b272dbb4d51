"""Confusion matrices of one or several runs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from retino_cli.figures import style
from retino_cli.grades import GRADE_NAMES, GRADES, N_GRADES

# The layout in inches. It is fixed, not negotiated by matplotlib: cells keep their size, whatever the names.
_LEFT: Final = 1.27  # the names of the true grades
_SUPPORT: Final = 0.42  # the number of images, right of each matrix
_GAP: Final = 0.1  # between that and the next matrix
_LARGEST: Final = 1.9
_TITLE_LINE: Final = 0.135
_TITLE_PAD: Final = 0.3
_TICKS: Final = 0.24  # the digits below a matrix that has another one under it
_FOOT: Final = 1.06  # the slanted names of the predicted grades


def draw_confusion(matrices: Sequence[tuple[str, npt.ArrayLike]], normalise: bool = False) -> Figure:
    """Draw one confusion matrix per run, rows true grade, columns predicted grade.

    ``matrices``: (name, (5, 5) counts) per run. Cells show counts, or, with ``normalise``, the share of the row (the
    images of that true grade), in percent. The colour is the share of the row in both: counts alone would show nothing
    but how frequent grade 0 is. The number of images of each true grade (support) stands right of its row; a grade that
    does not occur has grey cells. One matrix is as wide as a column, several are as wide as a page.

    Raises ``ValueError`` without a matrix, or for one that is not (5, 5).
    """
    if not matrices:
        raise ValueError("there is no confusion matrix to draw")
    counts = [(name, np.asarray(matrix)) for name, matrix in matrices]
    for name, matrix in counts:
        if matrix.shape != (N_GRADES, N_GRADES):
            raise ValueError(f"the confusion matrix of {name!r} has the shape {matrix.shape}, not (5, 5)")
    columns, rows = _grid(len(counts), digits=max(len(_cell(matrix.max(), 0, occurs=True)) for _, matrix in counts))
    width = style.COLUMN_WIDTH if len(counts) == 1 else style.FULL_WIDTH
    side = min(_LARGEST, (width - _LEFT - (columns - 1) * _GAP) / columns - _SUPPORT)
    titles = [style.wrap(name, round(16 * (side + _SUPPORT - 0.1))) for name, _ in counts]
    title_height = _TITLE_PAD + _TITLE_LINE * max(title.count("\n") + 1 for title in titles)
    step_x, step_y = (width - _LEFT + _GAP) / columns, title_height + side + _TICKS
    height = rows * step_y - _TICKS + _FOOT
    with style.house_style():
        figure = style.new_figure(width, height, layout=None)
        for index, (title, (_, matrix)) in enumerate(zip(titles, counts, strict=True)):
            row, column = divmod(index, columns)
            x, top = _LEFT + column * step_x, height - title_height - row * step_y
            axes = figure.add_axes((x / width, (top - side) / height, side / width, side / height))
            _draw_matrix(axes, matrix, normalise=normalise)
            axes.set_title(title, pad=15, fontsize=7.5, loc="left")  # above the word "images", which ends at its right
            if column == 0:
                axes.set_yticklabels([f"{name}  {grade}" for grade, name in zip(GRADES, GRADE_NAMES, strict=True)])
                axes.set_ylabel("True grade")
            if row == rows - 1:
                names = [f"{grade}  {name}" for grade, name in zip(GRADES, GRADE_NAMES, strict=True)]
                axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
                axes.set_xlabel(f"Predicted grade ({'% of row' if normalise else 'images'})")
    return figure


def _grid(n: int, *, digits: int) -> tuple[int, int]:
    """Columns and rows for n matrices: as few rows as there is room for such numbers, as evenly filled as can be."""
    rows = -(-n // (3 if digits <= 4 else 2))
    return -(-n // rows), rows


def _draw_matrix(axes: Any, matrix: npt.NDArray[Any], *, normalise: bool) -> None:
    support = matrix.sum(axis=1)
    share = matrix / np.where(support > 0, support, 1)[:, None]
    shown = np.ma.masked_array(share, mask=np.broadcast_to((support == 0)[:, None], share.shape))
    colours = matplotlib.colormaps[style.SEQUENTIAL].with_extremes(bad="#eeeeee")
    axes.grid(False)
    # Rectangles, not an image: they stay sharp and editable in SVG.
    axes.pcolormesh(shown, cmap=colours, vmin=0.0, vmax=1.0, edgecolors="white", linewidth=0.8)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    ticks = np.arange(N_GRADES) + 0.5
    axes.set_xticks(ticks, [str(grade) for grade in GRADES])
    axes.set_yticks(ticks, [str(grade) for grade in GRADES])
    axes.tick_params(length=0, pad=3)
    for i in GRADES:
        for j in GRADES:
            text = _cell(matrix[i, j], share[i, j], normalise=normalise, occurs=bool(support[i] > 0))
            axes.text(
                j + 0.5,
                i + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=style.SMALLEST,
                color="white" if share[i, j] > 0.55 else style.INK,
                fontweight="bold" if i == j else "normal",
            )
        axes.text(
            N_GRADES + 0.12, i + 0.5, f"{support[i]:.0f}", va="center", fontsize=style.SMALLEST, color=style.MUTED
        )
    axes.text(N_GRADES + 0.12, -0.08, "images", va="bottom", fontsize=style.SMALLEST, color=style.MUTED)


def _cell(count: float, share: float, *, normalise: bool = False, occurs: bool) -> str:
    if not normalise:
        return f"{count:.0f}"
    return f"{100 * share:.1f}" if occurs else "–"
