"""Reading pictures: every kind of file gives upright 8-bit RGB, or an error that names it."""

from __future__ import annotations

import io
import os
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retino_cli.data.pictures import decode, picture_size, split_source
from retino_cli.errors import DataError


def _in_full(width: int, height: int) -> int:
    return 1


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(decode(str(path), _in_full).image)


@pytest.fixture
def photo() -> np.ndarray:
    """(120, 160, 3) uint8 with a different gradient in each channel."""
    y, x = np.mgrid[0:120, 0:160]
    return np.stack([x * 255 // 159, y * 255 // 119, (x + y) * 255 // 278], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(_pixels(path), photo)
    assert picture_size(str(path)) == (160, 120)


def test_modes(tmp_path: Path, photo: np.ndarray) -> None:
    grey = photo[:, :, 0]
    three = np.repeat(grey[:, :, None], 3, axis=2)
    path = tmp_path / "a.png"
    Image.fromarray(grey).save(path)
    assert np.array_equal(_pixels(path), three)
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)  # 16 bits over their full range
    assert np.array_equal(_pixels(path), three)
    Image.fromarray(photo).quantize(16).save(path)
    assert np.array_equal(_pixels(path), np.asarray(Image.open(path).convert("RGB")))
    Image.fromarray(grey > 100).save(path)
    assert np.array_equal(_pixels(path), np.where(three > 100, 255, 0))
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.array_equal(_pixels(tmp_path / "cmyk.tif"), photo)
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif.*32-bit floating-point"):
        _pixels(tmp_path / "float.tif")


def test_cmyk_jpeg_has_the_right_colours(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(photo).convert("CMYK").save(path, quality=95)
    assert np.abs(_pixels(path).astype(int) - photo).mean() < 3


def test_transparent_becomes_black(tmp_path: Path, photo: np.ndarray) -> None:
    alpha = np.zeros((120, 160), dtype=np.uint8)
    alpha[:, 80:] = 255
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([photo, alpha])).save(path)
    pixels = _pixels(path)
    assert not pixels[:, :80].any()
    assert np.array_equal(pixels[:, 80:], photo[:, 80:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_orientation_is_honoured_as_pillow_does(
    tmp_path: Path, photo: np.ndarray, orientation: int, suffix: str
) -> None:
    from PIL import ImageOps

    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(path, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    decoded = decode(str(path), _in_full)
    assert np.array_equal(np.asarray(decoded.image), np.asarray(expected))
    assert (decoded.width, decoded.height) == picture_size(str(path)) == expected.size


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(640, 480), (641, 477), (1, 1), (7, 900)])
def test_jpeg_scales(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = tmp_path / "a.jpg"
    ramp = Image.linear_gradient("L").resize(size)
    ramp.convert(mode).save(path, quality=95, **({"exif": _turned()} if mode == "RGB" else {}))
    width, height = size[::-1] if mode == "RGB" else size
    for wanted in (1, 2, 4, 8):
        decoded = decode(str(path), lambda w, h, wanted=wanted: wanted)
        assert (decoded.width, decoded.height) == (width, height)
        assert decoded.scale <= wanted
        assert decoded.scale == wanted or min(size) < 8
        assert decoded.image.size == (-(-width // decoded.scale), -(-height // decoded.scale))
        assert decoded.image.mode == "RGB"
    png = path.with_suffix(".png")
    ramp.save(png)
    assert decode(str(png), lambda w, h: 8).scale == 1


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _jpeg(photo: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).resize((640, 480)).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("scale", [1, 8])
def test_cut_jpeg_is_refused(tmp_path: Path, photo: np.ndarray, progressive: bool, kept: float, scale: int) -> None:
    data = _jpeg(photo, progressive=progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        decode(str(path), lambda w, h: scale)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("scale", [1, 4, 8])
def test_cut_jpeg_with_an_end_mark_is_refused(tmp_path: Path, photo: np.ndarray, kept: float, scale: int) -> None:
    data = _jpeg(photo)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(kept * len(data))] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"cut\.jpg: .*lower end is missing"):
        decode(str(path), lambda w, h: scale)


def test_a_grey_surround_is_no_missing_end(tmp_path: Path) -> None:
    # Photographs after local contrast normalisation lie on mid-grey.
    pixels = np.full((480, 640, 3), 128, dtype=np.uint8)
    pixels[100:300, 200:400] = (200, 120, 60)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert tuple(_pixels(tmp_path / "a.jpg")[-1, -1]) == (128, 128, 128)


def test_what_is_no_picture(tmp_path: Path, photo: np.ndarray) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("image,level\n1_left,0\n" * 50)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    cut = tmp_path / "cut.png"
    Image.fromarray(photo).save(cut)
    cut.write_bytes(cut.read_bytes()[:300])
    vector = tmp_path / "drawing.jpg"
    vector.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    for path, reason in (
        (text, "not a picture"),
        (empty, "empty"),
        (folder, "not a file but a folder"),
        (pipe, "not a file but a named pipe"),
        (cut, "cannot be read"),
        (vector, "not a picture"),
        (tmp_path / "absent.jpg", "no such file"),
        (text / "below.jpg", "cannot be read"),
        (tmp_path / "nul\0.jpg", "cannot be read"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            decode(str(path), _in_full)
        assert caught.value.message.startswith(f"{path}: ")
        if path != cut:
            with pytest.raises(DataError, match=reason):
                picture_size(str(path))


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 characters only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        with pytest.raises(DataError, match="a socket"):
            decode("s.jpg", _in_full)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    path.chmod(0)
    with pytest.raises(DataError, match=r"a\.png: no permission"):
        decode(str(path), _in_full)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # Pillow refuses twice as many
    with pytest.raises(DataError, match=r"bomb\.png: has far more pixels than a photograph"):
        decode(str(path), _in_full)


def test_npz_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    colour = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    np.savez(path, train_images=colour, test_images=colour[..., 0], val_images=colour.astype(np.float32))
    decoded = decode(f"{path}#train/2", _in_full)
    assert np.array_equal(np.asarray(decoded.image), colour[2])
    assert (decoded.width, decoded.height, decoded.scale) == (4, 5, 1)
    assert picture_size(f"{path}#train/2") == (4, 5)
    assert np.array_equal(np.asarray(decode(f"{path}#test/1", _in_full).image), colour[1, :, :, :1].repeat(3, axis=2))
    for member, reason in (
        ("train/3", "only 3 rows"),
        ("extra/0", "no array extra_images; there are test_images, train_images, val_images"),
        ("val/0", "float32"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            decode(f"{path}#{member}", _in_full)
        assert caught.value.message.startswith(f"{path}#{member}: ")
    # Another file in the same place is not answered from memory.
    np.savez(path, train_images=255 - colour[:2])
    assert np.array_equal(np.asarray(decode(f"{path}#train/1", _in_full).image), 255 - colour[1])
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match="cannot be read"):
        decode(f"{path}#train/1", _in_full)


def test_npz_does_not_unpickle(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        decode(f"{path}#train/0", _in_full)


def test_split_source() -> None:
    assert split_source("/d/a.npz#train/12") == ("/d/a.npz", "train", 12)
    for plain in ("/d/a.jpg", "/d/a#b/1.jpg", "a.npz", "a.npz#train/x", "a.npz#train/1.jpg"):
        assert split_source(plain) == (plain, "", 0)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever bytes are overwritten or cut: pixels of the announced size, or a DataError that names the file."""
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]))
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        try:
            decoded = decode(str(path), lambda w, h: 2)
        except DataError as error:
            refusal = error.message
        else:
            refusal = ""
            assert decoded.image.mode == "RGB"
            assert decoded.image.size == (-(-decoded.width // decoded.scale), -(-decoded.height // decoded.scale))
    assert not refusal or refusal.startswith(str(path))
