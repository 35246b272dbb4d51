"""Cutting a square: torch's kernel against torch's own function and against Pillow's resize."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from retino_cli.data.pictures import Decoded, view_pixels
from retino_cli.data.square import Interpolation, cut_square

Box = tuple[int, int, int, int]
CASES: list[tuple[tuple[int, int], Box, int]] = [
    ((300, 200), (0, 0, 300, 200), 96),
    ((300, 200), (21, 13, 290, 200), 96),
    ((200, 300), (5, 31, 180, 300), 96),  # tall
    ((200, 300), (5, 31, 180, 300), 512),  # larger than it was
    ((120, 90), (10, 0, 100, 90), 90),  # of the wanted size already
    ((120, 91), (0, 0, 120, 91), 120),  # only to be padded, and unevenly
]


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _padded(image: Image.Image, box: Box) -> np.ndarray:
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    square = np.zeros((side, side, 3), dtype=np.uint8)
    row, column = (side - height) // 2, (side - width) // 2
    square[row : row + height, column : column + width] = np.asarray(image)[box[1] : box[3], box[0] : box[2]]
    return square


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "box", "wanted"), CASES)
def test_torchs_kernel_gives_what_interpolate_gives(
    size: tuple[int, int], box: Box, wanted: int, interpolation: Interpolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _noise(*size)
    square = _padded(image, box)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(square[None]).permute(0, 3, 1, 2), (wanted, wanted), mode=interpolation, antialias=True
    )
    decoded = Decoded(image, 1, *size)
    cut = cut_square(decoded, box, wanted, interpolation, torch_kernel=True)
    assert np.array_equal(cut, expected[0].permute(1, 2, 0).numpy())
    if interpolation == "bilinear":
        pillows = np.asarray(Image.fromarray(square).resize((wanted, wanted), Image.Resampling.BILINEAR))
        assert np.abs(cut.astype(int) - pillows).max() <= 1
    # A picture whose memory Pillow cannot show has three channels, and the same result.
    monkeypatch.setattr("retino_cli.data.square.view_pixels", np.asarray)
    assert np.array_equal(cut_square(decoded, box, wanted, interpolation, torch_kernel=True), cut)


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_between_pixels_pillow_resizes(interpolation: Interpolation) -> None:
    # At 1/8, the margin of (248 - 184) / 2 = 32 original pixels is whole; that of (248 - 176) / 2 = 36 is not.
    decoded = Decoded(_noise(60, 40), 8, 480, 320)
    for box, whole in (((0, 0, 248, 184), True), ((0, 0, 248, 176), False)):
        both = [cut_square(decoded, box, 24, interpolation, torch_kernel=kernel) for kernel in (True, False)]
        assert np.array_equal(*both) == (interpolation == "lanczos" or not whole)


def test_buffers_of_threads_and_of_earlier_pictures_do_not_show() -> None:
    def cut(case: tuple[tuple[int, int], Box, int]) -> bytes:
        size, box, wanted = case
        return cut_square(Decoded(_noise(*size), 1, *size), box, wanted, "bilinear", torch_kernel=True).tobytes()

    expected = [cut(case) for case in CASES]
    assert [cut(case) for case in reversed(CASES)] == expected[::-1]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(cut, CASES * 20)) == expected * 20


def test_the_view_is_the_picture() -> None:
    for size in ((70, 50), (2900, 1500)):  # more than 16 MB: in pieces
        image = _noise(*size)
        assert np.array_equal(view_pixels(image)[..., :3], np.asarray(image))
    assert view_pixels(_noise(8, 8)).flags.writeable is False
