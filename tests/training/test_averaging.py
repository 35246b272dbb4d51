"""The moving average of weights: its formula, and a training that is stopped and taken up again."""

from __future__ import annotations

import copy

import torch
from torch import nn

from retino_cli.training.averaging import average_weights, count_steps, set_average


def test_the_average_follows_its_formula_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    average = average_weights(model, 0.5)
    expected = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3, 2, 2))  # moves the running statistics
        before = copy.deepcopy(model.state_dict())
        average.update_parameters(model)
        assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
        # torch copies the first model that it is given, and counts from there.
        keep = 0.0 if step == 0 else min(0.5, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = expected[name] * keep + tensor.double() * (1 - keep)
    found = average.module.state_dict()
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            assert int(found[name]) == 30
        else:
            assert torch.allclose(found[name].double(), tensor, atol=1e-5), name
    assert count_steps(average) == 30


def test_an_average_that_is_put_back_goes_on_as_if_nothing_had_happened() -> None:
    def train(model: nn.Module, average: torch.optim.swa_utils.AveragedModel, steps: range) -> None:
        for step in steps:
            with torch.no_grad():
                model.weight.add_(0.1 * (step + 1))  # type: ignore[operator] # a Linear's weight
            average.update_parameters(model)

    straight = nn.Linear(2, 3)
    other = copy.deepcopy(straight)
    one = average_weights(straight, 0.99)
    train(straight, one, range(9))
    first = average_weights(other, 0.99)
    train(other, first, range(4))
    second = average_weights(nn.Linear(2, 3), 0.99)
    set_average(second, first.module.state_dict(), count_steps(first))
    train(other, second, range(4, 9))
    assert torch.equal(one.module.weight, second.module.weight)
