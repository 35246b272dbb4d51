"""Pictures in a page: small, without metadata, within the bytes."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from retino_cli.report.pictures import HEAT_SIZE, PictureBudget, encode_heat, encode_photograph


def opened(uri: str) -> Image.Image:
    kind, _, body = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body, validate=True)))


def test_a_photograph_is_downscaled_and_looks_the_same() -> None:
    pixels = np.zeros((200, 200, 3), dtype=np.uint8)
    pixels[:, :100] = (200, 90, 30)
    image = opened(encode_photograph(pixels, side=96))
    assert image.size == (96, 96)
    small = np.asarray(image.convert("RGB"), dtype=int)
    assert np.abs(small[:, :40].mean(axis=(0, 1)) - (200, 90, 30)).max() < 8
    assert small[:, 60:].mean() < 8
    assert opened(encode_photograph(pixels[:28, :28], side=96)).size == (28, 28)  # never enlarged


def test_nothing_but_pixels_goes_in() -> None:
    image = opened(encode_photograph(np.zeros((64, 64, 3), dtype=np.uint8), side=64))
    assert not image.getexif()
    assert not {"exif", "xmp", "icc_profile"} & image.info.keys()


def test_heat_is_opaque_where_it_is_hot_and_nothing_where_there_is_none() -> None:
    heat = np.zeros((224, 224), dtype=np.float32)
    heat[:112, :112] = 1.0
    image = opened(encode_heat(heat))
    assert image.mode == "RGBA"
    assert image.size == (HEAT_SIZE, HEAT_SIZE)
    alpha = np.asarray(image)[..., 3]
    assert alpha[10, 10] > 220
    assert alpha[80, 80] < 10


def test_a_budget_is_never_exceeded() -> None:
    budget = PictureBudget(100)
    taken = [uri for uri in ("a" * 60, "b" * 60, "c" * 40) if budget.add(uri)]
    assert [uri[0] for uri in taken] == ["a", "c"]
    assert (budget.left, budget.shown) == (0, 2)
