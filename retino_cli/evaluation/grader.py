"""A trained grader, ready to look at pictures: a run's best checkpoint, its preprocessing, device and precision."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.data.labelled import to_device
from retino_cli.errors import RunNotFoundError
from retino_cli.evaluation.inference import batch_probabilities
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.models.checkpoint import CheckpointInfo, load_checkpoint
from retino_cli.preprocess import PreprocessSpec
from retino_cli.runtime import Runtime, choose_runtime
from retino_cli.tracking import RunRecord, Store, open_store
from retino_cli.training.setup import find_checkpoint


class PictureGrader(Protocol):
    """What grades prepared pictures: a run's checkpoint (:class:`Grader`) or an exported file
    (:class:`~retino_cli.evaluation.exported.ExportedGrader`)."""

    @property
    def spec(self) -> PreprocessSpec:
        """How photographs become its input."""

    @property
    def run_id(self) -> str:
        """The training that it comes from."""

    @property
    def name(self) -> str:
        """The name of that training."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits: the same only where the same pictures get the same numbers."""

    @property
    def device_name(self) -> str:
        """Where it computes."""

    @property
    def precision(self) -> str:
        """In which number format."""

    @property
    def threshold(self) -> float | None:
        """From which probability of referable DR on it refers, where it has an operating point."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) -> probabilities (B, 5) float64."""


@dataclass(frozen=True, eq=False)
class Grader:
    """``model``: in evaluation mode, channels last, on the device of ``runtime``; ``record``: the training run.

    ``tta``: whether each picture is looked at in eight ways (:func:`~.inference.batch_probabilities`).
    """

    model: nn.Module
    info: CheckpointInfo
    runtime: Runtime
    record: RunRecord
    store: Store
    tta: bool = False

    @property
    def spec(self) -> PreprocessSpec:
        """The preprocessing that the model was trained with."""
        return self.info.preprocess

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def device_name(self) -> str:
        return self.runtime.name

    @property
    def precision(self) -> str:
        return self.runtime.precision

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) -> probabilities (B, 5) float64 (:func:`~.inference.batch_probabilities`)."""
        batch = to_device(pixels, self.runtime.device)  # (B, 3, S, S)
        return batch_probabilities(self.model, batch, self.spec, self.runtime, tta=self.tta)

    @property
    def threshold(self) -> None:
        """A checkpoint has no operating point of its own: ``eval`` and ``export`` choose one."""

    def read_validation(self) -> Predictions:
        """What the training predicted for its validation images. RunNotFoundError where it had none."""
        try:
            return read_predictions(self.store.download(self.record.run_id, "val/predictions.csv"))
        except RunNotFoundError as error:
            raise RunNotFoundError(
                f"A threshold is chosen on validation, and {self.record.name} was trained without.",
                "Train with a validation split (--val-fraction), or leave --sensitivity and --specificity out.",
            ) from error

    @property
    def fingerprint(self) -> str:
        """12 hex digits: the same only for the same checkpoint of the same run, in the same precision and ``tta``."""
        identity = [self.record.run_id, self.info.to_dict(), self.runtime.precision, self.tta]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def open_grader(
    run: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    tta: bool | None = None,
    tracking_uri: str | None = None,
) -> Grader:
    """The grader of training ``run`` (id, unique prefix, name or ``latest``).

    Precision ``auto`` and ``tta`` None are what the training asked for: the same images then give the same numbers.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, a checkpoint that cannot be read, or a device
    that is not there.
    """
    runtime = choose_runtime(device, precision)
    store = open_store(tracking_uri)
    record = store.find(run, kinds=("train",))
    model, info = load_checkpoint(find_checkpoint(store, record.run_id, "best"), device=runtime.device)
    trained = TrainConfig.from_dict(info.config)
    if precision == "auto":
        runtime = choose_runtime(device, trained.precision)
    if tta is None:
        tta = bool(trained.tta)
    model = model.to(memory_format=torch.channels_last)
    return Grader(model=model.eval(), info=info, runtime=runtime, record=record, store=store, tta=tta)
