"""Which images a report shows: the worst errors, and a fair share of every cell of the confusion matrix."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import GRADES

MOST_ERRORS: Final = 60
"""Errors that are shown one by one, with heat maps."""
MOST_SMALL_PICTURES: Final = 2400
"""Small pictures in all cells together."""

Rows = npt.NDArray[np.int64]
Cell = tuple[int, int]
"""(true grade, predicted grade)"""


def worst_errors(predictions: Predictions, *, most: int = MOST_ERRORS) -> Rows:
    """The rows of wrong predictions, the worst first, at most ``most``: the largest distance in grades, then the
    highest probability of the predicted grade, then the name."""
    predicted = predictions.predicted
    distance = np.abs(predicted - predictions.grade)
    order = np.lexsort((predictions.image_id, -predictions.probabilities.max(axis=1), -distance))
    return np.asarray(order[distance[order] > 0][:most], dtype=np.int64)


def cell_rows(predictions: Predictions) -> dict[Cell, Rows]:
    """The rows of every cell of the confusion matrix, the most confident first, then by name."""
    predicted = predictions.predicted
    order = np.lexsort((predictions.image_id, -predictions.probabilities.max(axis=1)))
    return {
        (true, said): order[(predictions.grade[order] == true) & (predicted[order] == said)].astype(np.int64)
        for true in GRADES
        for said in GRADES
    }


def share_out(cells: dict[Cell, Rows], *, most: int = MOST_SMALL_PICTURES) -> dict[Cell, Rows]:
    """At most ``most`` rows of all cells together: the same number of every cell, as far as it has so many.

    Of a cell that has more, rows are taken at equal distances, the first and the last among them: from the most
    confident prediction to the least. The same cells give the same rows.
    """
    cap = _common_cap([len(rows) for rows in cells.values()], most)
    return {cell: rows[_spread(len(rows), min(cap, len(rows)))] for cell, rows in cells.items()}


def _common_cap(sizes: list[int], most: int) -> int:
    """The largest number c for which the sum of min(size, c) does not exceed ``most``."""
    left, remaining = most, sorted(sizes)
    while remaining:
        equal = left // len(remaining)
        if remaining[0] > equal:
            return equal
        left -= remaining.pop(0)
    return max(sizes, default=0)


def _spread(n: int, wanted: int) -> Rows:
    """``wanted`` of the places 0..n-1 at equal distances, both ends among them."""
    if wanted <= 1:
        return np.zeros(wanted, dtype=np.int64)
    return np.asarray(np.arange(wanted) * (n - 1) // (wanted - 1), dtype=np.int64)
