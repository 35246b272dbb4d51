"""The learning-rate range test: what it chooses, what it leaves as it was, and where its result goes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import Tiny, make_setup, run, same, weights
from torch import Tensor

from retino_cli.config import TrainConfig
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.tracking import open_store
from retino_cli.training import range_test as module
from retino_cli.training.events import Event, Note, Preparing, RunStarted, StepDone, ignore
from retino_cli.training.loop import train_epochs
from retino_cli.training.range_test import choose_rate, find_rate, smooth, sweep_rates
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]
RATES = np.geomspace(1e-6, 1, 100)


def curve(*, falls: float = 1e-4, rises: float = 1e-1, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """Losses (100,) that fall from 1.6 to 1.2 about ``falls`` and rise steeply from ``rises`` on."""
    noises = np.random.default_rng(seed).normal(0, noise, len(RATES))
    fallen = 0.4 / (1 + (falls / RATES) ** 1.5)
    return np.asarray(1.6 - fallen + 3 * (RATES / rises) ** 2 / 4 + noises)


# -- the choice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rises", [1e-2, 1e-1, 1.0])
def test_the_choice_is_a_tenth_of_where_the_loss_rises_whatever_the_noise(rises: float) -> None:
    chosen = [choose_rate(RATES, curve(rises=rises, falls=rises / 500, seed=seed)).chosen for seed in range(20)]
    assert all(value is not None for value in chosen)
    assert 0.03 * rises < min(chosen) <= max(chosen) < 0.3 * rises  # type: ignore[type-var, operator] # no None


def test_a_loss_that_never_rises_gives_a_tenth_of_the_last_rate() -> None:
    assert choose_rate(RATES, curve(rises=1e6)).chosen == pytest.approx(RATES[-1] / 10)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_and_a_loss_that_only_rises_choose_nothing(seed: int) -> None:
    flat = choose_rate(RATES, 1.6 + np.random.default_rng(seed).normal(0, 0.1, 100))
    rising = choose_rate(RATES, curve(falls=1e9, rises=1e-3, seed=seed))
    assert flat.chosen is None
    assert rising.chosen is None
    assert "did not fall" in flat.reason


def test_a_loss_that_is_not_finite_ends_the_curve() -> None:
    losses = curve()
    losses[70:] = math.nan
    test = choose_rate(RATES, losses)
    assert len(test.losses) == len(test.rates) == len(test.smoothed) == 70
    assert test.chosen is not None
    losses[3:] = math.inf
    early = choose_rate(RATES, losses)
    assert early.chosen is None
    assert "3 steps with a finite loss" in early.reason


def test_the_average_of_a_constant_is_the_constant_and_a_jump_decays() -> None:
    np.testing.assert_allclose(smooth(np.full(30, 1.7)), 1.7)
    jump = smooth(np.r_[np.zeros(500), 1.0, 0.0])
    np.testing.assert_allclose(jump[-2:], [0.1, 0.09], rtol=1e-9)


# -- the sweep ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_sweep_leaves_everything_as_it_was(optimizer: str) -> None:
    setup, untouched = (make_setup(n=40, epochs=10, optimizer=optimizer) for _ in range(2))
    random_state = torch.get_rng_state()
    test = sweep_rates(setup, listen=ignore)
    assert torch.equal(random_state, torch.get_rng_state())
    assert same(weights(setup), weights(untouched))
    assert setup.optimizer.state_dict() == untouched.optimizer.state_dict()
    assert all(parameter.grad is None for parameter in setup.model.parameters())
    assert 10 <= len(test.rates) == len(test.losses)
    assert run(setup)[-1].metrics == run(untouched)[-1].metrics


def test_the_sweep_begins_as_the_training_does() -> None:
    """The same first batch, augmented in the same way, and so the same loss."""
    setup = make_setup(n=40, epochs=10, batch_size=8, lr=1e-6, schedule="constant")
    test = sweep_rates(setup, listen=ignore)
    losses: list[float | None] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            losses.append(event.loss)

    torch.manual_seed(setup.config.seed)
    assert isinstance(setup.model, Tiny)
    setup.model.head[0].p = 0.0  # type: ignore[union-attr, index] # dropout's numbers differ between the two
    again = sweep_rates(setup, listen=ignore)
    next(train_epochs(setup, first_epoch=1, listen=listen))
    assert losses[0] == pytest.approx(again.losses[0], rel=1e-6)
    assert test.rates[0] == pytest.approx(1e-6)
    assert len(test.losses) == 50  # the training has no more steps than that


def test_the_sweep_ends_where_the_loss_diverges() -> None:
    setup = make_setup(n=40, epochs=30, monitored={})
    loss, calls = setup.loss, 0

    def exploding(logits: Tensor, grade: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(logits, grade) * (1000.0 if calls > 60 else 1.0)

    heard: list[Event] = []
    test = sweep_rates(replace(setup, loss=exploding), listen=heard.append)
    assert len(test.losses) == 61
    last = heard[-1]
    assert isinstance(last, Preparing)
    assert last.done == last.total == 61


def test_without_a_minimum_the_recipes_rate_is_kept_and_said() -> None:
    setup = make_setup(n=40, epochs=10)
    heard: list[Event] = []
    broken = replace(setup, loss=lambda logits, grade: setup.loss(logits, grade) * math.nan)
    found, test = find_rate(broken, listen=heard.append)
    assert test.chosen is None
    assert found.config.lr == setup.config.lr
    (note,) = [event for event in heard if isinstance(event, Note)]
    assert note.level == "warning"
    assert "0.05" in note.text


# -- a whole training --------------------------------------------------------------------------------------------------


def stored_weights(run_id: str) -> dict[str, Tensor]:
    return load_checkpoint(open_store().download(run_id, "checkpoint/last"))[0].state_dict()


@pytest.mark.figures
def test_the_training_equals_one_with_that_rate_given_by_hand(
    workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEPS", 20)
    monkeypatch.setattr(module, "LOWEST", 1e-4)
    config = quick(lr="auto", epochs=10, head="lab", patience=1, select_by="loss")
    heard: list[Event] = []

    def stop(event: Event) -> None:
        heard.append(event)
        if isinstance(event, StepDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, listen=stop)
    (started,) = [event for event in heard if isinstance(event, RunStarted)]
    store = open_store()
    record = store.find(started.run_id)
    lr = started.config.lr
    assert isinstance(lr, float)
    assert (record.params["lr"], record.params["lr_auto"]) == (str(lr), "True")
    with store.download(record.run_id, "lr_range/lr_range.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 10 <= len(rows) <= 20
    assert {"lr", "loss", "smoothed_loss"} == rows[0].keys()
    names = {path.split("/")[-1] for path in store.artifacts(record.run_id, "lr_range")}
    assert names == {"lr_range.csv", "lr_range.png", "lr_range.svg"}
    assert any(isinstance(event, Note) and "lr auto" in event.text for event in heard)
    stored = json.loads(store.download(record.run_id, "config.json").read_text())
    assert (stored["lr"], stored["lr_auto"]) == (lr, True)

    # By hand: the same first epoch. Resumed: the number is kept, and nothing is searched again.
    def no_search(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("retino_cli.training.train.find_rate", no_search)
    by_hand: list[str] = []

    def stop_again(event: Event) -> None:
        if isinstance(event, RunStarted):
            by_hand.append(event.run_id)
        if isinstance(event, StepDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(config, lr=lr, lr_auto=False), listen=stop_again)
    assert same(stored_weights(started.run_id), stored_weights(by_hand[0]))
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(), resume=started.run_id, listen=stop)
    assert [event.config.lr for event in heard if isinstance(event, RunStarted)] == [lr, lr]
