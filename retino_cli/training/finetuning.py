"""Fine-tuning: parts that stay as they are, and learning rates that grow from the input to the head.

All of it is off by default; then every parameter is trained, at one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.errors import UsageError
from retino_cli.models.structure import body_stages, head_parameters


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


def scale_rates(model: nn.Module, config: TrainConfig) -> dict[float, list[nn.Parameter]]:
    """The parameters that are trained, by the factor of their learning rate.

    Factor of the head: ``head_lr``. Of the k-th stage before it (1: the last one): ``layer_decay ** k``. Source: Clark
    et al., "ELECTRA", ICLR 2020, as BEiT and its successors use it for pictures.
    """
    factors: dict[str, float] = {}
    if config.layer_decay != 1 or config.head_lr != 1:
        factors = dict.fromkeys(head_parameters(model), config.head_lr)
        for k, stage in enumerate(reversed(body_stages(model)), start=1):
            factors |= dict.fromkeys(stage.parameters, config.layer_decay**k)
    groups: dict[float, list[nn.Parameter]] = {}
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in named:
        groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    return groups
