"""Predictions that are there already, in a run or in a file: what ``confusion`` and ``compare`` start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.evaluation import OF_A_FILE
from retino_cli.evaluation.foreign import read_foreign
from retino_cli.evaluation.judged import Judged, is_referable
from retino_cli.evaluation.predictions import read_predictions
from retino_cli.tracking import RunRecord, Store
from retino_cli.tracking.repeats import ENSEMBLE_TAG, GRADER_KINDS, JUDGED_RUN_TAG, REPEATS, expand_repeats

SPLITS = ("test", "val", "train", "all")
"""Splits that predictions can be stored for, the first one found being the one that is used unasked."""
JUDGED_KINDS = ("train", "eval")
FILE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


@dataclass(frozen=True, eq=False)
class StoredPredictions:
    """The predictions of run ``record`` on ``split``, or of a file (``record`` is None, ``source`` its path).

    ``repeats``: the run that was named, where ``record`` is one of its seeds.
    """

    source: str
    record: RunRecord | None
    split: str
    predictions: Judged
    repeats: RunRecord | None = None

    @property
    def name(self) -> str:
        return Path(self.source).name if self.record is None else self.record.name


def read_stored(store: Store, sources: Sequence[str], *, split: str | None = None) -> list[StoredPredictions]:
    """The predictions of each run or file, the runs' all on one split: the one asked for, else the first of test, val,
    train, all that every run has.

    What ends in .csv, .tsv, .txt, .parquet or .pq is a file, everything else a run; the evaluation of a file is a run
    without splits, and stands beside any. A run of kind ``repeats`` stands for its trainings, by seed. Raises
    RunNotFoundError for an unknown run, or where there is no such split (saying which splits each run has), UsageError
    for one that is named twice, be it as one of the repeats.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split} is not known.", f"Choose one of: {', '.join(SPLITS)}.")
    named = [_find(store, source) for source in sources]
    found = [one for expanded in named for one in expanded]
    records = {record.run_id: record for _source, record, _repeats in found if record is not None}
    splits = _choose_splits(store, records, split)
    stored = []
    for source, record, repeats in found:
        if record is None:
            stored.append(StoredPredictions(source, None, OF_A_FILE, read_foreign(Path(source))))
            continue
        own = splits[record.run_id]
        file = store.download(record.run_id, f"{own}/predictions.csv")
        read = read_foreign if own == OF_A_FILE else read_predictions
        stored.append(StoredPredictions(record.run_id, record, own, read(file), repeats))
    places = [str(Path(one.source).resolve()) if one.record is None else one.source for one in stored]
    if len(set(places)) < len(places):
        raise UsageError("One run is named twice.", f"These were found: {', '.join(one.source for one in stored)}.")
    return stored


def _find(store: Store, source: str) -> list[tuple[str, RunRecord | None, RunRecord | None]]:
    """(source, run, repeats) of what ``source`` names: a file, a run, or the trainings of repeats."""
    if Path(source).suffix.lower() in FILE_SUFFIXES:
        return [(source, None, None)]
    record = store.find(source, kinds=(*JUDGED_KINDS, REPEATS))
    repeats = record if record.kind == REPEATS else None
    return [(source, one, repeats) for one in expand_repeats(store, record)]


def read_params(store: Store, one: StoredPredictions) -> dict[str, str]:
    """The parameters of the run, for an evaluation those of what it judged; none for a file. Seeds that were judged
    together have none of one seed, but ``ensemble``."""
    judged = _find_judged(store, one)
    if judged is None:
        return {}
    if judged.kind != REPEATS:
        return judged.params
    seeds = "" if one.record is None else one.record.tags.get(ENSEMBLE_TAG, "")
    return {name: value for name, value in judged.params.items() if name != "seed"} | {"ensemble": f"seeds {seeds}"}


