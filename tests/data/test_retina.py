"""The field of view: found where there is one, the whole frame where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retino_cli.data.pictures import Decoded, decode
from retino_cli.data.retina import _brightest_channel, find_field

Box = tuple[int, int, int, int]


def _decoded(pixels: np.ndarray) -> Decoded:
    image = Image.fromarray(pixels)
    return Decoded(image, 1, image.width, image.height)


def _fundus(
    width: int, height: int, *, centre: tuple[float, float], radius: float, light: float = 1.0, surround: int = 2
) -> np.ndarray:
    """A disc of uneven light, darker towards one side and its edge, on a noisy surround."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    shade = light * (1 - 0.35 * distance**2) * (0.75 + 0.25 * (x - centre[0]) / radius)
    field = shade[..., None] * np.array([190, 95, 45], dtype=np.float32)
    noise = np.random.default_rng(0).integers(0, 3, (height, width, 1))
    return np.clip(np.where(distance[..., None] <= 1, field, surround) + noise, 0, 255).astype(np.uint8)


def _assert_near(box: Box, expected: Box, tolerance: int) -> None:
    assert np.abs(np.subtract(box, expected)).max() <= tolerance, (box, expected)


@pytest.mark.parametrize(("light", "surround"), [(1.0, 2), (1.0, 25), (0.25, 1), (0.12, 0)])
def test_round_field(light: float, surround: int) -> None:
    pixels = _fundus(900, 600, centre=(430, 310), radius=250, light=light, surround=surround)
    box, fallback = find_field(_decoded(pixels))
    assert not fallback
    _assert_near(box, (180, 60, 681, 561), 10)


def test_field_cut_at_top_and_bottom() -> None:
    box, fallback = find_field(_decoded(_fundus(900, 600, centre=(450, 300), radius=360)))
    assert not fallback
    assert box[1] == 0
    assert box[3] == 600
    _assert_near(box, (90, 0, 811, 600), 8)


def test_text_and_markers_beside_the_field_do_not_count() -> None:
    pixels = _fundus(900, 600, centre=(450, 300), radius=250)
    plain, _ = find_field(_decoded(pixels))
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.text((5, 5), "PATIENT 0042  OD  2015-03-01", fill="white", font_size=18)
    draw.text((5, 575), "45 deg", fill="white", font_size=18)
    draw.rectangle((850, 20, 895, 90), fill="white")  # a block well away from the field
    draw.line((0, 598, 899, 598), fill="white")  # a frame line
    box, fallback = find_field(_decoded(np.asarray(image)))
    assert not fallback
    _assert_near(box, plain, 3)


def test_no_surround_keeps_the_frame_and_is_no_fallback() -> None:
    field = _fundus(900, 600, centre=(450, 300), radius=900)
    assert find_field(_decoded(field)) == ((0, 0, 900, 600), False)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((300, 400, 3), np.uint8),
        np.random.default_rng(0).integers(0, 8, (300, 400, 3)).astype(np.uint8),
        np.full((300, 400, 3), 90, np.uint8),
        np.full((300, 400, 3), 255, np.uint8),
    ],
    ids=["black", "nearly black", "grey", "white"],
)
def test_nothing_photographed_is_a_fallback(pixels: np.ndarray) -> None:
    assert find_field(_decoded(pixels)) == ((0, 0, 400, 300), True)


def test_shapes_that_no_field_has_are_a_fallback() -> None:
    stripe = np.zeros((300, 400, 3), np.uint8)
    stripe[140:170] = 200
    spot = np.zeros((300, 400, 3), np.uint8)
    spot[100:160, 100:160] = 200
    for pixels in (stripe, spot):
        assert find_field(_decoded(pixels)) == ((0, 0, 400, 300), True)


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (64, 48), (1, 64)])
def test_small_frames_are_kept_whole(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 4 : 1 + height // 2, width // 4 : 1 + width // 2] = 200
    assert find_field(_decoded(pixels)) == ((0, 0, width, height), False)


def test_long_thin_frames_do_not_break_the_search() -> None:
    for shape in ((1, 3000, 3), (3000, 1, 3)):
        pixels = np.zeros(shape, np.uint8)
        pixels.reshape(-1, 3)[500:2000] = 180
        assert find_field(_decoded(pixels))[0] == (0, 0, shape[1], shape[0])


def test_box_is_the_same_at_every_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    pixels = _fundus(2573, 1710, centre=(1200, 850), radius=700)
    Image.fromarray(pixels).save(path, quality=92)
    boxes = [find_field(decode(str(path), lambda w, h, scale=scale: scale))[0] for scale in (1, 2, 4, 8)]
    _assert_near(boxes[0], (500, 150, 1901, 1551), 16)
    for box in boxes[1:]:
        _assert_near(box, boxes[0], 8)


@pytest.mark.real_data
def test_idrid(real_data: Path) -> None:
    """All photographs are of one camera: the field is 426 to 434 of 536 eighths wide, cut at the top and the bottom."""
    paths = sorted((real_data / "idrid").rglob("*.jpg"))
    assert len(paths) == 516
    for path in paths[::20]:
        boxes = []
        for scale in (8, 4):
            box, fallback = find_field(decode(str(path), lambda w, h, scale=scale: scale))
            assert not fallback
            boxes.append(box)
        _assert_near(boxes[0], boxes[1], 8)
        left, top, right, bottom = boxes[0]
        assert (top, bottom) == (0, 2848)
        assert 3380 <= right - left <= 3500


@pytest.mark.parametrize("size", [(300, 200), (301, 200), (300, 201), (2600, 1700)])
def test_the_search_looks_at_block_averages(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for factor in (1, 2, 4):
        averages = np.asarray(image.reduce(factor) if factor > 1 else image)
        assert np.array_equal(_brightest_channel(image, factor), averages.max(axis=2))
