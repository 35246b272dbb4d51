"""Which images a report shows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from samples import make_predictions

from retino_cli.evaluation.metrics import confusion_matrix
from retino_cli.evaluation.predictions import Predictions
from retino_cli.report.selection import cell_rows, share_out, worst_errors


def graded(rows: list[tuple[str, int, int, float]]) -> Predictions:
    """Predictions of (name, true grade, predicted grade, its probability)."""
    probabilities = np.zeros((len(rows), 5))
    for place, (_name, _true, said, p) in enumerate(rows):
        probabilities[place] = (1 - p) / 4
        probabilities[place, said] = p
    empty = np.array([""] * len(rows))
    return Predictions(np.array([r[0] for r in rows]), empty, empty, np.array([r[1] for r in rows]), probabilities)


def test_the_worst_come_first_by_distance_then_confidence_then_name() -> None:
    predictions = graded(
        [
            ("right", 2, 2, 0.9),
            ("near", 1, 2, 0.99),
            ("far, unsure", 0, 4, 0.5),
            ("far, sure b", 4, 0, 0.8),
            ("far, sure a", 0, 4, 0.8),
            ("middle", 0, 2, 0.9),
        ]
    )
    names = predictions.image_id[worst_errors(predictions)].tolist()
    assert names == ["far, sure a", "far, sure b", "far, unsure", "middle", "near"]
    assert predictions.image_id[worst_errors(predictions, most=2)].tolist() == names[:2]


grades = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=200)


@given(grades, st.integers(0, 100))
def test_cells_hold_every_image_once_and_are_shared_out_evenly(pairs: list[tuple[int, int]], most: int) -> None:
    predictions = make_predictions([t for t, _ in pairs], [p for _, p in pairs])
    cells = cell_rows(predictions)
    matrix = confusion_matrix(predictions.grade, predictions.predicted)
    assert all(len(cells[true, said]) == matrix[true, said] for true, said in cells)
    assert sorted(np.concatenate(list(cells.values())).tolist()) == list(range(len(pairs)))
    shown = share_out(cells, most=most)
    assert sum(map(len, shown.values())) <= most
    cap = max(map(len, shown.values()))
    for cell, rows in shown.items():
        assert len(rows) == min(cap, len(cells[cell]))
        assert len(set(rows.tolist())) == len(rows)
        assert set(rows.tolist()) <= set(cells[cell].tolist())
        if len(rows) > 1:
            assert (rows[0], rows[-1]) == (cells[cell][0], cells[cell][-1])
    if len(pairs) <= most:
        assert sum(map(len, shown.values())) == len(pairs)
