"""What the seeds of repeats score together: their stored predictions are averaged, no network runs again."""

from __future__ import annotations

from typing import Final

from retino_cli.data.manifest import Manifest
from retino_cli.errors import RunNotFoundError, TrackingError
from retino_cli.evaluation.ensemble import average_predictions
from retino_cli.evaluation.fitted import Fitted, fit
from retino_cli.evaluation.grader import read_validation
from retino_cli.evaluation.predictions import read_predictions
from retino_cli.evaluation.storing import store_evaluation
from retino_cli.tracking import ActiveRun, RunRecord, Store
from retino_cli.tracking.repeats import ENSEMBLE_TAG, REPEATS, SEEDS_TAG, expand_repeats
from retino_cli.training.seeds import EnsembleRow

_RUN_TAG: Final = "retino.ensemble_run"
"""Of the repeats: the id of the evaluation of all its seeds together."""


def judge_ensemble(store: Store, parent: ActiveRun, manifest: Manifest, *, split: str) -> EnsembleRow:
    """The evaluation on ``split`` of all seeds of ``parent`` together: the one that is there, else a new one.

    Cut points and temperature are fitted on the mean over the validation images. Raises TrackingError where the store
    does not hold the predictions yet.
    """
    record = store.find(parent.run_id, kinds=(REPEATS,))
    try:
        trainings = expand_repeats(store, record)
        files = [store.download(one.run_id, f"{split}/predictions.csv") for one in trainings]
    except RunNotFoundError as error:
        raise TrackingError(
            f"The store does not hold the predictions of all seeds yet: {error.message}",
            "When it answers again, repeat the command: what is finished is not trained again.",
        ) from error
    seeds = record.tags[SEEDS_TAG]
    known = _find_finished(store, record, seeds)
    if known is not None:
        return known
    fitted: Fitted | None = None
    if split == "test":
        try:
            fitted = fit(read_validation(store, trainings))
        except RunNotFoundError:
            fitted = None  # trained without validation
    params = trainings[0].params
    evaluation = store_evaluation(
        average_predictions([read_predictions(file) for file in files]),
        store=store,
        record=record,
        manifest=manifest,
        split=split,
        params={name: params[name] for name in ("data", "preprocess", "device", "precision", "tta") if name in params},
        device_name=trainings[0].tags.get("retino.device", ""),
        seeds=seeds,
        fitted=fitted,
    )
    parent.set_tags({_RUN_TAG: evaluation.evaluation_run_id})
    return EnsembleRow(evaluation.evaluation_run_id, evaluation.defined())


def _find_finished(store: Store, record: RunRecord, seeds: str) -> EnsembleRow | None:
    """The evaluation that an earlier call made of the same seeds."""
    known = record.tags.get(_RUN_TAG)
    if known is None:
        return None
    try:
        evaluation = store.find(known, kinds=("eval",))
    except RunNotFoundError:
        return None  # deleted since
    if evaluation.status != "FINISHED" or evaluation.tags.get(ENSEMBLE_TAG) != seeds:
        return None
    prefix = f"{evaluation.params['split']}/"
    metrics = {name.removeprefix(prefix): value for name, value in sorted(evaluation.metrics.items())}
    return EnsembleRow(evaluation.run_id, metrics)
