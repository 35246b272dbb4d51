"""The training loop: a generator that yields one record per epoch. Logging, saving and showing stand outside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from retino_cli.config import TrainConfig
from retino_cli.data.labelled import LabelledImages, to_device_async
from retino_cli.errors import TrainingError
from retino_cli.evaluation.inference import predict_logits
from retino_cli.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    binary_auc,
    confusion_matrix,
    macro_auc,
    macro_f1,
    quadratic_weighted_kappa,
)
from retino_cli.grades import REFERABLE_GRADE
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime
from retino_cli.training.augment import AUGMENTATIONS, augment, draw_order, draw_parameters
from retino_cli.training.events import EpochDone, Listener, StepDone
from retino_cli.training.finetuning import hold_frozen
from retino_cli.training.losses import Loss, divide_loss
from retino_cli.training.optimizer import learning_rate
from retino_cli.training.step import MicroBatch, forward_backward

SELECTORS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "balanced_accuracy": lambda grade, p: balanced_accuracy(confusion_matrix(grade, p.argmax(axis=1))),
    "macro_f1": lambda grade, p: macro_f1(confusion_matrix(grade, p.argmax(axis=1))),
    "macro_auc": macro_auc,
    "referable_auc": lambda grade, p: binary_auc(grade >= REFERABLE_GRADE, p[:, REFERABLE_GRADE:].sum(axis=1)),
}
"""What ``--select-by`` can ask for beyond loss, accuracy and QWK: functions of grade (N,) and probabilities (N, 5)."""


@dataclass(frozen=True)
class TrainingSetup:
    """All that an epoch needs. ``monitored``: the data measured after each epoch, by prefix (``val``, ``test``).
    ``average``: the moving average of ``model``'s weights, where one is kept. ``class_weights`` (5,): those of
    ``loss``. ``micro_batch``: how many images go through the model at once, where that is known already to be fewer
    than a batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    train: LabelledImages
    monitored: dict[str, LabelledImages]
    spec: PreprocessSpec
    config: TrainConfig
    runtime: Runtime
    average: AveragedModel | None = None
    class_weights: Tensor | None = None
    micro_batch: int | None = None

    @property
    def judged(self) -> nn.Module:
        """The model that is measured and kept: the average of the weights where there is one."""
        return self.model if self.average is None else self.average.module


def train_epochs(setup: TrainingSetup, *, first_epoch: int, listen: Listener) -> Iterator[EpochDone]:
    """Train from ``first_epoch`` (1 for a new run) to ``config.epochs``, yielding after each epoch.

    Everything random in an epoch comes from (seed, epoch, image index), so starting at epoch k with the weights and the
    optimizer's state of epoch k-1 gives what an uninterrupted run gives. Raises
    :class:`~retino_cli.errors.TrainingError`, naming epoch and step, when the loss is not finite.
    """
    config, device = setup.config, setup.runtime.device
    batch_size, epochs = int(config.batch_size or 0), int(config.epochs or 0)
    n = len(setup.train)
    grades = torch.from_numpy(setup.train.grade).to(device)  # (n,)
    starts = batch_starts(n, batch_size)
    rate = learning_rate(config, n_steps=epochs * len(starts))
    whole = max(stop - start for start, stop in starts)
    micro = MicroBatch(setup.model, size=setup.micro_batch or whole, listen=listen)

    for epoch in range(first_epoch, epochs + 1):
        began = time.perf_counter()
        torch.manual_seed((config.seed * 1_000_003 + epoch) % 2**63)  # dropout
        order = draw_order(seed=config.seed, epoch=epoch, n_images=n)
        load = partial(load_batch, setup, torch.from_numpy(draw_parameters(seed=config.seed, epoch=epoch, n_images=n)))
        losses = torch.zeros(len(starts), device=device)  # stay on the device: reading one would wait for the step
        predicted = torch.zeros(n, dtype=torch.int64, device=device)

        setup.model.train()
        hold_frozen(setup.model)
        for step, (start, stop) in enumerate(starts):
            index = np.sort(order[start:stop])  # (B,) sorted: neighbours on disk are read together
            rows = to_device_async(torch.from_numpy(index), device)
            part_of_loss = divide_loss(setup.loss, grades[rows], class_weights=setup.class_weights)
            lr = rate((epoch - 1) * len(starts) + step)
            for group in setup.optimizer.param_groups:
                group["lr"] = lr
            # A scalar, and (B, 5). In pieces, where memory does not suffice for the whole batch.
            loss, logits = forward_backward(setup.model, index, load, part_of_loss, runtime=setup.runtime, micro=micro)
            setup.optimizer.step()
            if setup.average is not None:
                setup.average.update_parameters(setup.model)
            losses[step] = loss
            predicted[rows] = logits.argmax(dim=1)
            listen(
                StepDone(
                    epoch=epoch,
                    epochs=epochs,
                    images=stop,
                    n_images=n,
                    loss=float(losses[: step + 1].mean()) if device.type == "cpu" else None,
                    seconds=time.perf_counter() - began,
                )
            )
        train_loss = _mean_loss(losses, starts, epoch)
        seconds_training = time.perf_counter() - began

        metrics = {"train/loss": train_loss, "lr": lr}
        metrics |= _agreement("train", setup.train.grade, predicted.cpu().numpy())
        for prefix, data in setup.monitored.items():
            metrics |= _measure(setup, prefix, data)
        yield EpochDone(
            epoch=epoch,
            epochs=epochs,
            metrics=metrics,
            seconds=time.perf_counter() - began,
            images_per_second=n / seconds_training,
            micro_batch=micro.size if micro.size < whole else None,
        )


