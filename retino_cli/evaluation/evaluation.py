"""An evaluation: predictions on one split, and every number that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from retino_cli.data.manifest import Manifest
from retino_cli.errors import DataError
from retino_cli.evaluation import metrics as scores
from retino_cli.evaluation.baselines import fellow_eye_baseline
from retino_cli.evaluation.bootstrap import bootstrap_intervals
from retino_cli.evaluation.eyes import blend_eyes, by_patient, fellow_probabilities
from retino_cli.evaluation.fitted import Fitted, apply_fitted
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.metrics import Undefined, confusion_matrix, is_collapsed, summarise
from retino_cli.evaluation.operating_point import OperatingPoint, OperatingTable, operating_table
from retino_cli.evaluation.operating_question import OperatingQuestion
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.resampling import N_RESAMPLES, Interval
from retino_cli.grades import SHORT_GRADE_NAMES

Metrics = dict[str, float | Undefined]
Intervals = dict[str, Interval | Undefined]
OF_A_FILE = "predictions"
"""What the split of a file of predictions is called: the file does not say."""


@dataclass(frozen=True, eq=False)
class TwoEyes:
    """The two eyes of a patient together: ``weight`` of the other eye, ``fitted`` on validation or else one half;
    metrics and intervals by image, with the eyes blended, and by patient, the worse eye counting."""

    weight: float
    fitted: bool
    n_patients: int
    images: Metrics
    image_intervals: Intervals
    patients: Metrics
    patient_intervals: Intervals


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions scored on one split.

    ``run_id`` and ``run_name`` name the training that made the model ("" for somebody else's predictions),
    ``evaluation_run_id`` the run that this evaluation is stored in (the same one at the end of a training).
    ``baselines`` hold what no pixel was read for: ``fellow_eye_accuracy``, ``fellow_eye_qwk`` and ``fellow_eye_share``
    where patients and eyes are known. ``confusion`` (5, 5) is None where there are no predicted grades. ``collapsed``
    is the one grade that (almost) every prediction is, else None. ``fitted`` on validation gave ``refined``
    (:func:`~retino_cli.evaluation.fitted.apply_fitted`).
    """

    run_id: str
    run_name: str
    evaluation_run_id: str
    data: str
    split: str
    predictions: Judged
    metrics: Metrics
    intervals: Intervals
    baselines: dict[str, float]
    confusion: np.ndarray | None
    collapsed: int | None
    fitted: Fitted | None = None
    refined: Metrics | None = None
    point: OperatingPoint | None = None
    operating: OperatingTable | None = None
    eyes: TwoEyes | None = None

    @property
    def n_images(self) -> int:
        return len(self.predictions.image_id)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. Undefined metrics are null there, and their reasons stand under ``undefined``."""
        undefined = plain_reasons(self.metrics)
        values: dict[str, Any] = {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "evaluation_run_id": self.evaluation_run_id,
            "data": self.data,
            "split": self.split,
            "n_images": self.n_images,
            "metrics": plain_metrics(self.metrics),
            "intervals": plain_intervals(self.intervals),
            "undefined": undefined,
            "undefined_intervals": plain_reasons(
                {name: value for name, value in self.intervals.items() if name not in undefined}
            ),
            "baselines": self.baselines,
            "collapsed": self.collapsed,
            "confusion_matrix": None if self.confusion is None else self.confusion.tolist(),
        }
        if self.fitted is not None:
            values["fitted"] = self.fitted.to_dict()
            values["refined"] = plain_metrics(self.refined or {})
        if self.operating is not None and self.point is not None:
            table = asdict(self.operating)
            table["values"] = plain_metrics(self.operating.values)
            table["intervals"] = plain_intervals(self.operating.intervals)
            table["undefined"] = plain_reasons(self.operating.values)
            values["operating_point"] = {"chosen_on_validation": asdict(self.point), "table": table}
        if self.eyes is not None:
            values["two_eyes"] = {
                "weight": self.eyes.weight,
                "weight_fitted": self.eyes.fitted,
                "n_patients": self.eyes.n_patients,
                "images": plain_metrics(self.eyes.images),
                "image_intervals": plain_intervals(self.eyes.image_intervals),
                "patients": plain_metrics(self.eyes.patients),
                "patient_intervals": plain_intervals(self.eyes.patient_intervals),
                "undefined": {
                    "images": plain_reasons(self.eyes.images),
                    "patients": plain_reasons(self.eyes.patients),
                },
            }
        return values

    def defined(self, prefix: str = "") -> dict[str, float]:
        """The metrics that are numbers, under ``prefix/name``; interval ends as ``name_low`` and ``name_high``."""
        numbers: dict[str, float | Undefined] = {**self.metrics, **(self.refined or {}), **self.baselines}
        for name, interval in self.intervals.items():
            if isinstance(interval, Interval) and name in LOGGED_INTERVALS:
                numbers |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        if self.operating is not None:
            numbers |= {f"operating_{name}": value for name, value in self.operating.values.items()}
            numbers["operating_threshold"] = self.operating.threshold
        return {
            f"{prefix}/{name}" if prefix else name: value
            for name, value in numbers.items()
            if not isinstance(value, Undefined)
        }

    @property
    def warning(self) -> str | None:
        """The sentence for a model that says (almost) one grade only, else None."""
        if self.collapsed is None or self.confusion is None:
            return None
        share = float(self.confusion[:, self.collapsed].sum() / self.confusion.sum())
        accuracy, majority = self.metrics["accuracy"], self.metrics["majority_accuracy"]
        return (
            f"COLLAPSED: {share:.1%} of the predictions on {self.data if self.split == OF_A_FILE else self.split} "
            f"are grade {self.collapsed} "
            f"({SHORT_GRADE_NAMES[self.collapsed]}). Accuracy {accuracy:.3f} is that grade's share of the images "
            f"(majority baseline {majority:.3f}): the model tells no pictures apart."
        )


LOGGED_INTERVALS = ("accuracy", "qwk", "referable_auc", "macro_auc")
"""The intervals that MLflow gets as metrics; all of them are in metrics.json."""


def judge(
    predictions: Judged,
    *,
    split: str,
    data: str,
    run_id: str = "",
    run_name: str = "",
    evaluation_run_id: str = "",
    manifest: Manifest | None = None,
    fitted: Fitted | None = None,
    question: OperatingQuestion | None = None,
    n_ungradable: int = 0,
    pair_eyes: bool = False,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score ``predictions``, with intervals by ``n_resamples`` bootstrap resamples (clustered by patient).

    With the whole ``manifest``, the fellow-eye baseline is worked out. ``fitted`` on validation is applied beside the
    plain readings. ``question`` asks for an operating table, in which ``n_ungradable`` images may count. ``pair_eyes``
    blends the two eyes of a patient with the fitted weight (one half where none was fitted).
    """
    whole = predictions if isinstance(predictions, Predictions) else None
    return Evaluation(
        run_id=run_id,
        run_name=run_name,
        evaluation_run_id=evaluation_run_id,
        data=data,
        split=split,
        predictions=predictions,
        metrics=summarise(predictions),
        intervals=bootstrap_intervals(predictions, n_resamples=n_resamples, seed=seed),
        baselines=_fellow_eye(whole, manifest, split) if manifest and whole and split in ("val", "test") else {},
        confusion=None
        if predictions.predicted is None or predictions.binary
        else confusion_matrix(predictions.grade, predictions.predicted),
        collapsed=None if predictions.predicted is None or predictions.binary else is_collapsed(predictions),
        fitted=fitted,
        refined=apply_fitted(whole, fitted) if fitted is not None and whole is not None else None,
        point=question.point if question else None,
        operating=operating_table(
            predictions,
            question.point.threshold,
            prevalence=question.prevalence,
            ungradable=n_ungradable,
            policy=question.ungradable,
            target=question.point.target,
            n_resamples=n_resamples,
            seed=seed,
        )
        if question
        else None,
        eyes=_two_eyes(whole, fitted, n_resamples=n_resamples, seed=seed) if pair_eyes and whole is not None else None,
    )


