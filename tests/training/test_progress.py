"""Which epoch is the best one, and the optimizer's state on its way through a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.models.checkpoint import TrainingState
from retino_cli.training.events import EpochDone
from retino_cli.training.optimizer import build_optimizer
from retino_cli.training.progress import Progress, pack_state, unpack_state


def run(progress: Progress, *values: float | None, test: tuple[float, ...] = ()) -> Progress:
    """``progress`` after one epoch for each value; ``test`` are values on test, which nothing may look at."""
    for value in values:
        epoch = progress.epoch + 1
        metrics = {} if value is None else {progress.key or "val/qwk": value}
        if test:
            metrics |= {"test/qwk": test[epoch - 1], "epoch_test/qwk": test[epoch - 1], "train/qwk": test[epoch - 1]}
        progress = progress.after(EpochDone(epoch=epoch, epochs=9, metrics=metrics, seconds=1.0, images_per_second=1.0))
    return progress


def test_the_highest_validation_value_wins_whatever_test_says() -> None:
    progress = run(Progress(key="val/qwk"), 0.1, 0.5, 0.3, 0.2, test=(0.1, 0.0, 0.2, 0.99))
    assert (progress.epoch, progress.best_epoch, progress.best_value) == (4, 2, 0.5)


def test_the_lowest_loss_wins() -> None:
    progress = run(Progress(key="val/loss"), 1.0, 0.4, 0.6)
    assert (progress.best_epoch, progress.best_value) == (2, 0.4)


def test_of_two_equal_values_the_earlier_one_is_kept() -> None:
    assert run(Progress(key="val/qwk"), 0.2, 0.5, 0.5).best_epoch == 2


def test_negative_values_are_compared_as_numbers() -> None:
    assert run(Progress(key="val/qwk"), -0.4, -0.1, -0.2).best_epoch == 2
    assert run(Progress(key="val/qwk"), -0.4, 0.0).best_epoch == 2


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ((None, 0.1, None), 2),
        ((0.1, None, None), 1),
        ((None, None, -0.3), 3),
        ((None, None, None), 3),  # nothing to choose by: the latest
    ],
)
def test_an_undefined_value_never_beats_a_defined_one(values: tuple[float | None, ...], best: int) -> None:
    assert run(Progress(key="val/qwk"), *values).best_epoch == best


def test_without_validation_the_last_epoch_is_the_best_and_nothing_stops_early() -> None:
    progress = run(Progress(key="", patience=1), 0.9, 0.1, 0.05)
    assert progress.best_epoch == 3
    assert not progress.exhausted


def test_patience_counts_epochs_without_a_better_one() -> None:
    progress = run(Progress(key="val/qwk", patience=2), 0.5, 0.4)
    assert not progress.exhausted
    assert run(progress, 0.5).exhausted  # equal is no better
    assert not run(progress, 0.6).exhausted
    assert not run(Progress(key="val/qwk", patience=0), 0.5, *[0.1] * 50).exhausted


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_optimizers_state_comes_back_as_it_was(optimizer: str, momentum: float) -> None:
    config = TrainConfig(optimizer=optimizer, momentum=momentum, lr=0.1, weight_decay=0.01, nesterov=True)

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5))
        return model, build_optimizer(model, config)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, times: int) -> None:
        for k in range(times):
            optimizer.zero_grad()
            model(torch.full((2, 3, 3, 3), 0.1 * (k + 1))).pow(2).sum().backward()
            optimizer.step()

    straight, straight_optimizer = make()
    step(straight, straight_optimizer, 2)
    progress = Progress(key="val/qwk", patience=3, epoch=2, best_epoch=1, best_value=0.25)
    state = pack_state(straight_optimizer, progress, model=straight)
    # The packed tensors are the optimizer's own; a checkpoint on disk holds what they were.
    stored = TrainingState({k: v.clone() for k, v in state.tensors.items()}, json.loads(json.dumps(state.values)))

    other, other_optimizer = make()
    other.load_state_dict(straight.state_dict())
    back = unpack_state(other_optimizer, stored, Progress(key="val/qwk", patience=7), model=other)
    assert back == replace(progress, patience=7)
    step(straight, straight_optimizer, 3)
    step(other, other_optimizer, 3)
    for mine, theirs in zip(straight.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
