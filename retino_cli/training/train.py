"""``train(config)``: from a folder on disk to a tracked, evaluated run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from retino_cli.config import TrainConfig, resolve_config
from retino_cli.data.configured import read_manifest
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.summary import SplitSummary
from retino_cli.errors import DataError, RunNotFoundError
from retino_cli.evaluation.evaluation import Evaluation
from retino_cli.models.checkpoint import (
    load_checkpoint,
    load_training_state,
    recover_checkpoint,
    save_checkpoint,
)
from retino_cli.runtime import choose_runtime, deterministic
from retino_cli.tracking import ActiveRun, Store, open_store
from retino_cli.tracking.datasets import CONTEXTS
from retino_cli.training import setup as starting
from retino_cli.training.averaging import average_weights
from retino_cli.training.duplicates import find_leaks, leave_out
from retino_cli.training.events import Event, Listener, Note, Preparing, RunStarted, ignore
from retino_cli.training.finish import History, describe_checkpoint, finish
from retino_cli.training.loop import TrainingSetup, train_epochs
from retino_cli.training.losses import balanced_weights, build_loss
from retino_cli.training.optimizer import build_optimizer
from retino_cli.training.progress import Progress, pack_state, unpack_state
from retino_cli.training.range_test import FOLDER as RANGE_TEST_FOLDER
from retino_cli.training.range_test import RangeTest, find_rate, write_range_test

MICRO_BATCH_TAG: Final = "retino.micro_batch"
"""Images that went through the model at once, of a run whose batches did not fit into memory. Resuming reads it."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished training. ``evaluations`` are the best checkpoint's, by split: ``val`` and ``test`` where they
    exist."""

    run_id: str
    run_name: str
    experiment: str
    config: TrainConfig
    best_epoch: int
    epochs: int
    history: History
    evaluations: dict[str, Evaluation]
    notes: tuple[str, ...]
    store: str
    ui_command: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the predictions."""
        return {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "experiment": self.experiment,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "evaluations": {split: evaluation.to_dict() for split, evaluation in self.evaluations.items()},
            "history": self.history,
            "config": self.config.to_dict(),
            "notes": list(self.notes),
            "store": self.store,
        }


