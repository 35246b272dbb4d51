"""Stages, heads and the layer that Grad-CAM looks at, of ours and of timm's networks."""

from __future__ import annotations

import pytest
import torch

from retino_cli.config import ARCHITECTURES
from retino_cli.errors import UsageError
from retino_cli.models.factory import build_model
from retino_cli.models.structure import body_stages, head_modules, head_parameters, target_layer

SIZE = 64
# Stages, head, the target layer, and the shape of its map at 64 px.
NETWORKS = {
    "resnet18": (5, ("fc",), "layer4", (512, 2, 2)),
    "timm:test_resnet": (5, ("fc",), "layer4", (96, 2, 2)),
    "timm:test_convnext": (5, ("head.fc",), "norm_pre", (64, 2, 2)),
    "timm:test_efficientnet": (6, ("classifier",), "bn2", (256, 2, 2)),
    "timm:mobilenetv3_small_050": (7, ("classifier",), "blocks", (288, 2, 2)),
    "timm:test_vit": (7, ("head",), "blocks.5.norm1", (64, 4, 4)),
    "timm:test_vit3": (10, ("head",), "blocks.8.norm1", (96, 4, 4)),
    "timm:deit_tiny_distilled_patch16_224": (13, ("head", "head_dist"), "blocks.11.norm1", (192, 4, 4)),
    "timm:swin_tiny_patch4_window7_224": (5, ("head.fc",), "norm", (768, 2, 2)),
    "timm:test_maxvit": (5, ("head.fc",), "norm", (128, 2, 2)),
    "timm:test_mambaout": (5, ("head.fc",), "stages", (64, 2, 2)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(arch: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(arch, stem="7x7", image_size=SIZE)


def test_stages_and_head_hold_every_parameter_once(arch: str, model: torch.nn.Module) -> None:
    n_stages, heads, _, _ = NETWORKS[arch]
    stages = body_stages(model)
    assert head_modules(model) == heads
    assert len(stages) == n_stages
    assert stages[0].name == "stem"
    assert all(stage.parameters for stage in stages)
    names = [name for stage in stages for name in stage.parameters] + list(head_parameters(model))
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_stages_stand_in_the_order_of_the_computation(arch: str, model: torch.nn.Module) -> None:
    stages = body_stages(model)
    layers = [stage.parameters[0].rpartition(".")[0] for stage in stages]
    if any(not layer for layer in layers):
        layers[0] = "patch_embed.proj"  # the first of a transformer's stem are its tokens, which no module computes
    order: list[str] = []
    hooks = [model.get_submodule(n).register_forward_hook(lambda *_a, n=n: order.append(n)) for n in layers]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, SIZE, SIZE))
    finally:
        for hook in hooks:
            hook.remove()
    assert order == layers


def test_lab_head_is_found_in_place_of_timms_own() -> None:
    for arch, prefix in (("resnet18", "fc."), ("timm:test_convnext", "head.fc.")):
        model = build_model(arch, head="lab", image_size=SIZE)
        assert head_parameters(model) == tuple(prefix + n for n in ("0.weight", "0.bias", "3.weight", "3.bias"))


def test_target_layer_gives_a_map_that_every_grade_depends_on(arch: str, model: torch.nn.Module) -> None:
    _, _, name, shape = NETWORKS[arch]
    model.train()
    target = target_layer(model, image_size=SIZE)
    assert all(module.training for module in model.modules())
    assert target.name == name
    assert model.get_submodule(name) is target.module
    outputs: list[torch.Tensor] = []
    hook = target.module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    torch.manual_seed(1)
    logits = model.eval()(torch.rand(2, 3, SIZE, SIZE))
    hook.remove()
    found = target.to_map(outputs[0])
    assert found.shape == (2, *shape)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), outputs[0])
    assert bool((target.to_map(gradient).abs().sum(dim=1) > 0).all())  # in every place, also with a class token


def test_small_pictures_do_not_move_the_target_into_the_middle_of_the_network() -> None:
    """At 32 px the last map is a single pixel, as that of pooled features is."""
    for arch, name in (("timm:test_efficientnet", "bn2"), ("timm:mobilenetv3_small_050", "blocks")):
        assert target_layer(build_model(arch, image_size=32), image_size=32).name == name


def test_tokens_are_laid_out_row_by_row() -> None:
    model = build_model("timm:test_vit", image_size=SIZE)
    target = target_layer(model, image_size=SIZE)
    tokens = torch.arange(17.0).reshape(1, 17, 1).expand(1, 17, 64)  # the class token is 0
    assert torch.equal(target.to_map(tokens)[0, 0], torch.arange(1.0, 17.0).reshape(4, 4))


def test_networks_without_a_map_are_refused() -> None:
    model = build_model("timm:mixer_s32_224", image_size=SIZE)
    with pytest.raises(UsageError, match="MlpMixer shows no map"):
        target_layer(model, image_size=SIZE)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_our_stages(arch: str) -> None:
    stages = body_stages(build_model(arch, stem="3x3"))
    assert [stage.name for stage in stages] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert stages[0].parameters == ("conv1.weight", "bn1.weight", "bn1.bias")


class Unsaid(torch.nn.Module):
    """As some networks of timm are: channels last without saying so, and stages by block only."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Conv2d(3, 8, kernel_size=16, stride=16)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.embed(images).permute(0, 2, 3, 1)).mean(dim=(1, 2)))
        return logits

    def get_classifier(self) -> torch.nn.Module:
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        if coarse:
            raise AssertionError("coarse grouping is not implemented")
        return {"stem": r"^embed", "blocks": r"^norm"}


def test_what_a_network_does_not_say_is_found_out() -> None:
    model = Unsaid()
    target = target_layer(model, image_size=SIZE)
    assert target.name == "norm"
    assert target.to_map(torch.zeros(2, 4, 3, 8)).shape == (2, 8, 4, 3)
    assert [stage.parameters for stage in body_stages(model)] == [
        ("embed.weight", "embed.bias"),
        ("norm.weight", "norm.bias"),
    ]
