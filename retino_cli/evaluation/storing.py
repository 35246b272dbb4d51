"""Evaluations as runs of their own, below the run whose predictions they judge."""

from __future__ import annotations

from collections.abc import Mapping

from retino_cli.data.manifest import Manifest
from retino_cli.data.summary import SplitSummary
from retino_cli.evaluation.artifacts import write_evaluation
from retino_cli.evaluation.descriptions import describe_evaluation
from retino_cli.evaluation.evaluation import Evaluation, judge
from retino_cli.evaluation.fitted import Fitted
from retino_cli.evaluation.operating_question import OperatingQuestion
from retino_cli.evaluation.predictions import Predictions
from retino_cli.tracking import RunRecord, Store
from retino_cli.tracking.repeats import ENSEMBLE_TAG, JUDGED_RUN_TAG


def store_evaluation(
    predictions: Predictions,
    *,
    store: Store,
    record: RunRecord,
    manifest: Manifest,
    split: str,
    params: Mapping[str, object],
    device_name: str,
    seeds: str = "",
    model: str | None = None,
    fitted: Fitted | None = None,
    question: OperatingQuestion | None = None,
    n_ungradable: int = 0,
    pair_eyes: bool = False,
) -> Evaluation:
    """Judge ``predictions`` by ``record`` on ``split`` of ``manifest`` (:func:`~.evaluation.judge`, whose arguments the
    last four are), and store them with all that follows as a run of kind ``eval`` below ``record``.

    ``params``: how they were made, ``preprocess`` at least; ``data``, ``device``, ``precision`` and ``tta`` beside it.
    ``model`` is the id of the logged model that made them, ``seeds`` those of the repeats ``record``, with commas.
    """
    active = store.start_run(
        experiment=record.experiment,
        name=f"{'ensemble' if seeds else 'eval'} {record.name} on {manifest.name}/{split}",
        kind="eval",
        params={"run": record.run_id, "split": split, **params},
        tags={
            JUDGED_RUN_TAG: record.run_id,
            "retino.data": manifest.name,
            "retino.data_fingerprint": manifest.fingerprint(),
            "retino.split": split,
            "retino.preprocess": str(params["preprocess"]),
            "retino.device": device_name,
            **({ENSEMBLE_TAG: seeds} if seeds else {}),
        },
        parent=record.run_id,
    )
    with active:
        judged = SplitSummary.of(manifest, split)
        active.log_inputs([(judged, "testing")], models=[] if model is None else [model])
        evaluation = judge(
            predictions,
            split=split,
            data=manifest.name,
            run_id=record.run_id,
            run_name=record.name,
            evaluation_run_id=active.run_id,
            manifest=manifest,
            fitted=fitted,
            question=question,
            n_ungradable=n_ungradable,
            pair_eyes=pair_eyes,
        )
        active.write_folder(split, lambda folder: write_evaluation(evaluation, folder))
        active.log_metrics(evaluation.defined(split), data=judged, model_id=model)
        active.describe(describe_evaluation(evaluation))
        active.set_tags({"retino.collapsed": "no" if evaluation.collapsed is None else f"grade {evaluation.collapsed}"})
    return evaluation
