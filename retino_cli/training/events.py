"""What a training tells whoever watches it. The training itself never prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from retino_cli.config import TrainConfig


@dataclass(frozen=True)
class Note:
    """A sentence worth reading. ``level`` is ``info`` or ``warning``."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Preparing:
    """Photographs done so far, of those that are to be done; ``verb`` and ``what`` say it in words."""

    done: int
    total: int
    verb: str = "decoded"
    what: str = "photographs"


@dataclass(frozen=True)
class StepDone:
    """One training step. ``loss`` is the mean over the epoch so far, ``images`` those seen in it, of ``n_images``."""

    epoch: int
    epochs: int
    images: int
    n_images: int
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch: ``metrics`` by MLflow name (``train/loss``, ``val/qwk``, ...); undefined ones are not there.

    ``seconds`` is the epoch's wall time with its validation, ``images_per_second`` the training part alone.
    ``micro_batch``: how many images went through the model at once, where memory did not suffice for a whole batch.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float
    images_per_second: float
    best: bool = False
    micro_batch: int | None = None


@dataclass(frozen=True)
class RunStarted:
    """The run exists in MLflow now. ``majority``: accuracy of always saying the most frequent grade, by metric
    prefix."""

    run_id: str
    run_name: str
    config: TrainConfig
    n_train: int
    majority: dict[str, float]


Event = Note | Preparing | RunStarted | StepDone | EpochDone
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """The listener that hears nothing."""
