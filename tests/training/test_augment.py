"""Augmentation: a pure function of (seed, epoch, image), exact where it only moves pixels, a similarity where not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from retino_cli.training.augment import AUGMENTATIONS, Augmentation, augment, draw_order, draw_parameters

STRONG = AUGMENTATIONS["strong"]
MIDDLE = 0.5
"""The parameter that leaves everything as it is, and flips nothing."""


def noise(n: int, size: int, *, channels_last: bool = False) -> Tensor:
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def scene(size: int = 64) -> Tensor:
    """One smooth picture without any symmetry, black towards its border: (1, 3, S, S)."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def bump(cx: float, cy: float, width: float) -> Tensor:
        return torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)

    channels = [bump(0.3, 0.1, 0.2), bump(-0.2, 0.3, 0.25), bump(0.1, -0.35, 0.15) + 0.5 * bump(-0.3, -0.1, 0.2)]
    return torch.stack(channels)[None].clamp(0, 1)


def parameters(**columns: float) -> Tensor:
    """One row with everything in the middle, but for the columns that are named."""
    names = ("flip_x", "flip_y", "angle", "scale", "ratio", "shift_x", "shift_y", "brightness", "contrast")
    return torch.tensor([[columns.get(name, MIDDLE) for name in names]])


def centroid(image: Tensor) -> tuple[float, float]:
    """(x, y) of one channel (S, S), in pixels from the centre."""
    size = image.shape[-1]
    axis = torch.arange(size) + 0.5 - size / 2
    total = image.sum()
    return float((image.sum(dim=0) * axis).sum() / total), float((image.sum(dim=1) * axis).sum() / total)


# -- the random numbers ------------------------------------------------------------------------------------------------


def test_the_numbers_of_an_image_do_not_depend_on_how_many_there_are() -> None:
    few, many = (draw_parameters(seed=3, epoch=2, n_images=n) for n in (7, 50_000))
    np.testing.assert_array_equal(few, many[:7])
    assert many.shape == (50_000, 9)
    assert many.min() >= 0
    assert many.max() < 1


def test_every_epoch_seed_and_column_has_numbers_of_its_own() -> None:
    tables = [draw_parameters(seed=s, epoch=e, n_images=500) for s in (0, 1) for e in (1, 2)]
    assert len({table.tobytes() for table in tables}) == 4
    correlation = np.corrcoef(np.concatenate(tables, axis=1).T) - np.eye(36)
    assert np.abs(correlation).max() < 0.2
    np.testing.assert_array_equal(tables[0], draw_parameters(seed=0, epoch=1, n_images=500))


def test_the_order_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    orders = [draw_order(seed=s, epoch=e, n_images=40) for s in (0, 1) for e in (1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(40))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[0], draw_order(seed=0, epoch=1, n_images=40))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_an_image_is_changed_the_same_way_in_every_batch(name: str) -> None:
    images, u = noise(6, 16), torch.from_numpy(draw_parameters(seed=1, epoch=1, n_images=6)).float()
    whole = augment(images, u, AUGMENTATIONS[name])
    one_by_one = torch.cat([augment(images[i : i + 1], u[i : i + 1], AUGMENTATIONS[name]) for i in range(6)])
    other_company = augment(images[[4, 1]], u[[4, 1]], AUGMENTATIONS[name])
    torch.testing.assert_close(whole, one_by_one, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole[[4, 1]], other_company, rtol=0, atol=1e-6)


# -- what it does to pixels --------------------------------------------------------------------------------------------


def test_none_returns_the_very_same_values() -> None:
    images, u = noise(4, 16), torch.rand(4, 9)
    assert torch.equal(augment(images, u, AUGMENTATIONS["none"]), images)


def test_flips_alone_move_pixels_exactly() -> None:
    images = noise(4, 15)
    u = torch.full((4, 9), MIDDLE)
    u[:, :2] = torch.tensor([[0.9, 0.9], [0.1, 0.9], [0.9, 0.1], [0.1, 0.1]])
    flipped = augment(images, u, AUGMENTATIONS["flips"])
    assert torch.equal(flipped[0], images[0])
    assert torch.equal(flipped[1], torch.flip(images[1], dims=[2]))  # left to right
    assert torch.equal(flipped[2], torch.flip(images[2], dims=[1]))  # top to bottom
    assert torch.equal(flipped[3], torch.flip(images[3], dims=[1, 2]))


def test_half_of_the_images_are_flipped_each_way() -> None:
    ramp = torch.linspace(0, 1, 4).expand(1, 3, 4, 4)
    images = (ramp + ramp.transpose(2, 3)).div(2).repeat(2000, 1, 1, 1)
    u = torch.from_numpy(draw_parameters(seed=0, epoch=1, n_images=2000)).float()
    out = augment(images, u, AUGMENTATIONS["flips"])
    left_right = (out[:, 0, 0, 0] - out[:, 0, 0, 3]).sign()
    top_bottom = (out[:, 0, 0, 0] - out[:, 0, 3, 0]).sign()
    for signs in (left_right, top_bottom, left_right * top_bottom):
        assert abs(float(signs.mean())) < 0.07  # three standard deviations of 2000 coins


