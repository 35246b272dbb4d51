"""torchvision is the oracle: same weights, same outputs; same seed, same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from retino_cli.config import ARCHITECTURES
from retino_cli.models.factory import build_model
from retino_cli.models.resnet import BasicBlock, Bottleneck, ResNet

LAYERS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


def make_pair(arch: str) -> tuple[nn.Module, ResNet]:
    """torchvision's network with weights and statistics that are nowhere trivial, and ours with the same ones."""
    torch.manual_seed(7)
    theirs = torchvision.models.get_model(arch, weights=None)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    block, layers = LAYERS[arch]
    ours = ResNet(block, layers, outputs=1000)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_outputs_equal_torchvisions(arch: str) -> None:
    theirs, ours = make_pair(arch)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, actual = theirs.eval()(images), ours.eval()(images)
    assert expected.std() > 0
    assert (expected - actual).abs().max().item() == 0.0


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_training_step_equals_torchvisions(arch: str) -> None:
    theirs, ours = make_pair(arch)
    images = torch.randn(3, 3, 48, 48)
    for model in (theirs, ours):
        model.train()
        model(images).square().mean().backward()
    for (name, expected), (_, actual) in zip(
        theirs.state_dict().items(), ours.state_dict().items(), strict=True
    ):  # running statistics have moved
        assert torch.equal(expected, actual), name
    for (name, expected), (_, actual) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert expected.grad is not None
        assert actual.grad is not None
        assert torch.equal(expected.grad, actual.grad), name


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_same_seed_gives_torchvisions_weights(arch: str) -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(arch, weights=None, num_classes=5).state_dict()
    torch.manual_seed(3)
    ours = build_model(arch).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_lab_head_is_the_reports_classifier() -> None:
    torch.manual_seed(0)
    model = build_model("resnet18", head="lab", stem="3x3", dropout=0.25).eval()
    assert [name for name, _ in model.fc.named_parameters()] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        features = model.forward_features(images)  # (2, 512)
        parameters = dict(model.fc.named_parameters())
        hidden = (features @ parameters["0.weight"].T + parameters["0.bias"]).clamp(min=0)  # (2, 50)
        expected = hidden @ parameters["3.weight"].T + parameters["3.bias"]  # (2, 5)
        assert hidden.shape == (2, 50)
        torch.testing.assert_close(model(images), expected)
        assert torch.equal(model(images), model(images)), "no dropout in evaluation mode"
        model.fc.train()
        assert not torch.equal(model(images), model(images)), "dropout in training mode"


def test_small_stem_keeps_the_resolution() -> None:
    sizes: dict[str, tuple[int, ...]] = {}
    for stem in ("3x3", "7x7"):
        model = build_model("resnet18", stem=stem).eval()
        model.layer1.register_forward_pre_hook(lambda _, args, stem=stem: sizes.update({stem: args[0].shape}))
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 28, 28)).shape == (1, 5)
    assert sizes == {"3x3": (1, 64, 28, 28), "7x7": (1, 64, 7, 7)}


@pytest.mark.parametrize("wrong", [{"head": "mlp"}, {"stem": "5x5"}])
def test_unknown_parts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        ResNet(BasicBlock, (1, 1, 1, 1), **wrong)
