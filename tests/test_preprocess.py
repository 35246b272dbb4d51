"""The preprocessing: the spec, the pixels against Pillow, the tail against plain arithmetic."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retino_cli.errors import DataError, UsageError, WeightsError
from retino_cli.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PreparedPicture,
    PreprocessSpec,
    normalise,
    prepare_picture,
    to_float,
)

LAB = PreprocessSpec(crop="none", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def _in_full(path: Path, picture: PreparedPicture, spec: PreprocessSpec) -> np.ndarray:
    """The oracle: decode in full, crop, pad to a square with black, resize with antialias."""
    image = Image.open(path).convert("RGB")
    if spec.crop == "retina":
        left, top, right, bottom = picture.box
        side = max(right - left, bottom - top)
        square = Image.new("RGB", (side, side))
        square.paste(image.crop(picture.box), ((side - right + left) // 2, (side - bottom + top) // 2))
        image = square
    return np.asarray(image.resize((spec.image_size, spec.image_size), FILTERS[spec.interpolation]))


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.fixture
def fundus(tmp_path: Path) -> Path:
    """A 1500x1000 photograph-like JPEG: a shaded disc of diameter 840 with fine structure."""
    y, x = np.mgrid[0:1000, 0:1500].astype(np.float32)
    distance = np.hypot(x - 700, y - 520) / 420
    texture = 12 * np.sin(x / 9) * np.cos(y / 13)
    field = (1 - 0.4 * distance**2)[..., None] * np.array([200, 100, 40]) + texture[..., None]
    pixels = np.where(distance[..., None] <= 1, field, 3)
    path = tmp_path / "fundus.jpg"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=92)
    return path


def test_spec_round_trip() -> None:
    for spec in (PreprocessSpec(), LAB, PreprocessSpec(512, interpolation="lanczos", mean=(0.1, 0.2, 0.3))):
        assert PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_hashes() -> None:
    spec = PreprocessSpec()
    # Written into checkpoints and cache folders: these may change with `version` only.
    assert spec.hash == "fbb70b18544d"
    assert spec.geometry_hash == "8c61f157f0e1"
    old = PreprocessSpec(version=1)
    assert (old.hash, old.geometry_hash) == ("9bc94db41342", "730b684d4d0d")
    changes: list[dict[str, object]] = [
        {"image_size": 225},
        {"crop": "none"},
        {"interpolation": "bicubic"},
        {"mean": (0.0, 0.0, 0.0)},
        {"std": (1.0, 1.0, 1.0)},
    ]
    changed = [dataclasses.replace(spec, **change) for change in changes]
    assert len({spec.hash, *(other.hash for other in changed)}) == 6
    assert [other.geometry_hash == spec.geometry_hash for other in changed] == [False, False, False, True, True]
    assert PreprocessSpec(mean=(0, 0, 0), std=(1, 1, 1), crop="none").hash == LAB.hash


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_size": 7}, "8 to 4096"),
        ({"image_size": 5000}, "8 to 4096"),
        ({"image_size": 224.0}, "whole number"),
        ({"crop": "centre"}, "retina, none"),
        ({"interpolation": "nearest"}, "bilinear, bicubic, lanczos"),
        ({"mean": (0.5, 0.5)}, "three"),
        ({"mean": (0.5, 0.5, float("nan"))}, "finite"),
        ({"std": (1.0, 0.0, 1.0)}, "greater than 0"),
    ],
)
def test_spec_refuses(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PreprocessSpec(**fields)
    with pytest.raises(WeightsError, match=reason):
        PreprocessSpec.from_dict(PreprocessSpec().to_dict() | fields)


def test_spec_from_elsewhere() -> None:
    fields = PreprocessSpec().to_dict()
    with pytest.raises(WeightsError, match="unknown clahe"):
        PreprocessSpec.from_dict(fields | {"clahe": True})
    for version in (0, 3, True, "1", None):
        with pytest.raises(WeightsError, match=f"version {version!r}; this retino applies versions 1 to 2"):
            PreprocessSpec.from_dict(fields | {"version": version})
    assert PreprocessSpec.from_dict(fields | {"version": 1}) == PreprocessSpec(version=1)
    del fields["std"]
    with pytest.raises(WeightsError, match="missing std"):
        PreprocessSpec.from_dict(fields)
    with pytest.raises(WeightsError, match="cannot be applied"):
        PreprocessSpec.from_dict(fields | {"std": None})


@pytest.mark.parametrize("interpolation", list(FILTERS))
@pytest.mark.parametrize("size", [64, 100, 224, 512])
@pytest.mark.parametrize("crop", ["retina", "none"])
def test_pixels_equal_a_full_decode(fundus: Path, crop: str, size: int, interpolation: str) -> None:
    spec = PreprocessSpec(size, crop=crop, interpolation=interpolation)
    picture = prepare_picture(str(fundus), spec)
    assert picture.pixels.shape == (size, size, 3)
    assert picture.pixels.dtype == np.uint8
    assert (picture.width, picture.height, picture.fallback) == (1500, 1000, False)
    expected = (0, 0, 1500, 1000) if crop == "none" else (280, 100, 1120, 940)
    assert np.abs(np.subtract(picture.box, expected)).max() <= 8
    assert _difference(picture.pixels, _in_full(fundus, picture, spec)) < 1


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (301, 500), (500, 301), (100, 101)])
def test_without_jpeg_scaling_the_pixels_are_pillows(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(80, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    for size in (50, 96, 600):
        spec = PreprocessSpec(size)
        picture = prepare_picture(str(path), spec)
        assert picture.box == (0, 0, shape[1], shape[0])
        expected = _in_full(path, picture, spec)
        assert np.abs(picture.pixels.astype(int) - expected).max() <= 1  # torch's kernel rounds otherwise
        first = prepare_picture(str(path), dataclasses.replace(spec, version=1)).pixels.astype(int)
        # A tall picture is rounded between the two passes in the other order.
        assert np.abs(first - expected).max() <= (0 if shape[1] >= shape[0] else 1)
        plain = dataclasses.replace(spec, crop="none")
        exact = np.asarray(Image.open(path).resize((size, size), Image.Resampling.BILINEAR))
        assert np.array_equal(prepare_picture(str(path), plain).pixels, exact)


def test_padding_is_black_and_even(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for width, height in ((400, 200), (200, 400)):
        pixels = np.random.default_rng(0).integers(80, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        prepared = prepare_picture(str(path), PreprocessSpec(100)).pixels
        upright = prepared if width > height else prepared.transpose(1, 0, 2)
        assert not upright[:24].any()
        assert not upright[-24:].any()
        assert (upright[26:74] > 50).all()


def test_a_picture_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    np.savez(path, test_images=images)
    for row in range(2):
        picture = prepare_picture(f"{path}#test/{row}", PreprocessSpec(28))
        assert np.array_equal(picture.pixels, images[row])
        assert not picture.fallback


def test_a_few_pixels_are_no_photograph(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for size in ((1, 1), (7, 300), (300, 7)):
        Image.new("RGB", size, (10, 20, 30)).save(path)
        with pytest.raises(DataError, match=rf"a\.png: has only {size[0]}x{size[1]} pixels"):
            prepare_picture(str(path), PreprocessSpec(32))
    Image.new("RGB", (8, 8), (10, 20, 30)).save(path)
    picture = prepare_picture(str(path), PreprocessSpec(32))
    assert (picture.pixels == (10, 20, 30)).all()
    assert picture.box == (0, 0, 8, 8)


def test_a_small_field_is_decoded_finer(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    y, x = np.mgrid[0:2000, 0:3000]
    disc = np.hypot(x - 1500, y - 1000) < 300
    checks = np.where((x // 4 + y // 4) % 2, 220, 120)
    Image.fromarray(np.where(disc, checks, 0).astype(np.uint8)).save(path, quality=95)
    spec = PreprocessSpec(224)
    picture = prepare_picture(str(path), spec)
    assert picture.box[2] - picture.box[0] == pytest.approx(600, abs=12)
    # At 1/4, which the frame's size alone would allow, the checks would be gone.
    assert _difference(picture.pixels, _in_full(path, picture, spec)) < 3
    assert picture.pixels[100:124, 100:124].std() > 10


def test_digest_is_of_the_picture(tmp_path: Path, fundus: Path) -> None:
    spec = PreprocessSpec(64)
    digest = prepare_picture(str(fundus), spec).sha256
    copy = tmp_path / "copy.jpeg"
    copy.write_bytes(fundus.read_bytes() + b"trailing")  # another file, the same picture
    assert prepare_picture(str(copy), spec).sha256 == digest
    pixels = np.asarray(Image.open(fundus)).copy()
    pixels[500:520, 700:720] = 255
    Image.fromarray(pixels).save(copy, quality=92)
    assert prepare_picture(str(copy), spec).sha256 != digest
    black = {}
    for size in ((100, 100), (200, 200)):
        Image.new("RGB", size).save(tmp_path / "black.png")
        black[size] = prepare_picture(str(tmp_path / "black.png"), spec)
        assert black[size].fallback
    assert len({picture.sha256 for picture in black.values()}) == 2


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jpg: no such file"):
        prepare_picture(str(tmp_path / "absent.jpg"), PreprocessSpec())


def test_tail_equals_torchvisions() -> None:
    from torchvision.transforms import functional as F

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    expected = torch.stack([F.to_tensor(picture) for picture in pictures])
    floats = to_float(batch)
    assert floats.dtype == torch.float32
    assert torch.equal(floats, expected)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    normalised = normalise(floats, PreprocessSpec())
    assert torch.equal(normalised, F.normalize(expected, list(IMAGENET_MEAN), list(IMAGENET_STD)))
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert normalise(floats, LAB) is floats
    assert torch.equal(floats, expected)  # the input is left alone
    assert normalise(floats.bfloat16(), PreprocessSpec()).dtype == torch.bfloat16


def test_torch_is_not_imported() -> None:
    code = "import sys, retino_cli.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
@pytest.mark.parametrize("size", [224, 512])
def test_real_photographs_equal_a_full_decode(real_data: Path, size: int) -> None:
    paths = sorted((real_data / "idrid").rglob("*.jpg"))[40::90]
    assert len(paths) == 6
    for path in paths:
        for crop in ("retina", "none"):
            spec = PreprocessSpec(size, crop=crop)
            picture = prepare_picture(str(path), spec)
            assert (picture.width, picture.height) == (4288, 2848)
            assert _difference(picture.pixels, _in_full(path, picture, spec)) < 0.5
