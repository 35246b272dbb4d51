"""Grad-CAM against plain autograd, and what its maps must be whatever the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retino_cli.errors import UsageError
from retino_cli.evaluation import inference
from retino_cli.explain import gradcam
from retino_cli.explain.gradcam import enlarge, grad_cam, heat_maps, parse_target, referable_log_odds
from retino_cli.models.factory import build_model
from retino_cli.models.structure import target_layer
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime

SIZE = 64
SPEC = PreprocessSpec(image_size=SIZE)
CPU = Runtime(device=torch.device("cpu"), precision="float32")
ARCHITECTURES = ("resnet18", "timm:test_convnext", "timm:test_vit", "timm:test_efficientnet")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return make_model(str(request.param))


def make_model(arch: str = "resnet18", *, seed: int = 0) -> nn.Module:
    """Random weights whose head is strong enough that grades differ."""
    torch.manual_seed(seed)
    built = build_model(arch, stem="7x7", image_size=SIZE).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def pictures(n: int = 3, *, seed: int = 1) -> Tensor:
    """Smooth random pictures (n, 3, SIZE, SIZE) uint8."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    return (smooth * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def slow_maps(model: nn.Module, images: Tensor, grades: list[int]) -> np.ndarray:
    """One picture at a time, the gradient through the whole network, and the sums written out."""
    layer = target_layer(model, image_size=SIZE)
    result = []
    for image, grade in zip(images, grades, strict=True):
        kept: list[Tensor] = []
        hook = layer.module.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output))
        inputs = normalise(to_float(image[None]), SPEC).requires_grad_()
        logits = model(inputs)
        hook.remove()
        kept[0].retain_grad()
        logits[0, grade].backward()
        activations, slopes = layer.to_map(kept[0])[0].detach(), layer.to_map(kept[0].grad)[0]
        channels, height, width = activations.shape
        cam = torch.zeros(height, width)
        for k in range(channels):
            cam += slopes[k].sum() / (height * width) * activations[k]
        result.append(cam.clamp_min(0.0))
    model.zero_grad()
    return torch.stack(result).numpy()


def test_maps_equal_plain_autograd(model: nn.Module) -> None:
    grades = [0, 3, 4]
    layer = target_layer(model, image_size=SIZE)
    inputs = normalise(to_float(pictures()), SPEC)
    rows = torch.tensor(grades)[:, None]
    ours = grad_cam(model, layer, inputs, lambda logits: logits.gather(1, rows)[:, 0]).numpy()
    slow = slow_maps(model, pictures(), grades)
    assert slow.max() > 0
    np.testing.assert_allclose(ours, slow, rtol=1e-3, atol=1e-5 * slow.max())


def test_shape_range_and_that_the_model_is_left_as_it_was(model: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grad_mode = torch.is_grad_enabled()
    maps = heat_maps(model, pictures(5), SPEC, CPU)
    assert maps.shape == (5, SIZE, SIZE)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    largest = maps.max(axis=(1, 2))
    assert set(np.round(largest, 5)) <= {0.0, 1.0}
    assert largest.any()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled() == grad_mode
    assert not any(module._forward_hooks for module in model.modules())


def test_a_picture_has_the_same_map_in_any_batch(model: nn.Module) -> None:
    images = pictures(5)
    whole = heat_maps(model, images, SPEC, CPU, target=2)
    alone = np.concatenate([heat_maps(model, images[row : row + 1], SPEC, CPU, target=2) for row in range(5)])
    np.testing.assert_allclose(whole, alone, atol=2e-3)
    turned = heat_maps(model, images.flip(0), SPEC, CPU, target=2)[::-1]
    np.testing.assert_allclose(whole, turned, atol=2e-3)


def test_with_other_random_weights_the_map_changes() -> None:
    maps = [heat_maps(make_model(seed=seed), pictures(), SPEC, CPU, target=1) for seed in (0, 1)]
    assert np.abs(maps[0] - maps[1]).mean(axis=(1, 2)).min() > 0.02


def test_the_map_is_of_the_score_that_was_asked_for() -> None:
    model = make_model()
    images = pictures(4)
    with torch.no_grad():
        predicted = model(normalise(to_float(images), SPEC)).argmax(dim=1).numpy()
    by_grade = np.stack([heat_maps(model, images, SPEC, CPU, target=grade) for grade in range(5)])
    assert len({by_grade[grade].tobytes() for grade in range(5)}) == 5
    np.testing.assert_array_equal(heat_maps(model, images, SPEC, CPU), by_grade[predicted, range(4)])
    asked = np.array([4, 0, 2, 1])
    np.testing.assert_array_equal(heat_maps(model, images, SPEC, CPU, target=asked), by_grade[asked, range(4)])
    referable = heat_maps(model, images, SPEC, CPU, target="referable")
    assert all(not np.array_equal(referable, by_grade[grade]) for grade in range(5))


def test_log_odds_of_referable_dr() -> None:
    logits = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = torch.softmax(logits, dim=1)[:, 2:].sum(dim=1)
    torch.testing.assert_close(referable_log_odds(logits), torch.log(p / (1 - p)))
    assert torch.isfinite(referable_log_odds(1e4 * logits.float())).all()


@pytest.mark.parametrize("held", [torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16)])
def test_gradients_are_float32_whatever_the_caller_and_the_run_compute_in(held: object) -> None:
    model, images = make_model(), pictures(2)
    plain = heat_maps(model, images, SPEC, CPU, target=0)
    with held:  # type: ignore[attr-defined] # each of them is a context manager
        same = heat_maps(model, images, SPEC, Runtime(device=CPU.device, precision="bfloat16"), target=0)
    np.testing.assert_array_equal(plain, same)


