"""A trained grader, ready to look at pictures: a run's best checkpoint (of repeats, those of all seeds together), its
preprocessing, device and precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.data.labelled import to_device
from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.ensemble import average_predictions
from retino_cli.evaluation.fitted import fit
from retino_cli.evaluation.inference import batch_probabilities
from retino_cli.evaluation.operating_point import OperatingPoint, choose_threshold
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.models.checkpoint import CheckpointInfo, load_checkpoint
from retino_cli.models.ensemble import Ensemble
from retino_cli.preprocess import PreprocessSpec
from retino_cli.runtime import Runtime, choose_runtime
from retino_cli.tracking import RunRecord, Store, open_store
from retino_cli.tracking.repeats import GRADER_KINDS, REPEATS, SEED_TAG, expand_repeats
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


class Member(NamedTuple):
    """A training, and its best checkpoint."""

    record: RunRecord
    info: CheckpointInfo


@dataclass(frozen=True, eq=False)
class Grader:
    """``model``: in evaluation mode, channels last, on the device of ``runtime``; ``record``: the training, or the
    repeats whose seeds answer together (:class:`~retino_cli.models.ensemble.Ensemble`).

    ``members``: the trainings behind it, one but for repeats. ``info``: of the checkpoint; of several, what they share,
    with epoch 0, no metrics, and a calibration fitted on their mean over the validation images. ``tta``: whether each
    picture is looked at in eight ways (:func:`~.inference.batch_probabilities`). ``point``: from where on it refers.
    """

    model: nn.Module
    info: CheckpointInfo
    runtime: Runtime
    record: RunRecord
    store: Store
    members: tuple[Member, ...]
    tta: bool = False
    point: OperatingPoint | None = None

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
    def seeds(self) -> str:
        """Those that answer together, with commas; empty for one training."""
        if self.record.kind != REPEATS:
            return ""
        return ",".join(member.record.tags[SEED_TAG] for member in self.members)

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
    def threshold(self) -> float | None:
        """Of ``point``."""
        return None if self.point is None else self.point.threshold

    def choose_point(self, sensitivity: float | None, specificity: float | None) -> OperatingPoint | None:
        """The operating point that reaches one of them on the training's validation images; None where none is asked.

        Raises RunNotFoundError without validation images, UsageError where ``tta`` is not as it was for them.
        """
        if sensitivity is None and specificity is None:
            return None
        if self.tta != bool(TrainConfig.from_dict(self.info.config).tta):
            views = "one view" if self.tta else "eight views"
            raise UsageError(
                f"The threshold would be chosen on predictions of {views} of each image, and used on others.",
                "Leave out --tta or --no-tta, or --sensitivity and --specificity.",
            )
        return choose_threshold(self.read_validation(), sensitivity=sensitivity, specificity=specificity)

    def read_validation(self) -> Predictions:
        """What the training predicted for its validation images. RunNotFoundError where it had none."""
        return read_validation(self.store, [member.record for member in self.members])

    @property
    def fingerprint(self) -> str:
        """12 hex digits: the same only for the same checkpoints of the same run, in the same precision and ``tta``."""
        infos = [member.info.to_dict() for member in self.members]
        identity = [self.record.run_id, infos, self.runtime.precision, self.tta]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def read_validation(store: Store, trainings: Sequence[RunRecord]) -> Predictions:
    """What ``trainings`` predicted for their validation images; of several, the mean. RunNotFoundError where one had
    none."""
    try:
        files = [store.download(one.run_id, "val/predictions.csv") for one in trainings]
    except RunNotFoundError as error:
        raise RunNotFoundError(
            f"A threshold is chosen on validation, and {trainings[0].name} was trained without.",
            "Train with a validation split (--val-fraction), or leave --sensitivity and --specificity out.",
        ) from error
    return average_predictions([read_predictions(file) for file in files])


def open_grader(
    run: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    tta: bool | None = None,
    tracking_uri: str | None = None,
) -> Grader:
    """The grader of training ``run`` (id, unique prefix, name or ``latest``), or of the seeds of repeats, together.

    Precision ``auto`` and ``tta`` None are what the training asked for: the same images then give the same numbers.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, repeats that are not complete, a checkpoint that
    cannot be read, or a device that is not there.
    """
    runtime = choose_runtime(device, precision)
    store = open_store(tracking_uri)
    record = store.find(run, kinds=GRADER_KINDS)
    trainings = expand_repeats(store, record)
    loaded = [load_checkpoint(find_checkpoint(store, one.run_id, "best"), device=runtime.device) for one in trainings]
    members = tuple(Member(one, info) for one, (_model, info) in zip(trainings, loaded, strict=True))
    model, info = loaded[0]
    if record.kind == REPEATS:
        model, info = Ensemble([one for one, _info in loaded]), _join(store, record, members)
    trained = TrainConfig.from_dict(info.config)
    if precision == "auto":
        runtime = choose_runtime(device, trained.precision)
    if tta is None:
        tta = bool(trained.tta)
    model = model.to(memory_format=torch.channels_last)
    return Grader(model=model.eval(), info=info, runtime=runtime, record=record, store=store, members=members, tta=tta)


def _join(store: Store, record: RunRecord, members: Sequence[Member]) -> CheckpointInfo:
    """What the checkpoints of ``members`` say together (see :class:`Grader`)."""
    first = members[0].info
    if any(member.info.preprocess != first.preprocess for member in members):
        raise UsageError(
            f"The seeds of {record.name} prepare photographs in different ways: versions of retino may differ.",
            f"Name one of its runs: {' '.join(member.record.run_id[:8] for member in members)}",
        )
    calibration: dict[str, Any] = {}
    if all(member.info.calibration for member in members):
        calibration = fit(read_validation(store, [member.record for member in members])).to_dict()
    return replace(first, epoch=0, metrics={}, calibration=calibration)
