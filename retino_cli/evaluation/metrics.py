"""Every number that an evaluation reports, under its name in MLflow and JSON. ``docs/metrics.md`` defines them.

The metrics themselves are pure functions of a confusion matrix (``confusion``) or of scores (``ranking``); both are
importable from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.confusion import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    majority_accuracy,
    precision_per_grade,
    quadratic_weighted_kappa,
    recall_per_grade,
    sensitivity,
    specificity,
)
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.ranking import binary_auc, macro_auc, midranks
from retino_cli.grades import GRADES, REFERABLE_GRADE

__all__ = [
    "COLLAPSE_SHARE",
    "METRIC_NAMES",
    "Undefined",
    "accuracy",
    "balanced_accuracy",
    "binary_auc",
    "confusion_matrix",
    "is_collapsed",
    "macro_auc",
    "macro_f1",
    "majority_accuracy",
    "midranks",
    "precision_per_grade",
    "quadratic_weighted_kappa",
    "recall_per_grade",
    "sensitivity",
    "specificity",
    "summarise",
]

METRIC_NAMES: Final = (
    "accuracy",
    "majority_accuracy",
    "balanced_accuracy",
    "qwk",
    "macro_f1",
    *(f"precision_{grade}" for grade in GRADES),
    *(f"recall_{grade}" for grade in GRADES),
    "macro_auc",
    "referable_auc",
    "referable_sensitivity",
    "referable_specificity",
)
"""The keys of ``summarise``, in the order in which they are shown."""

COLLAPSE_SHARE: Final = 0.99
"""From this share of predictions on, one single grade is called a collapse. A convention: on EyePACS, where 73 % of the
images have grade 0, a model that tells pictures apart stays well below it."""


@dataclass(frozen=True)
class Undefined:
    """A metric that these images do not define (0/0). ``reason`` says why, as a clause: "no image has grade 3"."""

    reason: str

    def __str__(self) -> str:
        return f"n/a ({self.reason})"

    def __format__(self, spec: str) -> str:
        """``n/a`` wherever a number would be formatted, so that ``f"{value:.3f}"`` works for every metric."""
        return "n/a" if spec else str(self)


def summarise(predictions: Predictions) -> dict[str, float | Undefined]:
    """Compute every metric of ``METRIC_NAMES``, in that order. Predicted grades are the most probable ones (argmax).

    Values are finite floats, or ``Undefined`` with a reason; never NaN.
    """
    confusion = confusion_matrix(predictions.grade, predictions.predicted)
    is_referable = predictions.grade >= REFERABLE_GRADE
    precision, recall = precision_per_grade(confusion), recall_per_grade(confusion)
    absent = np.flatnonzero(confusion.sum(axis=1) == 0).tolist()
    no_positive = f"no image is referable (true grade >= {REFERABLE_GRADE})"
    no_negative = f"every image is referable (true grade >= {REFERABLE_GRADE})"
    values: dict[str, tuple[float, str]] = {
        "accuracy": (float(accuracy(confusion)), ""),
        "majority_accuracy": (float(majority_accuracy(confusion)), ""),
        "balanced_accuracy": (float(balanced_accuracy(confusion)), ""),
        "qwk": (
            float(quadratic_weighted_kappa(confusion)),
            f"every true and every predicted grade is {int(predictions.grade[0])}",
        ),
        "macro_f1": (float(macro_f1(confusion)), ""),
        **{f"precision_{k}": (float(precision[k]), f"grade {k} is never predicted") for k in GRADES},
        **{f"recall_{k}": (float(recall[k]), f"no image has grade {k}") for k in GRADES},
        "macro_auc": (float(macro_auc(predictions.grade, predictions.probabilities)), _absence(absent)),
        "referable_auc": (
            float(binary_auc(is_referable, predictions.referable_score)),
            no_negative if is_referable.all() else no_positive,
        ),
        "referable_sensitivity": (float(sensitivity(confusion)), no_positive),
        "referable_specificity": (float(specificity(confusion)), no_negative),
    }
    return {name: value if np.isfinite(value) else Undefined(reason) for name, (value, reason) in values.items()}


def is_collapsed(predictions: Predictions | npt.ArrayLike) -> int | None:
    """The one grade that (almost) every prediction is, or None.

    A model has collapsed when at least ``COLLAPSE_SHARE`` (99 %) of its predictions are one grade while more than one
    grade occurs: its accuracy is then the majority share, or less, and its QWK about 0. Takes predictions or one (5, 5)
    confusion matrix. Compare the answer with None: grade 0, the usual collapse, is false as a truth value.
    """
    if isinstance(predictions, Predictions):
        confusion = confusion_matrix(predictions.grade, predictions.predicted)
    else:
        confusion = np.asarray(predictions)
        if confusion.shape != (len(GRADES), len(GRADES)):
            raise ValueError(f"one confusion matrix has the shape (5, 5), not {confusion.shape}")
    predicted = confusion.sum(axis=0)
    several_grades = np.count_nonzero(confusion.sum(axis=1)) > 1
    if several_grades and predicted.max() >= COLLAPSE_SHARE * predicted.sum():
        return int(np.argmax(predicted))
    return None


def _absence(grades: list[int]) -> str:
    """ "no image has grade 3", "no image has grade 1, 3 or 4"."""
    names = [str(grade) for grade in grades]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else ""
    return f"no image has grade {listed}"