def load_batch(setup: TrainingSetup, parameters: Tensor, index: np.ndarray) -> Tensor:
    """Training images ``index`` (b,) as the model gets them, (b, 3, S, S) float32 on its device: augmented as the
    ``parameters`` (n, 9) of an epoch say, and normalised."""
    device = setup.runtime.device
    images = setup.train.batch(index, device)  # (b, 3, S, S) uint8
    chosen = to_device_async(parameters[index].float(), device)
    images = augment(to_float(images), chosen, AUGMENTATIONS[str(setup.config.augmentation)])
    return normalise(images, setup.spec)  # from here on as in evaluation


def batch_starts(n: int, batch_size: int) -> list[tuple[int, int]]:
    """(start, stop) of each batch. A last batch of one image joins the one before: batch normalisation needs two."""
    edges = list(range(0, n, batch_size))
    if len(edges) > 1 and n - edges[-1] == 1:
        edges.pop()
    return list(zip(edges, [*edges[1:], n], strict=True))


def _mean_loss(losses: Tensor, starts: list[tuple[int, int]], epoch: int) -> float:
    values = losses.double().cpu().numpy()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise TrainingError(
            f"The loss became {values[wrong[0]]} in epoch {epoch}, step {wrong[0] + 1} of {len(starts)}.",
            "Try a smaller --lr, or --precision float32. The last whole checkpoint is kept.",
        )
    sizes = np.array([stop - start for start, stop in starts])
    return float((values * sizes).sum() / sizes.sum())


def _measure(setup: TrainingSetup, prefix: str, data: LabelledImages) -> dict[str, float]:
    logits = predict_logits(setup.judged, data, setup.spec, setup.runtime)  # (N, 5)
    loss = float(setup.loss(logits, torch.from_numpy(data.grade)))
    values = {f"{prefix}/loss": loss} | _agreement(prefix, data.grade, logits.argmax(dim=1).numpy())
    chosen = SELECTORS.get(str(setup.config.select_by))
    if chosen is not None:
        probabilities = torch.softmax(logits.double(), dim=1).numpy()  # (N, 5)
        value = float(chosen(data.grade, probabilities))
        if math.isfinite(value):
            values[f"{prefix}/{setup.config.select_by}"] = value
    return values


def _agreement(prefix: str, grade: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, QWK, and the share of the images that got the most frequent prediction (1 is a collapse)."""
    matrix = confusion_matrix(grade, predicted)
    values = {
        "accuracy": float(accuracy(matrix)),
        "qwk": float(quadratic_weighted_kappa(matrix)),
        "top_prediction_share": float(matrix.sum(axis=0).max() / matrix.sum()),
    }
    return {f"{prefix}/{name}": value for name, value in values.items() if math.isfinite(value)}
