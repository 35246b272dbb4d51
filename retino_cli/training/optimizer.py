"""The optimizer, and the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from retino_cli.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD over all parameters, as the lab and Huang et al. use it; or AdamW, whose weight decay leaves out biases and
    the weights of batch normalisation, which have one dimension: shrinking these does not make a model simpler.

    Frozen parameters are left out.
    """
    lr, weight_decay = float(config.lr or 0), float(config.weight_decay or 0)
    momentum = float(config.momentum or 0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
        others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        return torch.optim.AdamW([decayed, others], lr=lr)
    nesterov = bool(config.nesterov) and momentum > 0
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)


def learning_rate(config: TrainConfig, *, n_steps: int) -> Callable[[int], float]:
    """Step (0-based) -> learning rate.

    ``constant``: lr. ``cosine``: lr (1 + cos(pi s)) / 2, s the share of the steps that are done. With ``warmup`` w > 0
    the first w of the steps rise in a straight line from lr / (w n_steps) to lr, and s counts from there. Cosine with a
    long warm-up is the "one-cycle" policy (Smith and Topin 2018) without its cycle of momentum.
    """
    base = float(config.lr or 0)
    rising = round(float(config.warmup or 0) * n_steps)

    def rate(step: int) -> float:
        if step < rising:
            return base * (step + 1) / rising
        if config.schedule == "cosine":
            return base * (1 + math.cos(math.pi * (step - rising) / (n_steps - rising))) / 2
        return base

    return rate
