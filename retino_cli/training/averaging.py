"""An exponential moving average of a model's weights, kept beside the model that is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` that follows it: after each step w' <- d w' + (1 - d) w, with d = min(decay, (1 + t) /
    (10 + t)) after t steps, so that the random weights of the beginning are soon forgotten.

    Running means and variances of batch normalisation are averaged in the same way. ``decay`` is in [0, 1). Source of
    the growing decay: TensorFlow's ``ExponentialMovingAverage`` (``num_updates``).
    """

    @torch.no_grad()
    def follow(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        steps = int(count)
        keep = min(decay, (1 + steps) / (10 + steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - keep)
        else:  # batch normalisation's counters
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)


def set_average(average: AveragedModel, weights: dict[str, Tensor], count: int) -> None:
    """Put an average back as it stood after ``count`` steps."""
    average.module.load_state_dict(weights)
    average.n_averaged.fill_(count)


def count_steps(average: AveragedModel) -> int:
    """How many steps the average has followed."""
    return int(average.n_averaged)
