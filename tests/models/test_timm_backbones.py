"""Networks of timm through the same factory, checkpoints and weights as ours."""

from __future__ import annotations

import builtins
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from retino_cli.config import TrainConfig, resolve_config
from retino_cli.errors import UsageError, WeightsError
from retino_cli.models import timm_backbones
from retino_cli.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from retino_cli.models.factory import build_model
from retino_cli.models.structure import head_parameters
from retino_cli.models.weights import load_file, transfer
from retino_cli.preprocess import IMAGENET_MEAN, PreprocessSpec
from retino_cli.training.setup import build_spec, run_name

SMALL = ("test_resnet", "test_convnext", "test_efficientnet", "test_vit", "mobilenetv3_small_050")
SIZE = 64


def make(name: str, *, head: str = "linear", seed: int = 0, image_size: int = SIZE) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(f"timm:{name}", head=head, stem="", dropout=0.25, image_size=image_size)


def pictures(n: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("head", ["linear", "lab"])
@pytest.mark.parametrize("name", SMALL)
def test_five_outputs_and_the_same_bits_from_the_checkpoint(name: str, head: str, tmp_path: Path) -> None:
    model = make(name, head=head)
    model(pictures(4))  # moves the statistics
    model.eval()
    with torch.no_grad():
        expected = model(pictures())
    assert expected.shape == (2, 5)
    spec = PreprocessSpec(image_size=SIZE)
    info = CheckpointInfo(f"timm:{name}", head, "", 0.25, spec, {}, 1, {}, {}, {}, "0")
    save_checkpoint(tmp_path / "best", model, info)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    loaded, found = load_checkpoint(tmp_path / "best")
    assert torch.equal(torch.get_rng_state(), before)
    assert found == info
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), expected)


def test_windows_of_another_image_size_come_back(tmp_path: Path) -> None:
    """Swin's tables of windows and masks are not among its stored tensors."""
    model = make("swin_tiny_patch4_window7_224").eval()
    info = CheckpointInfo(
        "timm:swin_tiny_patch4_window7_224", "linear", "", 0.25, PreprocessSpec(image_size=SIZE), {}, 1, {}, {}, {}, "0"
    )
    save_checkpoint(tmp_path / "best", model, info)
    loaded, _ = load_checkpoint(tmp_path / "best")
    with torch.no_grad():
        assert torch.equal(loaded(pictures(1)), model(pictures(1)))


def test_lab_head_is_the_labs() -> None:
    model = make("test_convnext", head="lab")
    assert str(model.head.fc) == str(build_model("resnet18", head="lab").fc).replace("512", "64")
    assert head_parameters(model) == tuple(f"head.fc.{name}" for name in ("0.weight", "0.bias", "3.weight", "3.bias"))
    with pytest.raises(UsageError, match="does not end in one linear layer"):
        make("deit_tiny_distilled_patch16_224", head="lab")


def test_our_resnet18_equals_timms() -> None:
    theirs = timm.create_model("resnet18", num_classes=5).eval()
    ours = build_model("resnet18").eval()
    report = transfer(ours, theirs.state_dict(), source="timm")
    assert report.skipped == ()
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures()), theirs(pictures()), rtol=1e-5, atol=1e-6)
    back = make("resnet18").eval()
    assert transfer(back, ours.state_dict(), source="ours").skipped == ()
    with torch.no_grad():
        assert torch.equal(back(pictures()), theirs(pictures()))


def test_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UsageError, match="no network 'convnext_tny'") as caught:
        make("convnext_tny")
    assert "timm:convnext_tiny" in caught.value.hint
    with pytest.raises(UsageError, match="tag of 'convnext_tiny.mine'") as caught:
        make("convnext_tiny.mine")
    assert "timm:convnext_tiny.in12k_ft_in1k" in caught.value.hint


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = CheckpointInfo("timm:test_resnet", "linear", "", 0.25, PreprocessSpec(), {}, 1, {}, {}, {}, "0")
    save_checkpoint(tmp_path / "best", make("test_resnet"), info)
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match="needs timm, which is not installed") as caught:
        make("test_resnet")
    assert "pip install 'retino[timm]'" in caught.value.hint
    with pytest.raises(WeightsError, match=r"checkpoint\.json: .* needs timm") as unreadable:
        load_checkpoint(tmp_path / "best")
    assert "pip install 'retino[timm]'" in unreadable.value.hint
    build_model("resnet18")  # needs none of it


def test_size_that_does_not_fit_is_named() -> None:
    model = make("test_vit", image_size=72)
    with pytest.raises(UsageError, match="cannot take pictures of 72 px") as caught:
        timm_backbones.check_input(model, "timm:test_vit", image_size=72)
    assert "--image-size 160" in caught.value.hint
    model = make("test_vit").train()
    model.head_drop.eval()
    timm_backbones.check_input(model, "timm:test_vit", image_size=SIZE)
    assert [m.training for m in (model, model.blocks, model.head_drop)] == [True, True, False]


