"""How far a training is, which epoch was best, and the optimizer's state as tensors that a checkpoint can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from retino_cli.models.checkpoint import TrainingState
from retino_cli.training.averaging import count_steps, set_average
from retino_cli.training.events import EpochDone

_LIVE: Final = "live/"


@dataclass(frozen=True)
class Progress:
    """``epoch``: completed epochs. ``best_epoch``: 0 before the first. ``key``: the metric that decides, or "" where
    there is no validation (then the last epoch is the best)."""

    key: str
    patience: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_value: float | None = None

    def after(self, done: EpochDone) -> Progress:
        """The progress with one epoch more. A value that is undefined never beats one that is there; as long as none
        has been defined, the latest epoch counts as the best."""
        value = done.metrics.get(self.key)
        if self.key and self.best_epoch and not self._beats(value):
            return replace(self, epoch=done.epoch)
        return replace(self, epoch=done.epoch, best_epoch=done.epoch, best_value=value)

    @property
    def exhausted(self) -> bool:
        """Whether ``patience`` epochs have passed without a better one."""
        return bool(self.key) and 0 < self.patience <= self.epoch - self.best_epoch

    def _beats(self, value: float | None) -> bool:
        if self.best_value is None:
            return True
        if value is None:
            return False
        return value < self.best_value if self.key.endswith("/loss") else value > self.best_value


def pack_state(
    optimizer: torch.optim.Optimizer, progress: Progress, *, model: nn.Module, average: AveragedModel | None = None
) -> TrainingState:
    """Everything that going on needs beside the checkpoint's weights: the optimizer's tensors by parameter, the
    progress, and, where the checkpoint holds ``average``, the weights of ``model`` itself."""
    tensors: dict[str, Tensor] = {}
    for parameter, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}.{name}"] = value
    values = asdict(progress)
    if average is not None:
        tensors |= {_LIVE + name: tensor for name, tensor in model.state_dict().items()}
        values["averaged_steps"] = count_steps(average)
    return TrainingState(tensors=tensors, values=values)


def unpack_state(
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    progress: Progress,
    *,
    model: nn.Module,
    average: AveragedModel | None = None,
) -> Progress:
    """Put the tensors back into ``optimizer``, and into ``model`` and ``average`` where there is one (``model`` holds
    the checkpoint's weights before). Returns ``progress`` as it stood, with the patience asked for now."""
    live = {name.removeprefix(_LIVE): tensor for name, tensor in state.tensors.items() if name.startswith(_LIVE)}
    if average is not None:
        set_average(average, model.state_dict(), int(state.values.get("averaged_steps", 0)))
    if live:
        model.load_state_dict(live)
    restored: dict[int, dict[str, Any]] = {}
    for key, tensor in state.tensors.items():
        if key.startswith(_LIVE):
            continue
        parameter, name = key.split(".", 1)
        restored.setdefault(int(parameter), {})[name] = tensor
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": restored, "param_groups": whole["param_groups"]})
    values = {name: state.values[name] for name in ("epoch", "best_epoch", "best_value")}
    return replace(progress, **values)
