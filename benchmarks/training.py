"""Epochs, first trainings, evaluation and logging: ours against their limits and against other ways."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import peers
from benchmarks.environment import folder_as_cwd, variables
from benchmarks.measure import Row, count_cores, paired, seconds
from retino_cli import TrainConfig, train
from retino_cli.config import resolve_config
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.prepared import prepare
from retino_cli.evaluation.inference import BATCH_SIZE, predict_logits
from retino_cli.models.factory import build_model
from retino_cli.preprocess import normalise, to_float
from retino_cli.runtime import choose_runtime
from retino_cli.training.augment import AUGMENTATIONS, augment, draw_parameters
from retino_cli.training.events import EpochDone, Event, ignore
from retino_cli.training.loop import TrainingSetup, train_epochs
from retino_cli.training.losses import build_loss
from retino_cli.training.optimizer import build_optimizer
from retino_cli.training.setup import build_spec

SIZE, BATCH, EPOCHS = 224, 16, 5


def measure_epoch(manifest: Manifest, *, repeats: int) -> list[Row]:
    """The second epoch, end to end, against the same training step on one batch that lies in memory.

    "End to end" is drawing order and parameters, gathering from the memory map, and the step with its reading of the
    loss. The step augments and normalises on the device, as training does; a second row takes that away from the limit,
    so that only forward, backward and update are left of it.
    """
    setup = _setup(manifest, epochs=4 * repeats + 3)
    epochs = train_epochs(setup, first_epoch=1, listen=ignore)
    next(epochs)
    n_steps = len(setup.train) // BATCH
    rows = []
    for augmented in (True, False):

        def limit(augmented: bool = augmented) -> float:
            return n_steps * BATCH / _steps_in_memory(setup, n_steps, augmented=augmented)

        limit()
        mine, theirs, ratio = paired(lambda: next(epochs).images_per_second, limit, repeats=repeats)
        against = "the same step on one batch in memory" if augmented else "forward, backward and update alone"
        rows.append(
            Row(
                "epoch" if augmented else "epoch-bare",
                f"second epoch, ResNet18 at {SIZE} px",
                against,
                ratio,
                ">= 0.97x" if augmented else "(no target)",
                ratio >= 0.97 if augmented else True,
                mine,
                theirs,
                "images/s",
                repeats,
            )
        )
    return rows


def measure_evaluation(manifest: Manifest, *, repeats: int) -> Row:
    """Evaluation from the cache against the forward pass alone on data in memory."""
    setup = _setup(manifest, epochs=1)
    data, model, runtime, spec = setup.train, setup.model.eval(), setup.runtime, setup.spec
    index = np.arange(min(BATCH_SIZE, len(data)))
    images = normalise(to_float(data.batch(index, runtime.device)), spec).clone(memory_format=torch.channels_last)
    n_batches = -(-len(data) // BATCH_SIZE)

    def forward_alone() -> None:
        with torch.inference_mode(), runtime.autocast():
            for _ in range(n_batches):
                model(images)

    def ours() -> float:
        return len(data) / seconds(lambda: predict_logits(model, data, spec, runtime))

    ours()
    mine, theirs, ratio = paired(ours, lambda: n_batches * len(index) / seconds(forward_alone), repeats=repeats)
    return Row(
        "evaluation", f"evaluation from the cache, ResNet18 at {SIZE} px", "the forward pass alone, data in memory",
        ratio, ">= 0.95x", ratio >= 0.95, mine, theirs, "images/s", repeats,
    )  # fmt: skip


def measure_first_training(manifest: Manifest, scratch: Path, *, repeats: int, peer: str) -> Row:
    """The first training on raw photographs, preparing included, against the lab's way or timm's."""
    train_rows = manifest.table[manifest.table["split"] == "train"]
    paths, grades = train_rows["path"].tolist(), train_rows["grade"].tolist()
    loader_of, model_of = (
        (peers.lab_loader, peers.lab_model) if peer == "lab" else (peers.timm_loader, peers.timm_model)
    )
    # A peer's epoch costs the same every time, as nothing is kept: one is measured and counted five times.
    epochs_measured = 1

    def theirs() -> float:
        loader = loader_of(paths, grades, size=SIZE, batch_size=BATCH)
        return train_peer_seconds(model_of(), loader, epochs_measured) * EPOCHS / epochs_measured

    def ours() -> float:
        cache = scratch / "first-training"
        shutil.rmtree(cache, ignore_errors=True)
        with variables(RETINO_CACHE=str(cache)), folder_as_cwd(scratch / "store"):
            return seconds(
                lambda: train(TrainConfig(data=manifest.root, image_size=SIZE, batch_size=BATCH, epochs=EPOCHS))
            )

    mine, other, ratio = paired(theirs, ours, repeats=repeats)
    target = 3.0 if peer == "lab" else 2.0
    name = "the lab's way (PIL, torchvision, DataLoader)" if peer == "lab" else "timm's pipeline and model, defaults"
    return Row(
        f"first-training-{peer}",
        f"first `train` on raw photographs, {SIZE} px, {EPOCHS} epochs, with preparing, validation, test, logging",
        name, ratio, f">= {target:g}x faster", ratio >= target, other, mine, "s", repeats,
        note="theirs: training alone, one epoch measured and counted five times",
    )  # fmt: skip


def train_peer_seconds(model: torch.nn.Module, loader: Any, epochs: int) -> float:
    return peers.train_peer(model, loader, epochs=epochs)


def measure_logging(manifest: Manifest, scratch: Path, *, repeats: int) -> Row:
    """What MLflow's logging of an epoch costs, of the epoch's time."""
    times: list[float] = []
    epochs: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event.seconds)

    from retino_cli.tracking import ActiveRun

    original: Callable[..., None] = ActiveRun.log_epoch

    def timed(self: ActiveRun, *arguments: Any) -> None:
        times.append(seconds(lambda: original(self, *arguments)))

    ActiveRun.log_epoch = timed  # type: ignore[method-assign]
    try:
        with folder_as_cwd(scratch / "store"):
            train(TrainConfig(data=manifest.root, image_size=SIZE, batch_size=BATCH, epochs=repeats), listen=listen)
    finally:
        ActiveRun.log_epoch = original  # type: ignore[method-assign]
    share = statistics.median(times) / statistics.median(epochs)
    return Row(
        "logging", "logging an epoch to MLflow", f"the epoch ({SIZE} px)", share, "<= 0.01x", share <= 0.01,
        statistics.median(times), statistics.median(epochs), "s", repeats,
    )  # fmt: skip


def _setup(manifest: Manifest, *, epochs: int) -> TrainingSetup:
    config = TrainConfig(data=manifest.root, image_size=SIZE, batch_size=BATCH, epochs=epochs)
    config = resolve_config(config, n_train=int((manifest.table["split"] == "train").sum()), native_size=2848)
    runtime = choose_runtime()
    spec = build_spec(config)
    part = manifest.select("train")
    data = LabelledImages.of(part, prepare(part, spec, workers=count_cores()))
    torch.manual_seed(0)
    model = build_model("resnet18", head="linear", stem="7x7").to(runtime.device, memory_format=torch.channels_last)
    return TrainingSetup(
        model=model,
        optimizer=build_optimizer(model, config),
        loss=build_loss(str(config.loss), ordinal_sigma=float(config.ordinal_sigma or 0)),
        train=data,
        monitored={},
        spec=spec,
        config=config,
        runtime=runtime,
    )


def _steps_in_memory(setup: TrainingSetup, n_steps: int, *, augmented: bool) -> float:
    """Seconds for ``n_steps`` of the loop's step on pictures that already lie in memory."""
    index = np.arange(BATCH)
    parameters = torch.from_numpy(draw_parameters(seed=0, epoch=1, n_images=BATCH)).float()
    pictures = setup.train.batch(index, setup.runtime.device)  # (B, 3, S, S) uint8
    ready = normalise(augment(to_float(pictures), parameters, AUGMENTATIONS["strong"]), setup.spec)
    grades = torch.from_numpy(setup.train.grade[:BATCH])
    setup.model.train()
    began = time.perf_counter()
    for _ in range(n_steps):
        images = ready
        if augmented:
            images = normalise(augment(to_float(pictures), parameters, AUGMENTATIONS["strong"]), setup.spec)
        with setup.runtime.autocast():
            logits = setup.model(images)
        loss = setup.loss(logits, grades)
        setup.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        setup.optimizer.step()
        float(loss.detach())
    return time.perf_counter() - began
