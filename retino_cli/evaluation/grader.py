"""A trained grader, ready to look at pictures: a run's best checkpoint, its preprocessing, device and precision."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.models.checkpoint import CheckpointInfo, load_checkpoint
from retino_cli.preprocess import PreprocessSpec
from retino_cli.runtime import Runtime, choose_runtime
from retino_cli.tracking import RunRecord, Store, open_store
from retino_cli.training.setup import find_checkpoint


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