def read_history(store: Store, one: StoredPredictions) -> list[dict[str, float]]:
    """The epochs of the run, for an evaluation those of the training that it judged; none for a file, and for seeds
    that were judged together, each of which has its own."""
    judged = _find_judged(store, one)
    return [] if judged is None or judged.kind == REPEATS else store.history(judged.run_id)


def _find_judged(store: Store, one: StoredPredictions) -> RunRecord | None:
    if one.record is None or one.split == OF_A_FILE:
        return None
    judged = one.record.tags.get(JUDGED_RUN_TAG)
    return one.record if judged is None else store.find(judged, kinds=GRADER_KINDS)


def label_stored(stored: Sequence[StoredPredictions]) -> list[str]:
    """Their names, with the id (or the path) behind those that two of them share."""
    names = [one.name for one in stored]
    return [
        f"{name} ({one.source if one.record is None else one.source[:8]})" if names.count(name) > 1 else name
        for name, one in zip(names, stored, strict=True)
    ]


def refuse_unlike(stored: Sequence[StoredPredictions]) -> None:
    """Raise UsageError, saying how they differ, where image ids or true grades are not the same in all."""
    first = stored[0]
    order = np.argsort(first.predictions.image_id)
    ids = first.predictions.image_id[order]
    for other in stored[1:]:
        theirs = np.argsort(other.predictions.image_id)
        other_ids = other.predictions.image_id[theirs]
        if len(ids) != len(other_ids) or (ids != other_ids).any():
            raise UsageError(
                f"{first.name} and {other.name} were judged on different images: {_difference(ids, other_ids)}.",
                "Evaluate both on the same data and split first, with: retino eval RUN --data D --split S"
                if first.record is not None or other.record is not None
                else "Files are compared where they hold the same images under the same names.",
            )
        if first.predictions.binary or other.predictions.binary:
            wrong = is_referable(first.predictions)[order] != is_referable(other.predictions)[theirs]
        else:
            wrong = first.predictions.grade[order] != other.predictions.grade[theirs]
        if wrong.any():
            examples = ", ".join(ids[wrong][:3])
            raise UsageError(
                f"{first.name} and {other.name} disagree on the true grade of {int(wrong.sum())} images: {examples}.",
                "Their label files differ: evaluate both on the same one.",
            )


def _choose_splits(store: Store, records: dict[str, RunRecord], split: str | None) -> dict[str, str]:
    """The split of each run: one for all, but for evaluations of files."""
    stored = {source: store.artifacts(record.run_id) for source, record in records.items()}
    of_files = [source for source, found in stored.items() if OF_A_FILE in found]
    available = {
        source: [s for s in SPLITS if s in found] for source, found in stored.items() if source not in of_files
    }
    if not available:
        if split is not None:
            raise UsageError(f"--split {split}: a file of predictions has no splits.", "Leave --split out.")
        return dict.fromkeys(of_files, OF_A_FILE)
    common = [name for name in SPLITS if all(name in found for found in available.values())]
    if not common or (split is not None and split not in common):
        listed = "; ".join(
            f"{records[source].name}: {', '.join(found) or 'none'}" for source, found in available.items()
        )
        wanted = f"predictions on split {split}" if split is not None else "predictions on one common split"
        raise RunNotFoundError(
            f"There are no {wanted}. Stored are: {listed}.",
            f"Make them with: retino eval RUN --split {split or 'test'}, and name the evaluations that it makes.",
        )
    return dict.fromkeys(available, split or common[0]) | dict.fromkeys(of_files, OF_A_FILE)


def _difference(ids: np.ndarray, others: np.ndarray) -> str:
    only_first, only_other = np.setdiff1d(ids, others), np.setdiff1d(others, ids)
    parts = [f"{len(ids)} against {len(others)} images, {len(np.intersect1d(ids, others))} of them in both"]
    for name, only in (("the first", only_first), ("the second", only_other)):
        if len(only):
            parts.append(f"only in {name}: {', '.join(only[:3])}{', ...' if len(only) > 3 else ''}")
    return "; ".join(parts)
