"""An evaluation: predictions on one split, and every number and file that follows from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retino_cli.data.manifest import Manifest
from retino_cli.evaluation import metrics as scores
from retino_cli.evaluation.baselines import fellow_eye_baseline
from retino_cli.evaluation.metrics import (
    Undefined,
    confusion_matrix,
    is_collapsed,
    quadratic_weighted_kappa,
    summarise,
)
from retino_cli.evaluation.predictions import Predictions, write_predictions
from retino_cli.figures import style
from retino_cli.figures.confusion import draw_confusion
from retino_cli.grades import SHORT_GRADE_NAMES

Metrics = dict[str, float | Undefined]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model scored on one split.

    ``run_id`` and ``run_name`` name the training that made the model, ``evaluation_run_id`` the run that this
    evaluation is stored in (the same one at the end of a training). ``baselines`` hold what no pixel was read for:
    ``fellow_eye_accuracy`` and ``fellow_eye_qwk`` where patients and eyes are known. ``collapsed`` is the one grade
    that (almost) every prediction is, else None.
    """

    run_id: str
    run_name: str
    evaluation_run_id: str
    data: str
    split: str
    predictions: Predictions
    metrics: Metrics
    baselines: dict[str, float]
    confusion: np.ndarray
    collapsed: int | None

    @property
    def n_images(self) -> int:
        return len(self.predictions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. Undefined metrics are null there, and their reasons stand under ``undefined``."""
        undefined = {name: value.reason for name, value in self.metrics.items() if isinstance(value, Undefined)}
        return {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "evaluation_run_id": self.evaluation_run_id,
            "data": self.data,
            "split": self.split,
            "n_images": self.n_images,
            "metrics": {name: None if name in undefined else value for name, value in self.metrics.items()},
            "undefined": undefined,
            "baselines": self.baselines,
            "collapsed": self.collapsed,
            "confusion_matrix": self.confusion.tolist(),
        }

    def defined(self, prefix: str = "") -> dict[str, float]:
        """The metrics that are numbers, under ``prefix/name``."""
        numbers = {**{k: v for k, v in self.metrics.items() if not isinstance(v, Undefined)}, **self.baselines}
        return {f"{prefix}/{name}" if prefix else name: value for name, value in numbers.items()}

    @property
    def warning(self) -> str | None:
        """The sentence for a model that says (almost) one grade only, else None."""
        if self.collapsed is None:
            return None
        share = float(self.confusion[:, self.collapsed].sum() / self.confusion.sum())
        accuracy, majority = self.metrics["accuracy"], self.metrics["majority_accuracy"]
        return (
            f"COLLAPSED: {share:.1%} of the predictions on {self.split} are grade {self.collapsed} "
            f"({SHORT_GRADE_NAMES[self.collapsed]}). Accuracy {accuracy:.3f} is that grade's share of the images "
            f"(majority baseline {majority:.3f}): the model tells no pictures apart."
        )


def judge(
    predictions: Predictions,
    *,
    split: str,
    data: str,
    run_id: str = "",
    run_name: str = "",
    evaluation_run_id: str = "",
    manifest: Manifest | None = None,
) -> Evaluation:
    """Score ``predictions``. With the whole ``manifest``, the fellow-eye baseline is worked out beside them."""
    return Evaluation(
        run_id=run_id,
        run_name=run_name,
        evaluation_run_id=evaluation_run_id,
        data=data,
        split=split,
        predictions=predictions,
        metrics=summarise(predictions),
        baselines=_fellow_eye(predictions, manifest, split)
        if manifest is not None and split in ("val", "test")
        else {},
        confusion=confusion_matrix(predictions.grade, predictions.predicted),
        collapsed=is_collapsed(predictions),
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write predictions.csv, metrics.json and confusion_matrix{,_normalised}.{png,svg} into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(evaluation.predictions, folder / "predictions.csv")
    (folder / "metrics.json").write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    named = [(f"{evaluation.run_name or evaluation.data}, {evaluation.split}", evaluation.confusion)]
    style.save(draw_confusion(named), folder / "confusion_matrix")
    style.save(draw_confusion(named, normalise=True), folder / "confusion_matrix_normalised")


def _fellow_eye(predictions: Predictions, manifest: Manifest, split: str) -> dict[str, float]:
    table = manifest.table
    # Test is judged against all of the official train split; the part of it that was cut off as validation, against the
    # rest.
    split_of = table["split"] if split == "val" else manifest.official_split
    train = table[(split_of == "train").to_numpy()]
    judged = pd.DataFrame({"patient_id": predictions.patient_id, "eye": predictions.eye, "grade": predictions.grade})
    if train.empty or not ((judged["patient_id"] != "") & (judged["eye"] != "")).any():
        return {}
    baseline = fellow_eye_baseline(train, judged)
    if not baseline.found.any():  # a split by patient: there is nothing to copy
        return {}
    matrix = confusion_matrix(predictions.grade, baseline.predicted)
    qwk = float(quadratic_weighted_kappa(matrix))
    return {
        "fellow_eye_share": float(baseline.found.mean()),
        "fellow_eye_accuracy": float(scores.accuracy(matrix)),
        **({"fellow_eye_qwk": qwk} if np.isfinite(qwk) else {}),
    }
