"""Every number that an evaluation reports, under its name in MLflow and JSON. ``docs/metrics.md`` defines them.

The metrics themselves are pure functions of a confusion matrix (``confusion``) or of scores (``ranking``); both are
importable from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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
from retino_cli.evaluation.judged import Judged, is_referable, is_vision_threatening
from retino_cli.evaluation.probability import brier_score, expected_calibration_error, negative_log_likelihood
from retino_cli.evaluation.ranking import binary_auc, macro_auc, midranks
from retino_cli.grades import GRADES, REFERABLE_GRADE, VISION_THREATENING_GRADE

__all__ = [
    "COLLAPSE_SHARE",
    "LOWER_IS_BETTER",
    "METRIC_NAMES",
    "Undefined",
    "accuracy",
    "balanced_accuracy",
    "binary_auc",
    "brier_score",
    "confusion_matrix",
    "expected_calibration_error",
    "is_collapsed",
    "macro_auc",
    "macro_f1",
    "majority_accuracy",
    "midranks",
    "negative_log_likelihood",
    "precision_per_grade",
    "quadratic_weighted_kappa",
    "recall_per_grade",
    "round_grade",
    "sensitivity",
    "specificity",
    "summarise",
]

_TARGETS: Final = ("referable", "vision_threatening")
_OF_GRADES: Final = (
    "accuracy",
    "majority_accuracy",
    "balanced_accuracy",
    "qwk",
    "qwk_rounded",
    "macro_f1",
    *(f"precision_{grade}" for grade in GRADES),
    *(f"recall_{grade}" for grade in GRADES),
)

METRIC_NAMES: Final = (
    *_OF_GRADES,
    "macro_auc",
    *(f"{target}_{kind}" for target in _TARGETS for kind in ("auc", "sensitivity", "specificity")),
    "brier",
    "nll",
    "ece",
    "ece_equal_mass",
)
"""The keys of ``summarise``, in the order in which they are shown."""

LOWER_IS_BETTER: Final = frozenset({"brier", "nll", "ece", "ece_equal_mass", "loss"})

COLLAPSE_SHARE: Final = 0.99
"""From this share of predictions on, one single grade is called a collapse. A convention: on EyePACS, where 73 % of the
images have grade 0, a model that tells pictures apart stays well below it."""


@dataclass(frozen=True)
class Undefined:
    """A metric that these images do not define (0/0), or these predictions do not hold.

    ``reason`` says why, as a clause: "no image has grade 3", "these predictions hold grades only".
    """

    reason: str

    def __str__(self) -> str:
        return f"n/a ({self.reason})"

    def __format__(self, spec: str) -> str:
        """``n/a`` wherever a number would be formatted, so that ``f"{value:.3f}"`` works for every metric."""
        return "n/a" if spec else str(self)


def summarise(predictions: Judged) -> dict[str, float | Undefined]:
    """Compute every metric of ``METRIC_NAMES``, in that order. Predicted grades are the most probable ones (argmax).

    Takes predictions of any kind (``judged.Judged``); what cannot be computed from them is ``Undefined``, as is what
    these images do not define. All other values are finite floats, never NaN.
    """
    found = {**_of_grades(predictions), **_of_scores(predictions), **_of_probabilities(predictions)}
    missing = Undefined(predictions.lacking)
    return {name: found.get(name, missing) for name in METRIC_NAMES}


def round_grade(expected_grade: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The nearest grade, halves up: how many of 0.5, 1.5, 2.5, 3.5 are at most the expected grade. (N,) -> (N,)."""
    cuts = np.arange(len(GRADES) - 1) + 0.5
    return np.searchsorted(cuts, np.asarray(expected_grade, dtype=np.float64), side="right").astype(np.int64)


