"""Read one picture from a file, from memory or from an array of an ``.npz``: upright, RGB, 8 bits, whole or not at all.

JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where the caller can do with less: the decoder then skips most of its
work. Colour profiles are not applied: graders are trained on the numbers in the file, here and elsewhere.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from retino_cli.errors import DataError

# Only formats that photographs come in: Pillow would otherwise also hand a stray file to Ghostscript (EPS).
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

_NPZ_MEMBER: Final = re.compile(r"^(?P<file>.+\.npz)#(?P<split>\w+)/(?P<row>\d+)$", re.DOTALL)
_ORIENTATION_TAG: Final = 0x0112
# How to turn a picture upright, by its EXIF orientation (Exif 2.32, 4.6.4 A); 1 is upright already.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class EncodedPicture:
    """A picture file that is in memory, as a server gets it: ``content`` is the file's, ``name`` is for messages."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Decoded:
    """A picture in memory.

    ``image``: upright, mode RGB, of size (ceil(width / scale), ceil(height / scale)).
    ``scale``: 1, 2, 4 or 8: how many pixels of the original make one of ``image``, along each side.
    ``width``, ``height``: of the original, upright, in pixels.
    """

    image: Image.Image
    scale: int
    width: int
    height: int


def view_pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 4) uint8, read-only: the RGB picture's own memory (red, green, blue, anything), where Pillow can show it;
    else a copy (H, W, 3)."""
    import pyarrow

    try:
        array = pyarrow.array(image)
    except (TypeError, ValueError):
        # Pillow before 11.3, or a picture of more than 16 MB, which Pillow keeps in several pieces.
        return np.asarray(image)
    pixels: np.ndarray = array.values.to_numpy(zero_copy_only=True)
    return pixels.reshape(image.height, image.width, 4)


def split_source(source: str) -> tuple[str, str, int]:
    """ "FILE.npz#train/12" -> ("FILE.npz", "train", 12); any other source -> (source, "", 0)."""
    match = _NPZ_MEMBER.match(source)
    return (match["file"], match["split"], int(match["row"])) if match else (source, "", 0)


def decode(source: str | EncodedPicture, choose_scale: Callable[[int, int], int]) -> Decoded:
    """Decode ``source``: the path of a picture, "FILE.npz#train/12" for row 12 of its array ``train_images``, or a
    picture in memory.

    ``choose_scale`` takes the upright width and height of the original and returns the wanted scale (1, 2, 4, 8). JPEGs
    are decoded at this scale or, where they are too small for it, at a finer one; everything else at 1.

    The EXIF orientation is honoured, so that the picture, and every position found in it, is as a viewer shows it.
    Transparent parts become black; 16-bit grey is scaled to 8 bits by its full range.

    Raises ``DataError`` naming the file: missing, not a file, not a picture, too large, damaged or cut short.
    """
    if isinstance(source, EncodedPicture):
        with _naming(source.name):
            if not source.content:
                raise ValueError("there is nothing in it (0 bytes)")
            return _decode_file(io.BytesIO(source.content), choose_scale)
    path, split, row = split_source(source)
    with _naming(source):
        status = _regular_file(path)
        return _decode_row(path, split, row, status) if split else _decode_file(path, choose_scale)


def picture_size(source: str) -> tuple[int, int]:
    """Upright width and height in pixels, from the file's header. Raises ``DataError`` like :func:`decode`."""
    path, split, row = split_source(source)
    with _naming(source):
        status = _regular_file(path)
        if split:
            image = _decode_row(path, split, row, status).image
            return image.width, image.height
        with Image.open(path, formats=FORMATS) as header:
            return _upright_size(header)


def _regular_file(path: str) -> os.stat_result:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
        raise ValueError(f"not a file but a {_kind(status.st_mode)}")
    if status.st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    return status


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Turn whatever goes wrong with a picture into ``DataError("SOURCE: what is wrong")``."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not a picture ({', '.join(FORMATS)} can be read)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{source}: has far more pixels than a photograph ({error})") from error
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file") from error
    except PermissionError as error:
        raise DataError(f"{source}: no permission to read it") from error
    except Exception as error:  # damaged files come out of the decoders as errors of many kinds
        raise DataError(f"{source}: cannot be read: {error or type(error).__name__}") from error


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
    return next((name for test, name in kinds if test(mode)), "device")


def _decode_file(file: str | IO[bytes], choose_scale: Callable[[int, int], int]) -> Decoded:
    with Image.open(file, formats=FORMATS) as image:
        orientation = _orientation(image)
        width, height = _upright_size(image)
        scale = 1
        wanted = choose_scale(width, height)
        if wanted > 1:
            # Only JPEG listens: it takes the coarsest scale that leaves at least this many pixels.
            stored_width = image.width
            drafted = image.draft(None, (max(1, image.width // wanted), max(1, image.height // wanted)))
            scale = round(stored_width / drafted[1][2]) if drafted else 1
        image.load()
        if _is_half(image):
            raise ValueError("cut short, its lower end is missing")
        rgb = _to_rgb(image)
    upright = rgb.transpose(_TURNS[orientation]) if orientation in _TURNS else rgb
    return Decoded(upright, scale, width, height)


def _orientation(image: Image.Image) -> int:
    # Pillow turns TIFFs upright by itself, and announces their turned size.
    orientation: int = image.getexif().get(_ORIENTATION_TAG, 1) if image.format != "TIFF" else 1
    return orientation


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return (image.height, image.width) if _orientation(image) in (5, 6, 7, 8) else image.size


def _is_half(image: Image.Image) -> bool:
    """Whether a JPEG lacks its lower end although the file has an end mark.

    Where entropy-coded data is missing, libjpeg goes on with mid-grey (128, 128, 128) to the last row, and warns only
    where Pillow does not listen. A picture that is grey there by intention (a grey surround) is grey at the top, too.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or min(image.size) < 4:
        return False
    grey = (128, 128, 128) if image.mode == "RGB" else 128
    right, bottom = image.width - 1, image.height - 1
    lower_end = {image.getpixel((right, bottom)), image.getpixel((right - 1, bottom))}
    return lower_end == {grey} and grey not in (image.getpixel((0, 0)), image.getpixel((right, 0)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise ValueError("32-bit floating-point pixels have no known range")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ValueError("32-bit pixels have no known range")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _decode_row(path: str, split: str, row: int, status: os.stat_result) -> Decoded:
    # One thread reads the array, the others wait for it instead of reading it, too.
    with _npz_guard:
        images = _npz_array(path, f"{split}_images", status.st_mtime_ns, status.st_size)
    if row >= len(images):
        raise ValueError(f"{split}_images has only {len(images)} rows")
    image = Image.fromarray(np.ascontiguousarray(images[row])).convert("RGB")
    return Decoded(image, 1, image.width, image.height)


_npz_guard: Final = threading.Lock()


@lru_cache(maxsize=2)
def _npz_array(path: str, member: str, mtime_ns: int, size: int) -> np.ndarray:
    """The array, kept in memory: an ``.npz`` has no cheaper way to one row. Time and size notice a new file."""
    # Opened here, because np.load leaves a file open that turns out to be no zip archive.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        if member not in arrays:
            raise ValueError(f"no array {member}; there are {', '.join(sorted(arrays)) or 'none'}")
        images: np.ndarray = arrays[member]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(f"{member} is {images.dtype} {images.shape}, not uint8 (N, H, W) or (N, H, W, 3)")
    return images
