"""The optimizer and its schedule, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.training.optimizer import build_optimizer, learning_rate


def test_cosine_goes_from_the_learning_rate_to_zero_as_torchs_does() -> None:
    rate = learning_rate(TrainConfig(lr=0.2, schedule="cosine"), n_steps=12)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    for step in range(12):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert rate(0) == 0.2
    assert rate(12) == pytest.approx(0, abs=1e-15)


def test_constant_stays() -> None:
    rate = learning_rate(TrainConfig(lr=0.2, schedule="constant"), n_steps=12)
    assert {rate(step) for step in range(12)} == {0.2}


def test_the_warm_up_rises_in_a_line_and_then_follows_the_schedule() -> None:
    rate = learning_rate(TrainConfig(lr=0.2, schedule="cosine", warmup=0.25), n_steps=40)
    assert [rate(step) for step in range(10)] == pytest.approx([0.02 * k for k in range(1, 11)])
    rest = learning_rate(TrainConfig(lr=0.2, schedule="cosine"), n_steps=30)
    assert [rate(10 + step) for step in range(30)] == pytest.approx([rest(step) for step in range(30)])
    flat = learning_rate(TrainConfig(lr=0.2, schedule="constant", warmup=0.5), n_steps=4)
    assert [flat(step) for step in range(4)] == pytest.approx([0.1, 0.2, 0.2, 0.2])


def test_the_optimizers_are_torchs_with_the_configured_numbers() -> None:
    model = nn.Linear(2, 2)
    sgd = build_optimizer(model, TrainConfig(optimizer="sgd", lr=0.3, momentum=0.8, weight_decay=0.02, nesterov=True))
    assert type(sgd) is torch.optim.SGD
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.3, 0.8, 0.02, True)
    # Nesterov needs momentum: without, it is left out instead of raising.
    assert not build_optimizer(model, TrainConfig(lr=0.3, momentum=0.0, nesterov=True)).param_groups[0]["nesterov"]
    adamw = build_optimizer(model, TrainConfig(optimizer="adamw", lr=0.1, weight_decay=0.5))
    assert type(adamw) is torch.optim.AdamW
    # Weights are shrunk, biases (one dimension) are not.
    assert [(group["lr"], group["weight_decay"]) for group in adamw.param_groups] == [(0.1, 0.5), (0.1, 0.0)]
    assert [[p.ndim for p in group["params"]] for group in adamw.param_groups] == [[2], [1]]