def _of_grades(predictions: Judged) -> dict[str, float | Undefined]:
    """What follows from true and predicted grades."""
    grade, predicted = predictions.grade, predictions.predicted
    if predictions.binary:
        return dict.fromkeys(_OF_GRADES, Undefined("the labels say referable or not, and no grade"))
    if predicted is None:
        counts = confusion_matrix(grade, grade)  # its diagonal holds the true grades: enough for the baseline
        return {"majority_accuracy": float(majority_accuracy(counts))}
    confusion = confusion_matrix(grade, predicted)
    precision, recall = precision_per_grade(confusion), recall_per_grade(confusion)
    one_grade = f"every true and every predicted grade is {int(grade[0])}"
    values: dict[str, float | Undefined] = {
        "accuracy": float(accuracy(confusion)),
        "majority_accuracy": float(majority_accuracy(confusion)),
        "balanced_accuracy": float(balanced_accuracy(confusion)),
        "qwk": _defined(quadratic_weighted_kappa(confusion), one_grade),
        "macro_f1": float(macro_f1(confusion)),
        **{f"precision_{k}": _defined(precision[k], f"grade {k} is never predicted") for k in GRADES},
        **{f"recall_{k}": _defined(recall[k], f"no image has grade {k}") for k in GRADES},
    }
    if predictions.expected_grade is not None:
        rounded = confusion_matrix(grade, round_grade(predictions.expected_grade))
        values["qwk_rounded"] = _defined(
            quadratic_weighted_kappa(rounded), f"every true and every rounded grade is {int(grade[0])}"
        )
    for target, threshold in zip(_TARGETS, (REFERABLE_GRADE, VISION_THREATENING_GRADE), strict=True):
        none, all_of_them = absence_reasons(target)
        values[f"{target}_sensitivity"] = _defined(sensitivity(confusion, threshold), none)
        values[f"{target}_specificity"] = _defined(specificity(confusion, threshold), all_of_them)
    return values


def _of_scores(predictions: Judged) -> dict[str, float | Undefined]:
    """Areas under the ROC curve."""
    values: dict[str, float | Undefined] = {}
    if predictions.referable_score is not None:
        positive = is_referable(predictions)
        reason = absence_reasons("referable")[int(positive.all())]
        values["referable_auc"] = _defined(binary_auc(positive, predictions.referable_score), reason)
    if predictions.vision_threatening_score is not None:
        positive = is_vision_threatening(predictions)
        reason = absence_reasons("vision_threatening")[int(positive.all())]
        values["vision_threatening_auc"] = _defined(binary_auc(positive, predictions.vision_threatening_score), reason)
    if predictions.probabilities is not None:
        absent = [k for k in GRADES if not (predictions.grade == k).any()]
        values["macro_auc"] = _defined(macro_auc(predictions.grade, predictions.probabilities), _absence(absent))
    return values


def _of_probabilities(predictions: Judged) -> dict[str, float | Undefined]:
    """What the five probabilities are worth as such: always defined."""
    grade, p = predictions.grade, predictions.probabilities
    if p is None:
        return {}
    return {
        "brier": brier_score(grade, p),
        "nll": negative_log_likelihood(grade, p),
        "ece": expected_calibration_error(grade, p),
        "ece_equal_mass": expected_calibration_error(grade, p, binning="equal_mass"),
    }


def _defined(value: npt.ArrayLike, reason: str) -> float | Undefined:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else Undefined(reason)


def absence_reasons(target: str) -> tuple[str, str]:
    """Why a metric of ``target`` ("referable", "vision_threatening") is undefined: no image has it, or all have."""
    name = {"referable": "referable", "vision_threatening": "vision-threatening"}[target]
    threshold = {"referable": REFERABLE_GRADE, "vision_threatening": VISION_THREATENING_GRADE}[target]
    return f"no image is {name} (true grade >= {threshold})", f"every image is {name} (true grade >= {threshold})"


def is_collapsed(predictions: Judged | npt.NDArray[Any]) -> int | None:
    """The one grade that (almost) every prediction is, or None.

    A model has collapsed when at least ``COLLAPSE_SHARE`` (99 %) of its predictions are one grade while more than one
    grade occurs: its accuracy is then the majority share, or less, and its QWK about 0. Takes predictions of any kind
    (those without predicted grades are never called collapsed) or one (5, 5) confusion matrix. Compare the answer with
    None: grade 0, the usual collapse, is false as a truth value.
    """
    if isinstance(predictions, np.ndarray):
        confusion = predictions
        if confusion.shape != (len(GRADES), len(GRADES)):
            raise ValueError(f"one confusion matrix has the shape (5, 5), not {confusion.shape}")
    elif predictions.predicted is None or predictions.binary:
        return None
    else:
        confusion = confusion_matrix(predictions.grade, predictions.predicted)
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
