"""The files that an evaluation leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from retino_cli.evaluation.evaluation import Evaluation
from retino_cli.evaluation.judged import GradedPredictions, ScoredPredictions, write_judged
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.operating_point import trace_target
from retino_cli.evaluation.predictions import Predictions, write_predictions
from retino_cli.evaluation.probability import reliability
from retino_cli.figures import style
from retino_cli.figures.confusion import draw_confusion
from retino_cli.figures.reliability import draw_reliability
from retino_cli.figures.roc import draw_precision_recall, draw_roc


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write into ``folder``: metrics.json; predictions.csv, from which it can be computed again; as figures the
    confusion matrix (counts and row-normalised), the reliability diagram, and ROC and precision-recall of referable DR
    with the operating point marked, each where the predictions have what it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    name = f"{evaluation.run_name or evaluation.data}, {evaluation.split}"
    predictions = evaluation.predictions
    if isinstance(predictions, Predictions):
        write_predictions(predictions, folder / "predictions.csv")
        bins = reliability(predictions.grade, predictions.probabilities)
        style.save(draw_reliability([(name, bins)]), folder / "reliability")
    elif isinstance(predictions, GradedPredictions | ScoredPredictions):
        write_judged(predictions, folder / "predictions.csv")
    if evaluation.confusion is not None:
        draw_matrices([(name, evaluation.confusion)], folder, "confusion_matrix")
    if predictions.referable_score is not None:
        curve = trace_target(predictions)
        if not isinstance(curve, Undefined):
            thresholds = [evaluation.point.threshold if evaluation.point else None]
            style.save(draw_roc([(name, curve)], thresholds=thresholds, title="Referable DR"), folder / "roc")
            figure = draw_precision_recall([(name, curve)], thresholds=thresholds, title="Referable DR")
            style.save(figure, folder / "precision_recall")


def draw_matrices(matrices: list[tuple[str, np.ndarray]], folder: Path, name: str) -> list[Path]:
    """Confusion matrices side by side: ``name`` with counts, ``name``_normalised by row; the files."""
    return [
        *style.save(draw_confusion(matrices), folder / name),
        *style.save(draw_confusion(matrices, normalise=True), folder / f"{name}_normalised"),
    ]
