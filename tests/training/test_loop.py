"""The loop: schedules, batches, what an epoch reports, and what is random in it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import Tiny, make_images, make_setup, run, same, weights
from torch import Tensor

from retino_cli.errors import TrainingError
from retino_cli.runtime import choose_runtime
from retino_cli.training.events import Event, StepDone, ignore
from retino_cli.training.loop import train_epochs

# -- batches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size", "expected"),
    [
        (12, 4, [4, 4, 4]),
        (13, 4, [4, 4, 5]),  # one image alone cannot be batch-normalised: it joins the batch before
        (14, 4, [4, 4, 4, 2]),
        (3, 16, [3]),
        (5, 4, [5]),
        (2, 2, [2]),
    ],
)
def test_every_image_is_seen_once_an_epoch_and_never_alone(n: int, batch_size: int, expected: list[int]) -> None:
    setup = make_setup(n=n, batch_size=batch_size, epochs=1, augmentation="none", monitored={})
    assert isinstance(setup.model, Tiny)
    steps: list[StepDone] = []

    def listen(event: Event) -> None:
        assert isinstance(event, StepDone)
        steps.append(event)

    list(train_epochs(setup, first_epoch=1, listen=listen))
    assert [len(batch) for batch in setup.model.seen] == expected
    assert [step.images for step in steps] == list(np.cumsum(expected))
    seen = torch.cat(setup.model.seen).flatten(1)
    assert len({tuple(row.tolist()) for row in seen}) == n


# -- what an epoch reports ---------------------------------------------------------------------------------------------


def test_every_epoch_yields_finite_metrics_of_training_and_of_what_is_monitored() -> None:
    watched = {"val": make_images([0, 1, 2, 3, 4], seed=1), "epoch_test": make_images([0, 4, 2], seed=2)}
    records = run(make_setup(monitored=watched, select_by="macro_f1"))
    assert [record.epoch for record in records] == [1, 2, 3]
    for record in records:
        for prefix in ("train", "val", "epoch_test"):
            for name in ("loss", "accuracy", "top_prediction_share"):
                assert math.isfinite(record.metrics[f"{prefix}/{name}"])
        assert "val/macro_f1" in record.metrics
        assert all(math.isfinite(value) for value in record.metrics.values())
        assert record.seconds > 0
        assert record.images_per_second > 0
    rates = [record.metrics["lr"] for record in records]
    assert rates == sorted(rates, reverse=True)


def test_the_monitored_numbers_are_those_of_the_model_in_evaluation_mode() -> None:
    setup = make_setup(epochs=1)
    (record,) = run(setup)
    data = setup.monitored["val"]
    pixels = torch.from_numpy(data.images.gather(np.arange(len(data)))).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (setup.spec.mean, setup.spec.std))
    setup.model.eval()
    with torch.no_grad():
        logits = setup.model((pixels - mean) / std)
    grade = torch.from_numpy(data.grade)
    assert record.metrics["val/accuracy"] == pytest.approx(float((logits.argmax(1) == grade).double().mean()))
    assert record.metrics["val/loss"] == pytest.approx(float(setup.loss(logits, grade)), rel=1e-5)


def test_an_undefined_metric_is_left_out() -> None:
    constant = {"val": make_images([2, 2, 2], seed=1)}
    setup = make_setup(monitored=constant, epochs=1, lr=1e-9)
    with torch.no_grad():
        setup.model.head[1].bias[2] = 100.0  # type: ignore[union-attr, index, operator] # a Tiny
    (record,) = run(setup)
    assert record.metrics["val/accuracy"] == 1
    assert "val/qwk" not in record.metrics


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step() -> None:
    setup = make_setup(epochs=4, monitored={})
    loss, calls = setup.loss, 0

    def breaking(logits: Tensor, grade: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return loss(logits, grade) * (math.nan if calls == 5 else 1.0)

    loop = train_epochs(replace(setup, loss=breaking), first_epoch=1, listen=ignore)
    assert next(loop).epoch == 1
    with pytest.raises(TrainingError, match=r"nan in epoch 2, step 2 of 3") as caught:
        next(loop)
    assert "--lr" in caught.value.hint


# -- randomness --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = make_setup(), make_setup(), make_setup(seed=1)
    assert same(weights(first), weights(other))  # the same start: only what the loop draws differs
    histories = [[record.metrics for record in run(setup)] for setup in (first, again, other)]
    assert same(weights(first), weights(again))
    assert histories[0] == histories[1]
    assert not same(weights(first), weights(other))


def test_numbers_drawn_between_epochs_change_nothing() -> None:
    first, again = make_setup(), make_setup()
    run(first)
    for _record in train_epochs(again, first_epoch=1, listen=ignore):
        torch.rand(3)
        np.random.rand(7)
    assert same(weights(first), weights(again))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_epoch_depends_on_weights_optimizer_and_number_alone(optimizer: str) -> None:
    """Going on from epoch 2 in another loop gives what one loop gives: the ground that exact resuming stands on."""
    whole = make_setup(optimizer=optimizer)
    history = run(whole)
    half = make_setup(optimizer=optimizer)
    loop = train_epochs(half, first_epoch=1, listen=ignore)
    next(loop)
    other = make_setup(optimizer=optimizer, start=9)
    other.model.load_state_dict(half.model.state_dict())
    other.optimizer.load_state_dict(half.optimizer.state_dict())
    loop.close()
    rest = run(other, first_epoch=2)
    assert same(weights(whole), weights(other))
    assert [record.metrics for record in history[1:]] == [record.metrics for record in rest]


def test_the_largest_seed_works() -> None:
    assert len(run(make_setup(seed=2**63 - 1, epochs=1))) == 1


def test_training_sees_what_evaluation_sees_where_nothing_is_augmented() -> None:
    setup = make_setup(n=4, batch_size=4, epochs=1, augmentation="none", monitored={})
    assert isinstance(setup.model, Tiny)
    run(replace(setup, monitored={"val": setup.train}))
    training, evaluation = setup.model.seen
    assert torch.equal(training, evaluation)


def test_bfloat16_gives_finite_values_and_float32_weights() -> None:
    setup = replace(make_setup(epochs=1), runtime=choose_runtime("cpu", "bfloat16"))
    (record,) = run(setup)
    assert math.isfinite(record.metrics["train/loss"])
    assert {tensor.dtype for tensor in setup.model.parameters()} == {torch.float32}