def test_a_model_in_training_is_put_into_evaluation_mode() -> None:
    model, images = make_model(), pictures(3)
    expected = heat_maps(model, images, SPEC, CPU, target=0)
    np.testing.assert_array_equal(heat_maps(model.train(), images, SPEC, CPU, target=0), expected)


def test_a_body_without_gradients_is_explained_as_well() -> None:
    model, images = make_model(), pictures(2)
    expected = heat_maps(model, images, SPEC, CPU, target=0)
    np.testing.assert_array_equal(heat_maps(model.requires_grad_(False), images, SPEC, CPU, target=0), expected)


# -- maps without heat, or without finite values -----------------------------------------------------------------------


def test_a_map_without_heat_stays_0() -> None:
    model = make_model()
    torch.nn.init.zeros_(model.fc.weight)  # type: ignore[arg-type] # of a ResNet
    maps = heat_maps(model, pictures(), SPEC, CPU)
    assert maps.shape == (3, SIZE, SIZE)
    assert not maps.any()


def test_a_model_that_is_not_finite_gives_no_heat() -> None:
    model = make_model()
    torch.nn.init.constant_(model.fc.weight, float("nan"))  # type: ignore[arg-type] # of a ResNet
    assert not heat_maps(model, pictures(), SPEC, CPU).any()


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_maps_of_any_scale_are_enlarged_to_the_same(scale: float) -> None:
    maps = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    maps[1] = 0
    large = enlarge(maps * scale, 20)
    np.testing.assert_allclose(large.numpy(), enlarge(maps, 20).numpy(), atol=1e-5)
    assert large[0].max() == 1
    assert not large[1].any()


def test_enlarging_keeps_the_place_of_a_peak_and_adds_none() -> None:
    maps = torch.zeros(1, 7, 7)
    maps[0, 5, 1] = 3.0
    large = enlarge(maps, 224)[0].numpy()
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert (abs(row - 175.5), abs(column - 47.5)) <= (1, 1)  # the middle of rows 160..191, columns 32..63
    assert large[:96].max() == 0
    large[128:, :96] = 0
    assert large.max() < 0.02  # two swings of the bicubic kernel, one along each side, make a small positive product


def test_no_pictures_no_maps() -> None:
    assert heat_maps(make_model(), pictures(0), SPEC, CPU).shape == (0, SIZE, SIZE)


# -- memory, wrong input -----------------------------------------------------------------------------------------------


def test_short_memory_halves_the_batch_and_grades_stay_with_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, grades = make_model(), pictures(5), np.array([0, 1, 2, 3, 4])
    expected = heat_maps(model, images, SPEC, CPU, target=grades)
    sizes = []
    real = gradcam.grad_cam

    def short(model: nn.Module, layer: object, inputs: Tensor, score: object) -> Tensor:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise MemoryError
        return real(model, layer, inputs, score)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(gradcam, "grad_cam", short)
    maps = heat_maps(model, images, SPEC, CPU, target=grades)
    assert sizes == [5, 3, 2, 2, 1]
    np.testing.assert_allclose(maps, expected, atol=2e-3)
    assert inference._FITTING[model] == 2


def test_the_body_keeps_nothing_for_gradients() -> None:
    """What is recorded begins at the map: of the layers before it, none is asked for a gradient."""
    model = make_model()
    recorded: list[bool] = []
    hook = model.layer3.register_forward_hook(lambda _m, _i, output: recorded.append(output.requires_grad))  # type: ignore[union-attr]
    heat_maps(model, pictures(1), SPEC, CPU)
    hook.remove()
    assert recorded == [False]


@pytest.mark.parametrize("target", ["severe", 5, -1, np.array([0, 1]), np.array([0, 1, 7]), np.array([0.5, 1, 2])])
def test_wrong_targets(target: object) -> None:
    with pytest.raises(UsageError, match="target"):
        heat_maps(make_model(), pictures(3), SPEC, CPU, target=target)  # type: ignore[arg-type] # that is the point


def test_targets_from_a_command_line() -> None:
    assert [parse_target(text) for text in ("predicted", " Referable", "0", "4")] == ["predicted", "referable", 0, 4]
    for text in ("5", "-1", "", "PDR", "1.0"):
        with pytest.raises(UsageError, match="--target"):
            parse_target(text)


def test_networks_without_a_map_are_refused() -> None:
    model = build_model("timm:mixer_s32_224", image_size=SIZE)
    with pytest.raises(UsageError, match="shows no map"):
        heat_maps(model, pictures(1), SPEC, CPU)