def test_flips_do_the_same_on_the_way_through_the_affine_map() -> None:
    picture = scene()
    turning = Augmentation(flips=True, rotation=180.0)
    for flip_x, flip_y, dims in ((0.1, 0.9, [3]), (0.9, 0.1, [2]), (0.1, 0.1, [2, 3])):
        out = augment(picture, parameters(flip_x=flip_x, flip_y=flip_y), turning)
        torch.testing.assert_close(out, torch.flip(picture, dims=dims), rtol=0, atol=1e-4)


@pytest.mark.parametrize("degrees", [-180, -135, -90, -33, 0, 15, 90, 147])
def test_rotation_equals_torchvisions(degrees: float) -> None:
    picture = scene()
    u = parameters(flip_x=0.9, flip_y=0.9, angle=(degrees / 180 + 1) / 2)
    out = augment(picture, u, Augmentation(rotation=180.0))
    expected = reference.rotate(picture, degrees, interpolation=reference.InterpolationMode.BILINEAR)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-3)


def test_rotation_keeps_distances_and_areas() -> None:
    picture = scene(96)
    before = [centroid(channel) for channel in picture[0]]
    for angle in np.linspace(0, 1, 9, endpoint=False):
        out = augment(picture, parameters(flip_x=0.9, flip_y=0.9, angle=float(angle)), Augmentation(rotation=180.0))
        after = [centroid(channel) for channel in out[0]]
        for i in range(3):
            assert math.dist(before[i], before[i - 1]) == pytest.approx(math.dist(after[i], after[i - 1]), abs=0.1)
        assert float(out.sum()) == pytest.approx(float(picture.sum()), rel=0.01)


def test_scale_is_the_share_of_the_area_that_is_seen() -> None:
    picture = scene(96)
    scaling = Augmentation(scale=(0.5, 2.0))
    u = parameters(flip_x=0.9, flip_y=0.9)
    for share, wanted in ((0.5, 0.0), (1.0, 1 / 3)):
        u[0, 3] = wanted
        out = augment(picture, u, scaling)
        # A patch that fills a share s of the picture, seen in a window of area s, is 1/s times as large.
        assert float(out[0, 1].sum() / picture[0, 1].sum()) == pytest.approx(1 / share, rel=0.03)


def test_ratio_stretches_one_axis_and_keeps_the_area() -> None:
    picture = scene(96)
    stretching = Augmentation(ratio=(0.5, 2.0))
    wide = augment(picture, parameters(flip_x=0.9, flip_y=0.9, ratio=1.0), stretching)
    x, y = centroid(picture[0, 0])
    stretched_x, stretched_y = centroid(wide[0, 0])
    assert stretched_x == pytest.approx(x / math.sqrt(2), abs=0.1)
    assert stretched_y == pytest.approx(y * math.sqrt(2), abs=0.1)
    assert float(wide.sum()) == pytest.approx(float(picture.sum()), rel=0.01)


def test_shift_moves_by_a_share_of_the_side() -> None:
    picture = scene(80)
    out = augment(picture, parameters(flip_x=0.9, flip_y=0.9, shift_x=1.0, shift_y=0.0), Augmentation(shift=0.1))
    x, y = centroid(picture[0, 1])
    moved_x, moved_y = centroid(out[0, 1])
    assert moved_x == pytest.approx(x - 8, abs=0.3)
    assert moved_y == pytest.approx(y + 8, abs=0.3)


def test_what_comes_in_from_outside_is_black() -> None:
    white = torch.ones(1, 3, 32, 32)
    u = parameters(flip_x=0.9, flip_y=0.9, shift_x=1.0)
    out = augment(white, u, Augmentation(shift=0.25))
    assert float(out.min()) == 0
    assert float(out.mean()) == pytest.approx(0.75, abs=0.01)


def test_light_changes_equal_torchvisions() -> None:
    picture = scene(24) * 0.8
    brighter = augment(picture, parameters(brightness=1.0), Augmentation(brightness=0.2))
    torch.testing.assert_close(brighter, reference.adjust_brightness(picture, 1.2), rtol=0, atol=1e-6)
    grey = picture.mean(dim=1, keepdim=True).expand_as(picture).contiguous()  # one grey: its mean is torchvision's too
    flatter = augment(grey, parameters(contrast=0.0), Augmentation(contrast=0.2))
    torch.testing.assert_close(flatter, reference.adjust_contrast(grey, 0.8), rtol=0, atol=1e-3)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_shape_range_and_layout_are_kept(name: str, channels_last: bool) -> None:
    images = noise(64, 16, channels_last=channels_last)
    u = torch.from_numpy(draw_parameters(seed=0, epoch=1, n_images=64)).float()
    for extreme in (u, torch.zeros_like(u), torch.full_like(u, 1 - 1e-7)):
        out = augment(images, extreme, AUGMENTATIONS[name])
        assert out.shape == images.shape
        assert out.stride() == images.stride()
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1


def test_strong_draws_every_part_from_numbers_of_its_own() -> None:
    """Changing one parameter changes the picture: none is left unused."""
    picture = scene(32)
    base = augment(picture, parameters(), STRONG)
    for column in ("flip_x", "flip_y", "angle", "scale", "ratio", "shift_x", "shift_y", "brightness", "contrast"):
        changed = augment(picture, parameters(**{column: 0.2}), STRONG)
        assert not torch.allclose(changed, base, atol=1e-3), column
    off = replace(STRONG, flips=False)
    torch.testing.assert_close(augment(picture, parameters(flip_x=0.0), off), base, rtol=0, atol=1e-6)
