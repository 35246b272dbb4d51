"""The end of a training: fit on validation, evaluate the best checkpoint, store what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from retino_cli import __version__
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.summary import SplitSummary
from retino_cli.evaluation.artifacts import write_evaluation
from retino_cli.evaluation.descriptions import describe_training
from retino_cli.evaluation.evaluation import Evaluation, judge
from retino_cli.evaluation.fitted import Fitted, fit
from retino_cli.evaluation.inference import predict
from retino_cli.figures import style
from retino_cli.figures.curves import draw_history
from retino_cli.models.checkpoint import CheckpointInfo, save_checkpoint
from retino_cli.tracking import ActiveRun
from retino_cli.training.events import Listener, Note
from retino_cli.training.loop import TrainingSetup
from retino_cli.training.progress import Progress
from retino_cli.training.setup import DROPOUT, fingerprints, run_params

History = list[dict[str, float]]
"""One dict per epoch: ``epoch`` and the metrics by MLflow name."""


def describe_checkpoint(
    setup: TrainingSetup,
    manifest: Manifest,
    *,
    epoch: int,
    metrics: dict[str, float],
    calibration: dict[str, Any] | None = None,
) -> CheckpointInfo:
    """What a checkpoint says of itself."""
    config = setup.config
    return CheckpointInfo(
        arch=config.arch,
        head=str(config.head),
        stem=config.stem or "",
        dropout=DROPOUT,
        preprocess=setup.spec,
        config=config.to_dict(),
        epoch=epoch,
        metrics=metrics,
        data=fingerprints(manifest),
        calibration=calibration or {},
        retino_version=__version__,
    )


def finish(
    run: ActiveRun,
    setup: TrainingSetup,
    manifest: Manifest,
    data: dict[str, LabelledImages],
    progress: Progress,
    history: History,
    leaks: Sequence[str],
    listen: Listener,
) -> dict[str, Evaluation]:
    """Evaluate the model, by now the best one, on validation and test, and store what follows from it in the run."""
    predictions = {
        split: predict(setup.model, data[split], setup.spec, setup.runtime, tta=bool(setup.config.tta))
        for split in ("val", "test")
        if split in data
    }
    splits = {split: SplitSummary.of(images.listed(), split) for split, images in data.items()}
    fitted: Fitted | None = None
    if "val" in predictions:
        fitted = fit(predictions["val"])
        best = history[progress.best_epoch - 1]
        metrics = {name: value for name, value in best.items() if "/" in name}
        info = describe_checkpoint(
            setup, manifest, epoch=progress.best_epoch, metrics=metrics, calibration=fitted.to_dict()
        )
        run.write_folder("checkpoint/best", partial(save_checkpoint, model=setup.model, info=info))
    evaluations: dict[str, Evaluation] = {}
    for split in predictions:
        evaluation = judge(
            predictions[split],
            split=split,
            data=manifest.name,
            run_id=run.run_id,
            run_name=run.name,
            evaluation_run_id=run.run_id,
            manifest=manifest,
            fitted=fitted if split == "test" else None,  # on validation itself they would look better than they are
        )
        evaluations[split] = evaluation
        run.write_folder(split, partial(write_evaluation, evaluation))
        # One value per run and name: the curves by epoch are called val/... and epoch_test/...
        run.log_metrics(evaluation.defined("test" if split == "test" else "val_best"), data=splits[split])
    run.log_metrics({"best_epoch": float(progress.best_epoch)})
    run.write_folder("curves", lambda folder: _write_curves(folder, history, run.name))
    planned = int(setup.config.epochs or 0)
    early = "yes" if progress.epoch < planned else "no"
    run.set_tags({"retino.stopped_early": early, "retino.epochs_done": progress.epoch})
    run.describe(
        describe_training(
            evaluations,
            splits,
            run_id=run.run_id,
            best_epoch=progress.best_epoch,
            epochs=progress.epoch,
            planned=planned,
            select_by=str(setup.config.select_by),
            leaks=leaks,
        )
    )
    run.log_model(
        "checkpoint/best",
        epoch=progress.best_epoch,
        params=run_params(setup.config, setup.spec, setup.runtime),
        tags={"retino.data": manifest.name},
    )
    shown = evaluations.get("test", evaluations.get("val"))
    if shown is not None:
        collapsed = shown.warning is not None
        run.set_tags({"retino.collapsed": f"grade {shown.collapsed}" if collapsed else "no"})
        if shown.warning is not None:
            listen(Note(shown.warning, "warning"))
    return evaluations


def _write_curves(folder: Path, history: History, title: str) -> None:
    """history.csv and the curves as pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for row in history for name in row} - {"epoch"})
    lines = [",".join(["epoch", *names])]
    lines += [
        ",".join([str(int(row["epoch"])), *(repr(row[name]) if name in row else "" for name in names)])
        for row in history
    ]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    style.save(draw_history(history, title), folder / "history")