def plain_metrics(metrics: Metrics) -> dict[str, float | None]:
    """Undefined becomes None."""
    return {name: None if isinstance(value, Undefined) else value for name, value in metrics.items()}


def plain_reasons(values: Mapping[str, object]) -> dict[str, str]:
    """Why each of the undefined ones is."""
    return {name: value.reason for name, value in values.items() if isinstance(value, Undefined)}


def plain_intervals(intervals: Intervals) -> dict[str, dict[str, Any] | None]:
    """Intervals as dicts; undefined becomes None."""
    return {name: None if isinstance(one, Undefined) else one.to_dict() for name, one in intervals.items()}


def check_pairs(predictions: Judged) -> None:
    """Raise DataError where ``predictions`` hold no patient with both eyes, or not what it takes to blend them."""
    if not isinstance(predictions, Predictions):
        raise DataError(f"Two eyes cannot be blended: {predictions.lacking}.", "Leave --pair-eyes out.")
    if not fellow_probabilities(predictions)[1].any():
        raise DataError(
            "Two eyes cannot be blended: no image has the other eye of its patient beside it.",
            "Leave --pair-eyes out; or say who is who: a predictions file has the columns patient_id and eye.",
        )


def _two_eyes(predictions: Predictions, fitted: Fitted | None, *, n_resamples: int, seed: int) -> TwoEyes:
    known = fitted.eye_weight if fitted is not None else None
    weight = 0.5 if known is None else known
    blended = blend_eyes(predictions, weight)
    patients = by_patient(blended)
    return TwoEyes(
        weight=weight,
        fitted=known is not None,
        n_patients=len(patients),
        images=summarise(blended),
        image_intervals=bootstrap_intervals(blended, n_resamples=n_resamples, seed=seed),
        patients=summarise(patients),
        patient_intervals=bootstrap_intervals(patients, n_resamples=n_resamples, seed=seed),
    )


def _fellow_eye(predictions: Predictions, manifest: Manifest, split: str) -> dict[str, float]:
    table = manifest.table
    # Test is judged against all of the official train split; the part of it that was cut off as validation, against
    # the rest.
    split_of = table["split"] if split == "val" else manifest.official_split
    train = table[(split_of == "train").to_numpy()]
    judged = pd.DataFrame({"patient_id": predictions.patient_id, "eye": predictions.eye, "grade": predictions.grade})
    if train.empty or not ((judged["patient_id"] != "") & (judged["eye"] != "")).any():
        return {}
    baseline = fellow_eye_baseline(train, judged)
    if not baseline.found.any():  # a split by patient: there is nothing to copy
        return {}
    matrix = confusion_matrix(predictions.grade, baseline.predicted)
    qwk = float(scores.quadratic_weighted_kappa(matrix))
    return {
        "fellow_eye_share": float(baseline.found.mean()),
        "fellow_eye_accuracy": float(scores.accuracy(matrix)),
        **({"fellow_eye_qwk": qwk} if np.isfinite(qwk) else {}),
    }
