"""Cut a box out of a decoded picture, centre it on a black square, resize.

Two ways that agree within rounding (1 level of 255). Pillow's takes boxes that end between two pixels of a scaled
picture. Torch's kernel for uint8 is several times as fast on x86 processors; it computes in whole numbers, with the
same result with and without vector instructions, and in the calling thread alone.
"""

from __future__ import annotations

import math
import threading
from typing import Final, Literal

import numpy as np
from PIL import Image

from retino_cli.data.pictures import Decoded, view_pixels

Interpolation = Literal["bilinear", "bicubic", "lanczos"]

FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def cut_square(
    decoded: Decoded, box: tuple[int, int, int, int], size: int, interpolation: Interpolation, *, torch_kernel: bool
) -> np.ndarray:
    """Return (S, S, 3) uint8: ``box`` (left, top, right, bottom in original pixels), padded evenly with black to a
    square of its longer side, and resized to ``size`` = S with antialias.

    ``torch_kernel``: use torch's kernel where the square begins and ends on whole pixels of ``decoded.image``, and the
    filter is bilinear or bicubic. Otherwise, and in all other cases, Pillow resizes.
    """
    left, top, right, bottom = (edge / decoded.scale for edge in box)
    # Whole in original pixels, but not always in the scaled picture's.
    margin = abs((box[2] - box[0]) - (box[3] - box[1])) // 2 / decoded.scale
    side = max(right - left, bottom - top)
    whole = all(length.is_integer() for length in (left, top, margin, side))
    if torch_kernel and whole and interpolation != "lanczos":
        inner = (int(left), int(top), math.ceil(right), math.ceil(bottom))
        return _with_torch(decoded.image, inner, int(side), int(margin), size, interpolation)
    return np.asarray(_with_pillow(decoded.image, (left, top, right, bottom), margin, size, FILTERS[interpolation]))


def _with_torch(
    image: Image.Image, box: tuple[int, int, int, int], side: int, margin: int, size: int, interpolation: Interpolation
) -> np.ndarray:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    pixels = view_pixels(image)
    channels = pixels.shape[2]
    column, row = (0, margin) if width >= height else (margin, 0)
    # (h, side), then (h, S) in its place in (side, S), then (S, S).
    strip = _reuse("strip", (height, side, channels))
    strip[:, :column] = 0
    strip[:, column : column + width] = pixels[top:bottom, left:right]
    strip[:, column + width :] = 0
    canvas = _reuse("canvas", (side, size, channels))
    canvas[:row] = 0
    _resize(strip, canvas[row : row + height], interpolation)
    canvas[row + height :] = 0
    square = _reuse("square", (size, size, channels))
    _resize(canvas, square, interpolation)
    if channels == 3:
        return square.copy()
    packed = Image.frombuffer("RGBX", (size, size), square, "raw", "RGBX", 0, 1).tobytes("raw", "RGB")
    return np.frombuffer(packed, dtype=np.uint8).reshape(size, size, 3)


def _resize(source: np.ndarray, target: np.ndarray, interpolation: Interpolation) -> None:
    """Resize (H, W, C) to the shape (H', W', C) of ``target``, both contiguous."""
    import torch

    kernels = {"bilinear": torch.ops.aten._upsample_bilinear2d_aa, "bicubic": torch.ops.aten._upsample_bicubic2d_aa}
    # What torch.nn.functional.interpolate calls; that one would lay the channels out one behind the other.
    before, after = (torch.from_numpy(pixels[None]).permute(0, 3, 1, 2) for pixels in (source, target))
    kernels[interpolation].out(before, list(target.shape[:2]), False, None, None, out=after)


_MOST_KEPT: Final = 16 << 20
"""Bytes of a buffer: enough for JPEGs decoded at a smaller scale, and little beside what a decoder takes."""


class _Buffers(threading.local):
    """Of each thread, kept from picture to picture: fresh memory would cost as much as what is done in it."""

    def __init__(self) -> None:
        self.flat: dict[str, np.ndarray] = {}


_buffers: Final = _Buffers()


def _reuse(name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """An array with whatever it held before."""
    count = math.prod(shape)
    if count > _MOST_KEPT:
        return np.empty(shape, dtype=np.uint8)
    flat = _buffers.flat.get(name)
    if flat is None or len(flat) < count:
        flat = _buffers.flat[name] = np.empty(count, dtype=np.uint8)
    return flat[:count].reshape(shape)


def _with_pillow(
    image: Image.Image, box: tuple[float, float, float, float], margin: float, size: int, resample: Image.Resampling
) -> Image.Image:
    """The longer side is resized before the padding, the other one after it: the same picture as padding first, and a
    third of the work less."""
    left, top, right, bottom = box
    inner = (int(left), int(top), math.ceil(right), math.ceil(bottom))
    crop = image.crop(inner)
    # Paste on a whole pixel, and let the resize, which takes fractions, cut the exact square out.
    if right - left >= bottom - top:
        side = right - left
        strip = crop.resize((size, crop.height), resample, box=(left - inner[0], 0, right - inner[0], crop.height))
        start = top - margin
        canvas = Image.new("RGB", (size, math.ceil(start % 1 + side)))
        canvas.paste(strip, (0, inner[1] - math.floor(start)))
        return canvas.resize((size, size), resample, box=(0, start % 1, size, start % 1 + side))
    side = bottom - top
    strip = crop.resize((crop.width, size), resample, box=(0, top - inner[1], crop.width, bottom - inner[1]))
    start = left - margin
    canvas = Image.new("RGB", (math.ceil(start % 1 + side), size))
    canvas.paste(strip, (inner[0] - math.floor(start), 0))
    return canvas.resize((size, size), resample, box=(start % 1, 0, start % 1 + side, size))
