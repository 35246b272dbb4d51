"""Files of weights: the namings and wrappings found in the wild, and what is said about a file that cannot be used."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from retino_cli.errors import WeightsError
from retino_cli.models.factory import build_model
from retino_cli.models.resnet import ResNet
from retino_cli.models.weights import IMAGENET_FILES, hash_tensors, load_file, transfer

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def imagenet() -> State:
    """A state dict as torchvision's ImageNet files hold it: 1000 classes."""
    torch.manual_seed(1)
    state: State = torchvision.models.resnet18(weights=None).state_dict()
    return state


@pytest.fixture(scope="module")
def imagenet_file(imagenet: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(imagenet, path)
    return path


def body(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def assert_body_equal(actual: State, expected: State) -> None:
    assert body(actual).keys() == body(expected).keys()
    for name, tensor in body(expected).items():
        assert torch.equal(actual[name], tensor), name


def test_body_is_taken_and_another_classifier_left(imagenet: State, imagenet_file: Path) -> None:
    model = build_model("resnet18")
    head = model.fc.weight.clone()
    report = load_file(model, imagenet_file)
    assert_body_equal(model.state_dict(), imagenet)
    assert torch.equal(model.fc.weight, head)
    assert report.source == str(imagenet_file)
    assert report.loaded == len(body(imagenet)) == 120
    assert report.skipped == ("fc.weight", "fc.bias")
    assert report.sha256 == hashlib.sha256(imagenet_file.read_bytes()).hexdigest()


def without_batch_counts(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


WRITTEN: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "nested": lambda state: {"state_dict": {"model": state}},
    "module": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "module.backbone": lambda state: {f"module.backbone.{name}": tensor for name, tensor in state.items()},
    "encoder beside head": lambda state: {f"encoder.{n}": t for n, t in state.items()} | {"head.weight": torch.ones(3)},
    "no batch counts": without_batch_counts,
    "numbers beside tensors": lambda state: {**state, "epoch": 3},
}


@pytest.mark.parametrize("written", WRITTEN)
def test_wrappings_and_prefixes(written: str, imagenet: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WRITTEN[written](imagenet), path)
    model = build_model("resnet18")
    report = load_file(model, path)
    assert_body_equal(model.state_dict(), imagenet)
    if written == "encoder beside head":
        assert set(report.skipped) == {"encoder.fc.weight", "encoder.fc.bias", "head.weight"}


def test_timm_safetensors_in_half_precision(imagenet: State, tmp_path: Path) -> None:
    # timm's plain ResNets share torchvision's names; its Hub files are safetensors, without batch counts in some.
    half = {name: tensor.half() for name, tensor in without_batch_counts(imagenet).items()}
    path = tmp_path / "model.safetensors"
    save_file(half, path)
    model = build_model("resnet18")
    report = load_file(model, path)
    assert report.loaded == len(half) - 2
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.layer2[0].downsample[0].weight, half["layer2.0.downsample.0.weight"].float())


def test_fitting_classifier_is_taken() -> None:
    for head in ("linear", "lab"):
        first, second = build_model("resnet18", head=head), build_model("resnet18", head=head)
        report = transfer(second, first.state_dict(), source="run 1234")
        assert report.skipped == ()
        assert report.sha256 == hash_tensors(first.state_dict()) == hash_tensors(second.state_dict())
    report = transfer(build_model("resnet18", head="linear"), first.state_dict(), source="run 1234")
    assert report.skipped == ("fc.0.weight", "fc.0.bias", "fc.3.weight", "fc.3.bias")


def test_stem_is_left_where_the_other_one_is_built(imagenet_file: Path, imagenet: State) -> None:
    model = build_model("resnet18", stem="3x3")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_file(model, imagenet_file)
    after = model.state_dict()
    stem = {name for name in after if name.startswith(("conv1.", "bn1."))}
    assert stem | {"fc.weight", "fc.bias"} == set(report.skipped)
    assert all(torch.equal(after[name], before[name]) for name in report.skipped)
    assert all(torch.equal(after[name], imagenet[name]) for name in after if name not in report.skipped)


@functools.cache
def untouched(arch: str) -> tuple[ResNet, str]:
    """A model to load into in vain, and the hash that it must keep."""
    model = build_model(arch, stem="3x3")
    return model, hash_tensors(model.state_dict())


def message_of(arch: str, path: Path) -> str:
    model, before = untouched(arch)
    with pytest.raises(WeightsError) as caught:
        load_file(model, path)
    assert str(path) in caught.value.message
    assert hash_tensors(model.state_dict()) == before, "the model must be left alone"
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("arch", "problem"),
    [
        ("resnet50", "layer1.0.conv1.weight has the shape (64, 64, 3, 3) in place of (64, 64, 1, 1)"),
        ("resnet34", "layer1.2.conv1.weight is missing"),
    ],
)
def test_other_architecture_is_named(arch: str, problem: str, imagenet_file: Path) -> None:
    message = message_of(arch, imagenet_file)
    assert problem in message
    assert f"this looks like resnet18, you asked for {arch}" in message
    assert "--arch resnet18" in message


def test_larger_network_does_not_pass_for_a_smaller_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(build_model("resnet34").state_dict(), path)
    message = message_of("resnet18", path)
    assert "it also has layer1.2.conv1.weight: this looks like resnet34, you asked for resnet18" in message


def spoil(state: State) -> State:
    state = dict(state)
    state["layer1.0.bn1.weight"] = torch.full_like(state["layer1.0.bn1.weight"], float("nan"))
    return state


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda state: {"a.weight": torch.ones(2)}, "does not look like a ResNet"),
        (lambda state: {"epoch": 3}, "holds no state dict"),
        (lambda state: [torch.ones(2)], "holds no state dict"),
        (spoil, "layer1.0.bn1.weight holds values that are not finite"),
        (lambda state: {f"{p}.{n}": t for n, t in state.items() for p in ("teacher", "student")}, "2 networks"),
        (lambda state: {**state, "path": Path("x")}, "could run code"),
    ],
)
def test_unusable_torch_files(content: Callable[[State], Any], expected: str, imagenet: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content(imagenet), path)
    assert expected in message_of("resnet18", path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hello, I am a text\n" * 50, "it is a text file"),
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n\x00\x00" * 30, "damaged or of another kind"),
    ],
)
def test_files_that_hold_no_weights(suffix: str, content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert expected in message_of("resnet18", path)


def test_truncated_files(imagenet_file: Path, imagenet: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(imagenet_file.read_bytes()[:-1000])
    assert "cut off" in message_of("resnet18", path)
    path = tmp_path / "weights.safetensors"
    save_file(imagenet, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "cut off" in message_of("resnet18", path)


def test_paths_that_are_no_weights(tmp_path: Path) -> None:
    assert "no such file" in message_of("resnet18", tmp_path / "absent.pth")
    assert "is a folder" in message_of("resnet18", tmp_path)
    other = tmp_path / "weights.onnx"
    other.write_bytes(b"x")
    assert ".safetensors" in message_of("resnet18", other)


@pytest.mark.filterwarnings("default")  # what torch warns about while it reads rubbish is not the point
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}q\x00"]))
def test_any_bytes_give_a_weights_error(data: bytes, start: bytes, tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(start + data)
        with pytest.raises(WeightsError, match="weights"):
            load_file(model, path)


def test_imagenet_files_are_torchvisions() -> None:
    for arch, name in IMAGENET_FILES.items():
        theirs = torchvision.models.get_model_weights(arch).IMAGENET1K_V1.url
        assert theirs == f"https://download.pytorch.org/models/{name}"
