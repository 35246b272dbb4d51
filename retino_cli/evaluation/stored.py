"""Predictions that a run has stored: what ``confusion`` and ``compare`` start from. No model runs here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.tracking import RunRecord, Store

SPLITS = ("test", "val", "train", "all")
"""Splits that predictions can be stored for, the first one found being the one that is used unasked."""
JUDGED_KINDS = ("train", "eval")


@dataclass(frozen=True, eq=False)
class StoredPredictions:
    """The predictions of run ``record`` on ``split``."""

    record: RunRecord
    split: str
    predictions: Predictions

    @property
    def name(self) -> str:
        return self.record.name


def read_stored(store: Store, runs: list[str], *, split: str | None = None) -> list[StoredPredictions]:
    """The predictions of each run, all on one split: the one asked for, else the first of test, val, train, all that
    every run has.

    Raises RunNotFoundError for an unknown run, or where there is no such split, saying which splits each run has.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split} is not known.", f"Choose one of: {', '.join(SPLITS)}.")
    records = [store.find(run, kinds=JUDGED_KINDS) for run in runs]
    ids = [record.run_id for record in records]
    if len(set(ids)) < len(ids):
        raise UsageError("One run is named twice.", f"These were found: {', '.join(ids)}.")
    available = [_splits(store, record) for record in records]
    common = [name for name in SPLITS if all(name in found for found in available)]
    if not common or (split is not None and split not in common):
        listed = "; ".join(
            f"{record.name}: {', '.join(found) or 'none'}" for record, found in zip(records, available, strict=True)
        )
        wanted = f"predictions on split {split}" if split is not None else "predictions on one common split"
        raise RunNotFoundError(
            f"There are no {wanted}. Stored are: {listed}.",
            f"Make them with: retino eval RUN --split {split or 'test'}, and name the evaluations that it makes.",
        )
    chosen = split or common[0]
    return [
        StoredPredictions(record, chosen, read_predictions(store.download(record.run_id, f"{chosen}/predictions.csv")))
        for record in records
    ]


def align(stored: list[StoredPredictions]) -> list[Predictions]:
    """The predictions of all runs in the order of the first one's images.

    Raises UsageError, saying how they differ, where image ids or true grades are not the same in all.
    """
    first = stored[0]
    order = np.argsort(first.predictions.image_id)
    ids = first.predictions.image_id[order]
    aligned = [first.predictions]
    for other in stored[1:]:
        theirs = np.argsort(other.predictions.image_id)
        other_ids = other.predictions.image_id[theirs]
        if len(ids) != len(other_ids) or (ids != other_ids).any():
            raise UsageError(
                f"{first.name} and {other.name} were judged on different images: {_difference(ids, other_ids)}.",
                "Evaluate both on the same data and split first, with: retino eval RUN --data D --split S",
            )
        wrong = first.predictions.grade[order] != other.predictions.grade[theirs]
        if wrong.any():
            examples = ", ".join(ids[wrong][:3])
            raise UsageError(
                f"{first.name} and {other.name} disagree on the true grade of {int(wrong.sum())} images: {examples}.",
                "Their label files differ: evaluate both on the same one.",
            )
        back = np.empty_like(order)
        back[order] = theirs
        aligned.append(_take(other.predictions, back))
    return aligned


def _take(predictions: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions(
        image_id=predictions.image_id[rows],
        patient_id=predictions.patient_id[rows],
        eye=predictions.eye[rows],
        grade=predictions.grade[rows],
        probabilities=predictions.probabilities[rows],
    )


def _splits(store: Store, record: RunRecord) -> list[str]:
    folders = store.artifacts(record.run_id)
    return [name for name in SPLITS if name in folders]


def _difference(ids: np.ndarray, others: np.ndarray) -> str:
    only_first, only_other = np.setdiff1d(ids, others), np.setdiff1d(others, ids)
    parts = [f"{len(ids)} against {len(others)} images, {len(np.intersect1d(ids, others))} of them in both"]
    for name, only in (("the first", only_first), ("the second", only_other)):
        if len(only):
            parts.append(f"only in {name}: {', '.join(only[:3])}{', ...' if len(only) > 3 else ''}")
    return "; ".join(parts)