def train(
    config: TrainConfig,
    *,
    resume: str | None = None,
    parent: str | None = None,
    tags: dict[str, str] | None = None,
    listen: Listener = ignore,
) -> TrainResult:
    """Train one grader, keep its best checkpoint by validation, evaluate it, and record everything in MLflow.

    ``resume`` names a run to continue with its own configuration
    (:func:`~retino_cli.training.setup.resumed_config` says what may change). ``parent`` is the id of a run that this
    one belongs to, ``tags`` are added to it. ``listen`` hears what happens (:mod:`retino_cli.training.events`).

    Raises :class:`~retino_cli.errors.RetinoError` for data, weights, a store or a loss that cannot be used, and
    ``KeyboardInterrupt`` when interrupted; the run then ends as FAILED or KILLED with its checkpoints whole.
    """
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        listen(event)

    runtime = choose_runtime(config.device, config.precision)
    store = open_store(config.tracking_uri)
    record = store.find(resume, kinds=("train",)) if resume is not None else None
    if record is not None:
        config = starting.resumed_config(store, record, config)
        runtime = choose_runtime(config.device, config.precision)

    manifest = read_manifest(config, on_progress=lambda done, total: hear(Preparing(done, total)))
    if record is not None:
        starting.refuse_other_data(record, manifest)
    n_train = starting.count_training_images(manifest)
    searching = config.lr_auto and config.lr is None  # a resumed run has its number
    config = resolve_config(config, n_train=n_train, native_size=starting.native_size(manifest))
    spec = starting.build_spec(config)
    if record is not None:
        spec = starting.spec_as_trained(spec, record)
    # Weights first: a missing file is found before an hour of decoding, not after it.
    model, report = starting.start_model(config, store, load=record is None)
    if report is not None:
        hear(
            Note(
                f"Weights: {report.loaded} tensors from {report.source}; not taken: {starting.shorten(report.skipped)}."
            )
        )
    data = starting.prepare_splits(
        manifest, spec, workers=config.workers, skip_unreadable=config.skip_unreadable, listen=hear
    )
    audit = find_leaks(manifest, spec)
    if config.duplicates == "drop":
        data, dropped = leave_out(data, audit.pictures.identical if audit.pictures else ())
        audit = replace(audit, pictures=None)
        for sentence in dropped:
            hear(Note(f"{sentence}."))
    if "train" not in data or len(data["train"]) < 2:
        raise DataError(f"{manifest.root}: fewer than 2 readable training images.", "Check the image folder.")

    data = {
        split: images.resident_on(runtime.device, most_bytes=runtime.room_for_pictures)
        for split, images in data.items()
    }
    leaks = audit.leaks
    for sentence in leaks:
        hear(Note(f"LEAK: {sentence}. See: retino data inspect {config.data}", "warning"))
    if audit.shares_pictures:
        hear(Note("To train without the pictures that are in validation or test, too: --duplicates drop"))
    model = model.to(device=runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    class_weights = None
    if config.class_weights == "balanced":
        class_weights = balanced_weights(np.bincount(data["train"].grade, minlength=5)).to(runtime.device)
    setup = TrainingSetup(
        model=model,
        optimizer=build_optimizer(model, config),
        loss=build_loss(str(config.loss), ordinal_sigma=float(config.ordinal_sigma or 0), class_weights=class_weights),
        train=data["train"],
        monitored=_monitored(data, config),
        spec=spec,
        config=config,
        runtime=runtime,
        average=average_weights(model, float(config.ema)) if config.ema else None,
        class_weights=class_weights,
        micro_batch=None if record is None else int(record.tags.get(MICRO_BATCH_TAG, 0)) or None,
    )
    test: RangeTest | None = None
    if searching:
        with deterministic(config.deterministic):
            setup, test = find_rate(setup, listen=hear)
        config = setup.config
    if record is not None:
        run = store.resume_run(record.run_id, params=starting.run_params(config, spec, runtime))
    else:
        run = store.start_run(
            experiment=config.experiment,
            name=config.run_name or starting.run_name(config, manifest),
            kind="train",
            params=starting.run_params(config, spec, runtime),
            tags=starting.run_tags(config, manifest, spec, runtime, report, leaks) | (tags or {}),
            parent=parent,
        )
    with run, deterministic(config.deterministic):
        run.log_text(json.dumps(config.to_dict(), indent=2) + "\n", "config.json")
        run.log_inputs((SplitSummary.of(images.listed(), split), CONTEXTS[split]) for split, images in data.items())
        if test is not None:
            run.write_folder(RANGE_TEST_FOLDER, partial(write_range_test, test, run.name))
        hear(
            RunStarted(
                run_id=run.run_id,
                run_name=run.name,
                config=config,
                n_train=len(data["train"]),
                majority={
                    prefix: float(np.bincount(images.grade).max() / len(images))
                    for prefix, images in {"train": data["train"], **setup.monitored}.items()
                },
            )
        )
        progress = Progress(key=f"val/{config.select_by}" if "val" in data else "", patience=config.patience)
        if not progress.key:
            hear(
                Note(
                    "There is no validation split: the last epoch is kept, as nothing can be chosen honestly.",
                    "warning",
                )
            )
        best: dict[str, Tensor] = {}
        earlier: History = []
        if record is not None:
            progress, best = _take_up(run, store, setup, progress, hear)
            earlier = [row for row in store.history(run.run_id) if row["epoch"] <= progress.epoch]
        progress, best, history = _run_epochs(run, setup, manifest, progress, best, earlier, hear)
        setup.model.load_state_dict(best)
        evaluations = finish(run, setup, manifest, data, progress, history, leaks, hear)
    return TrainResult(
        run_id=run.run_id,
        run_name=run.name,
        experiment=config.experiment,
        config=config,
        best_epoch=progress.best_epoch,
        epochs=progress.epoch,
        history=history,
        evaluations=evaluations,
        notes=tuple(notes),
        store=store.where(),
        ui_command=store.ui_command(),
    )


def _monitored(data: dict[str, LabelledImages], config: TrainConfig) -> dict[str, LabelledImages]:
    """What is measured after every epoch, by the prefix of its metrics."""
    monitored = {"val": data["val"]} if "val" in data else {}
    if config.test_every_epoch and "test" in data:
        monitored["epoch_test"] = data["test"]
    return monitored


def _take_up(
    run: ActiveRun, store: Store, setup: TrainingSetup, progress: Progress, listen: Listener
) -> tuple[Progress, dict[str, Tensor]]:
    """Put the last whole checkpoint into model and optimizer; gives the progress and the best weights so far."""
    try:
        last, best = (starting.find_checkpoint(store, run.run_id, which) for which in ("last", "best"))
    except RunNotFoundError:
        listen(Note(f"Run {run.name} has no checkpoint yet: it starts again from its first epoch."))
        return progress, {}
    for folder in (last, best):
        recover_checkpoint(folder)
    model, info = load_checkpoint(last)
    setup.model.load_state_dict(model.state_dict())
    progress = unpack_state(
        setup.optimizer, load_training_state(last), progress, model=setup.model, average=setup.average
    )
    listen(Note(f"Resumed {run.name} after epoch {info.epoch}."))
    return progress, load_checkpoint(best)[0].state_dict()


def _run_epochs(
    run: ActiveRun,
    setup: TrainingSetup,
    manifest: Manifest,
    progress: Progress,
    best: dict[str, Tensor],
    history: History,
    listen: Listener,
) -> tuple[Progress, dict[str, Tensor], History]:
    """Train to the end, logging and saving after each epoch. Gives back the weights of the best epoch as well."""
    history = list(history)
    config = setup.config
    for done in train_epochs(setup, first_epoch=progress.epoch + 1, listen=listen):
        progress = progress.after(done)
        if done.micro_batch is not None:
            run.set_tags({MICRO_BATCH_TAG: done.micro_batch})
        is_best = progress.best_epoch == done.epoch
        # Logged before it is saved: an epoch that was logged but not saved is trained again on resume, with the same
        # result, and not logged twice; the other order would leave a hole in the curves.
        run.log_epoch(done.epoch, {**done.metrics, "images_per_second": done.images_per_second})
        info = describe_checkpoint(setup, manifest, epoch=done.epoch, metrics=done.metrics)
        state = pack_state(setup.optimizer, progress, model=setup.model, average=setup.average)
        if is_best:
            best = {name: tensor.detach().clone() for name, tensor in setup.judged.state_dict().items()}
            run.write_folder("checkpoint/best", partial(save_checkpoint, model=setup.judged, info=info))
        run.write_folder(
            "checkpoint/last",
            partial(save_checkpoint, model=setup.judged, info=info, training_state=state),
        )
        history.append({"epoch": float(done.epoch), **done.metrics, "images_per_second": done.images_per_second})
        listen(replace(done, best=is_best))
        if progress.exhausted:
            listen(Note(f"Stopped early: {config.patience} epochs without a better {progress.key}."))
            break
    if progress.key and progress.best_value is None:
        text = f"{progress.key} was undefined after every epoch: the last epoch is kept, as nothing could be chosen."
        listen(Note(text, "warning"))
    return progress, best, history
