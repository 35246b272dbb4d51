"""Fine-tuning: parts of a network that stay as they are. Off by default: then every parameter is trained."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from retino_cli.errors import UsageError
from retino_cli.models.structure import body_stages


def freeze_stages(model: nn.Module, count: int) -> None:
    """Take the first ``count`` stages (:func:`~retino_cli.models.structure.body_stages`) out of the training.

    All of them: only the head is trained. Raises UsageError where the model has fewer.
    """
    if count == 0:
        return
    stages = body_stages(model)
    if count > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise UsageError(
            f"--freeze {count}: this network has {len(stages)} stages before the head.", f"They are: {names}."
        )
    frozen = {name for stage in stages[:count] for name in stage.parameters}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def hold_frozen(model: nn.Module) -> None:
    """Put frozen modules into evaluation mode: the statistics of their batch norms stay as they are, and nothing in
    them is dropped. To be called after ``model.train()``."""
    for module in _frozen_modules(model):
        module.eval()


def _frozen_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules all of whose parameters are frozen."""
    flags = [parameter.requires_grad for parameter in module.parameters()]
    if flags and not any(flags):
        yield module
    elif not all(flags):
        for child in module.children():
            yield from _frozen_modules(child)
