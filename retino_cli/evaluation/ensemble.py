"""What several networks say together: the mean of their probabilities, from predictions that are there already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retino_cli.errors import DataError
from retino_cli.evaluation.predictions import Predictions


def average_predictions(predictions: Sequence[Predictions]) -> Predictions:
    """One or more predictions of the same images -> their mean, p_k = (1/M) sum over m of p_k of member m, in the order
    of the first. What an :class:`~retino_cli.models.ensemble.Ensemble` predicts, but for rounding.

    Raises DataError where images or true grades are not the same in all.
    """
    first = predictions[0]
    rows = {name: row for row, name in enumerate(first.image_id.tolist())}
    total = np.zeros_like(first.probabilities)
    for one in predictions:
        places = [rows.get(name, -1) for name in one.image_id.tolist()]
        if len(places) != len(rows) or -1 in places or (first.grade[places] != one.grade).any():
            raise DataError(
                "The seeds were judged on different images or grades: they have no mean.",
                "The data changed between them: delete the odd one in MLflow, and repeat the command that trained it.",
            )
        total[places] += one.probabilities
    return Predictions(
        image_id=first.image_id,
        patient_id=first.patient_id,
        eye=first.eye,
        grade=first.grade,
        probabilities=total / len(predictions),
    )
