"""Two eyes of one patient: predictions that look at both, and a report by patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.confusion import confusion_matrix, quadratic_weighted_kappa
from retino_cli.evaluation.judged import Array, Grades, Texts
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import N_GRADES

_WEIGHTS: Final = np.arange(101) / 100.0


@dataclass(frozen=True)
class EyeWeight:
    """The weight of the other eye that was fitted: ``qwk`` with it and ``qwk_alone`` without, on ``n_images``, of which
    ``n_paired`` have a fellow."""

    value: float
    qwk: float
    qwk_alone: float
    n_images: int
    n_paired: int


def blend_eyes(predictions: Predictions, weight: float) -> Predictions:
    """Mix each image's probabilities with those of the same patient's other eye: p' = (1 - w) p + w p_other.

    p_other is the mean over all images of the other eye. Images without a patient, an eye, or a fellow are unchanged.
    ``weight`` w is in [0, 1]: 0 changes nothing, 1/2 gives both eyes the same. ``ValueError`` for another weight.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of the other eye is {weight}, not between 0 and 1")
    other, has_other = fellow_probabilities(predictions)
    p = predictions.probabilities
    mixed = np.where(has_other[:, None], (1.0 - weight) * p + weight * other, p)
    return _with_probabilities(predictions, mixed)


def fit_eye_weight(validation: Predictions) -> EyeWeight | Undefined:
    """The weight in 0, 0.01, ..., 1 with the highest QWK (of the most probable grade) on ``validation``.

    Of equally good weights the smallest. Fit on validation only. ``Undefined`` where no image has a fellow eye, or
    QWK is undefined.
    """
    other, has_other = fellow_probabilities(validation)
    if not has_other.any():
        return Undefined("no image has the other eye of its patient beside it")
    p, grade = validation.probabilities, validation.grade

    def qwk(weight: float) -> float:
        mixed = np.where(has_other[:, None], (1.0 - weight) * p + weight * other, p)
        return float(quadratic_weighted_kappa(confusion_matrix(grade, np.argmax(mixed, axis=1))))

    values = np.array([qwk(weight) for weight in _WEIGHTS])
    if np.isnan(values[0]) or np.isnan(values).all():
        return Undefined(f"every true and every predicted grade is {int(grade[0])}")
    best = int(np.nanargmax(values))
    return EyeWeight(
        float(_WEIGHTS[best]), float(values[best]), float(values[0]), len(validation), int(has_other.sum())
    )


def fellow_probabilities(predictions: Predictions) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The mean probabilities of the same patient's other eye, (N, 5), and whether there is one, (N,) bool.

    Rows without a fellow are 0.
    """
    known = (predictions.patient_id != "") & (predictions.eye != "")
    patients, code = np.unique(predictions.patient_id, return_inverse=True)
    side = (predictions.eye == "right").astype(np.int64)
    slot = np.where(known, code * 2 + side, 0)
    n_slots = 2 * len(patients)
    p = predictions.probabilities * known[:, None]
    sums = np.stack([np.bincount(slot, weights=column, minlength=n_slots) for column in p.T], axis=1)
    count = np.bincount(slot, weights=known.astype(np.float64), minlength=n_slots)
    fellow = slot ^ 1
    has_other = known & (count[fellow] > 0)
    mean = sums[fellow] / np.maximum(count[fellow], 1.0)[:, None]
    return np.where(has_other[:, None], mean, 0.0), has_other


@dataclass(frozen=True, eq=False)
class PatientPredictions:
    """One row per patient, the worse eye counting. An image without a known patient is a patient of its own.

    ``patient_id`` (P,) sorted, with the image's name where the patient is unknown; ``n_images`` (P,); ``grade`` the
    highest true grade; ``predicted`` the highest predicted grade; ``expected_grade``, ``referable_score`` and
    ``vision_threatening_score`` the highest of the images. A ``judged.Judged``: metrics and intervals take it as it is.
    """

    patient_id: Texts
    n_images: npt.NDArray[np.int64]
    grade: Grades
    predicted: Grades
    expected_grade: Array
    referable_score: Array
    vision_threatening_score: Array

    def __len__(self) -> int:
        """The number of patients P."""
        return len(self.patient_id)

    @property
    def image_id(self) -> Texts:
        """The patients: what is judged here is a patient, not an image."""
        return self.patient_id

    @property
    def binary(self) -> bool:
        return False

    @property
    def probabilities(self) -> None:
        return None

    @property
    def lacking(self) -> str:
        return "a patient has no probabilities of the five grades, only those of two eyes"


def by_patient(predictions: Predictions) -> PatientPredictions:
    """Gather the images of each patient; the worse eye counts (see ``PatientPredictions``)."""
    known = predictions.patient_id != ""
    keys = np.where(known, np.strings.add("p", predictions.patient_id), np.strings.add("i", predictions.image_id))
    names, code = np.unique(keys, return_inverse=True)

    def highest(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        worst = np.full(len(names), -np.inf)
        np.maximum.at(worst, code, values.astype(np.float64))
        return worst

    return PatientPredictions(
        patient_id=_plain_names(names),
        n_images=np.bincount(code).astype(np.int64),
        grade=highest(predictions.grade).astype(np.int64),
        predicted=highest(predictions.predicted).astype(np.int64),
        expected_grade=highest(predictions.expected_grade),
        referable_score=highest(predictions.referable_score),
        vision_threatening_score=highest(predictions.vision_threatening_score),
    )


def _plain_names(keys: Texts) -> Texts:
    """Without the letter in front, unless a patient and an image then had one name."""
    names = np.array([key[1:] for key in keys.tolist()], dtype=np.str_)
    return names if len(np.unique(names)) == len(names) else keys


def _with_probabilities(predictions: Predictions, probabilities: Array) -> Predictions:
    if probabilities.shape != (len(predictions), N_GRADES):
        raise ValueError(f"probabilities of the shape {probabilities.shape} do not fit {len(predictions)} images")
    return Predictions(
        image_id=predictions.image_id,
        patient_id=predictions.patient_id,
        eye=predictions.eye,
        grade=predictions.grade,
        probabilities=probabilities,
    )