def test_configuration_takes_the_name_and_no_stem() -> None:
    config = TrainConfig(arch="timm:test_vit", image_size=28)
    resolved = resolve_config(config, n_train=10, native_size=28)
    assert resolved.stem is None
    assert TrainConfig.from_dict(resolved.to_dict()) == resolved
    with pytest.raises(UsageError, match="--stem is not for timm:test_vit"):
        dataclasses.replace(config, stem="3x3")
    with pytest.raises(UsageError, match="--arch timm: is not known"):
        TrainConfig(arch="timm:")


def test_pictures_are_normalised_as_timms_weights_expect() -> None:
    size, start = {"native_size": SIZE, "n_train": 10}, {"normalisation": "imagenet"}
    for name, mean in (("test_vit", (0.5, 0.5, 0.5)), ("mobilenetv3_small_050", IMAGENET_MEAN)):
        config = TrainConfig(arch=f"timm:{name}", image_size=SIZE, **start)
        assert build_spec(resolve_config(config, **size)).mean == mean
    plain = dataclasses.replace(config, normalisation="none")
    assert build_spec(resolve_config(plain, **size)).mean == (0, 0, 0)


def test_weights_of_the_same_network_are_taken_without_another_classifier(tmp_path: Path) -> None:
    imagenet = timm.create_model("test_convnext").state_dict()
    save_file({f"backbone.{name}": tensor for name, tensor in imagenet.items()}, tmp_path / "w.safetensors")
    model = make("test_convnext", head="lab")
    classifier = model.head.fc[0].weight.clone()
    report = load_file(model, tmp_path / "w.safetensors")
    assert set(report.skipped) == {"backbone.head.fc.weight", "backbone.head.fc.bias"}
    assert torch.equal(model.head.fc[0].weight, classifier)
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in imagenet.items() if not name.startswith("head.fc."))
    assert transfer(make("test_convnext", head="lab", seed=1), own, source="run").skipped == ()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda state: {n: t for n, t in state.items() if n != "head.norm.weight"}, "head.norm.weight is missing"),
        (lambda state: state | {"stages.4.0.x": torch.ones(1)}, "it also has stages.4.0.x"),
        (lambda state: state | {"stem.0.weight": torch.ones(2, 3)}, r"stem.0.weight has the shape \(2, 3\)"),
        (lambda state: state | {"stem.0.bias": state["stem.0.bias"] * float("nan")}, "not finite"),
        (
            lambda state: build_model("resnet18").state_dict(),
            "this looks like resnet18, you asked for timm's test_convnext",
        ),
    ],
)
def test_body_that_does_not_fit_is_refused(spoil: Any, expected: str) -> None:
    model = make("test_convnext")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=expected):
        transfer(model, spoil(dict(make("test_convnext", seed=1).state_dict())), source="file")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_files_of_ours_are_checked_as_before() -> None:
    with pytest.raises(WeightsError, match="this does not look like a ResNet"):
        transfer(build_model("resnet18"), make("test_convnext").state_dict(), source="file")


def hub_gives(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Stands in for the download from the hub; everything that timm does with it stays as it is."""

    def load(*_args: Any, **_kwargs: Any) -> dict[str, torch.Tensor]:
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", load)


def test_pretrained_weights_come_from_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    stored = timm.create_model("test_vit").state_dict()  # 160 px, 1000 classes
    hub_gives(monkeypatch, stored)
    model = make("test_vit")  # 64 px
    before = torch.get_rng_state()
    report = timm_backbones.load_pretrained(model, "timm:test_vit", image_size=SIZE)
    assert torch.equal(torch.get_rng_state(), before)
    assert report.source == "timm (test_vit.r160_in1k)"
    assert report.skipped == ("head.weight", "head.bias")
    own = model.state_dict()
    assert torch.equal(own["blocks.3.attn.qkv.weight"], stored["blocks.3.attn.qkv.weight"])
    assert own["pos_embed"].shape == (1, 1 + 16, 64)  # 4 x 4 patches in place of 10 x 10
    assert torch.equal(own["pos_embed"][:, 0], stored["pos_embed"][:, 0])


def test_pretrained_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_gives(monkeypatch, OSError("no network"))
    with pytest.raises(WeightsError, match="timm's weights for 'test_vit' cannot be had: no network") as caught:
        timm_backbones.load_pretrained(make("test_vit"), "timm:test_vit", image_size=SIZE)
    assert "--weights FILE" in caught.value.hint
    with pytest.raises(WeightsError, match="timm has no pretrained weights for 'mixer_s32_224'"):
        timm_backbones.load_pretrained(make("test_vit"), "timm:mixer_s32_224", image_size=SIZE)


def test_another_runs_positions_are_fitted_to_the_size() -> None:
    other, model = make("test_vit", image_size=160, seed=1), make("test_vit")
    timm_backbones.fit_positions(other, image_size=SIZE)
    assert transfer(model, other.state_dict(), source="run").skipped == ()
    ours = build_model("resnet18")
    timm_backbones.fit_positions(ours, image_size=SIZE)  # nothing to fit


def test_run_is_named_without_a_colon() -> None:
    class Named:
        name = "idrid"

    assert run_name(TrainConfig(arch="timm:test_vit"), Named()) == "timm-test_vit-scratch-idrid-s0"  # type: ignore[arg-type] # the name is all it reads
