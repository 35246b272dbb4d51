"""What metrics and intervals need of predictions, and the two kinds that hold less than five probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retino_cli.errors import DataError
from retino_cli.evaluation.predictions import EYES, PredictionRowError, write_rows
from retino_cli.grades import GRADES, REFERABLE_GRADE, VISION_THREATENING_GRADE

Texts = npt.NDArray[np.str_]
Grades = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


class Judged(Protocol):
    """Predictions for N images of known grade, of any origin. What they do not hold is None, and ``lacking`` says why.

    ``Predictions`` (five probabilities) holds everything; ``ScoredPredictions``, ``GradedPredictions`` and
    ``eyes.PatientPredictions`` hold less. ``metrics.summarise`` and the bootstrap take any of them.
    """

    @property
    def image_id(self) -> Texts: ...
    @property
    def patient_id(self) -> Texts: ...
    @property
    def grade(self) -> Grades:
        """(N,) true grade 0..4; where ``binary``, 1 means referable and 0 not."""

    @property
    def binary(self) -> bool: ...
    @property
    def predicted(self) -> Grades | None: ...
    @property
    def expected_grade(self) -> Array | None: ...
    @property
    def referable_score(self) -> Array | None: ...
    @property
    def vision_threatening_score(self) -> Array | None: ...
    @property
    def probabilities(self) -> Array | None: ...
    @property
    def lacking(self) -> str:
        """Why something is None, as a clause; empty where nothing is."""


def is_referable(judged: Judged) -> npt.NDArray[np.bool_]:
    """(N,) bool: images whose true grade is referable (>= 2; 1 where the labels are binary)."""
    return np.asarray(judged.grade >= (1 if judged.binary else REFERABLE_GRADE))


def is_vision_threatening(judged: Judged) -> npt.NDArray[np.bool_]:
    """(N,) bool: images whose true grade is vision-threatening (>= 3). ``ValueError`` where the labels are binary."""
    if judged.binary:
        raise ValueError("binary labels do not say which images are vision-threatening")
    return np.asarray(judged.grade >= VISION_THREATENING_GRADE)


@dataclass(frozen=True, eq=False)
class GradedPredictions:
    """Plain grades: ``predicted`` (N,) int64 0..4, and no probabilities. The other columns as in ``Predictions``.

    Raises ``DataError`` where a shape does not fit, ``PredictionRowError`` for the first row that breaks a rule.
    """

    image_id: Texts
    patient_id: Texts
    eye: Texts
    grade: Grades
    predicted: Grades

    def __post_init__(self) -> None:
        _freeze(self, {"grade": np.int64, "predicted": np.int64})
        _refuse(self.image_id, ~np.isin(self.predicted, GRADES), "the predicted grade is not one of 0, 1, 2, 3, 4")

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.image_id)

    @property
    def binary(self) -> bool:
        return False

    @property
    def expected_grade(self) -> None:
        return None

    @property
    def referable_score(self) -> None:
        return None

    @property
    def vision_threatening_score(self) -> None:
        return None

    @property
    def probabilities(self) -> None:
        return None

    @property
    def lacking(self) -> str:
        return "these predictions hold grades only"


@dataclass(frozen=True, eq=False)
class ScoredPredictions:
    """A score for referable DR alone: ``score`` (N,) float64, finite, higher for more likely referable.

    The score need not be a probability. ``binary``: the labels in ``grade`` are 1 for referable and 0 for not, instead
    of 0..4. The other columns as in ``Predictions``, and so are the errors.
    """

    image_id: Texts
    patient_id: Texts
    eye: Texts
    grade: Grades
    score: Array
    binary: bool = False

    def __post_init__(self) -> None:
        _freeze(self, {"grade": np.int64, "score": np.float64})
        _refuse(self.image_id, ~np.isfinite(self.score), "the score is not a finite number")
        if self.binary:
            _refuse(self.image_id, self.grade > 1, "the label is not 0 (not referable) or 1 (referable)")

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.image_id)

    @property
    def predicted(self) -> None:
        return None

    @property
    def expected_grade(self) -> None:
        return None

    @property
    def referable_score(self) -> Array:
        return self.score

    @property
    def vision_threatening_score(self) -> None:
        return None

    @property
    def probabilities(self) -> None:
        return None

    @property
    def lacking(self) -> str:
        return "these predictions hold a score for referable DR only"


def write_judged(judged: GradedPredictions | ScoredPredictions, path: Path) -> None:
    """Write plain grades or scores as CSV: image_id, patient_id, eye, grade, and predicted or referable_score.

    ``foreign.read_foreign`` reads it back as it was. Errors as in ``predictions.write_predictions``.
    """
    name, values = (
        ("predicted", judged.predicted.tolist())
        if isinstance(judged, GradedPredictions)
        else ("referable_score", judged.score.tolist())
    )
    columns = (judged.image_id.tolist(), judged.patient_id.tolist(), judged.eye.tolist(), judged.grade.tolist(), values)
    write_rows(path, ("image_id", "patient_id", "eye", "grade", name), columns)


def _freeze(predictions: GradedPredictions | ScoredPredictions, numbers: dict[str, type]) -> None:
    """Replace the arrays by read-only copies, and check what both kinds have in common."""
    n = len(predictions.image_id)
    if n == 0:
        raise DataError("predictions: there is no image in them", "Predict at least one image.")
    for name in ("image_id", "patient_id", "eye", *numbers):
        array = np.asarray(getattr(predictions, name))
        if numbers.get(name) is np.int64 and not np.issubdtype(array.dtype, np.integer):
            raise DataError(f"predictions: {name} is {array.dtype}, not integers")
        if array.shape != (n,):
            raise DataError(f"predictions: {name} has the shape {array.shape}, not ({n},)")
        copy: npt.NDArray[Any] = np.array(array, dtype=numbers.get(name, np.str_))
        copy.setflags(write=False)
        object.__setattr__(predictions, name, copy)
    ids = predictions.image_id
    _refuse(ids, ids == "", "the image_id is empty")
    _refuse(ids, ~np.isin(predictions.eye, EYES), "the eye is not left, right or empty")
    _refuse(ids, ~np.isin(predictions.grade, GRADES), "the grade is not one of 0, 1, 2, 3, 4")
    first = np.zeros(n, dtype=np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    _refuse(ids, ~first, "it occurs more than once")


def _refuse(image_id: Texts, bad: npt.NDArray[np.bool_], problem: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise PredictionRowError(row, f"image {str(image_id[row])!r}: {problem}")
