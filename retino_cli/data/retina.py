"""Find the round field of a fundus photograph in its dark surround."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from retino_cli.data.pictures import Decoded, view_pixels

# The search works on a picture of at most this many pixels along its longer side: quick, deaf to fine noise, and the
# same whatever scale was decoded. Its grid (8 pixels of a 4288x2848 photograph) is the precision of the box.
_SEARCH_SIZE: Final = 640

# Frames up to this size were cropped and shrunk by the makers of their data set: they have no margin to spare, and
# cutting one pixel off would blur all others.
_SMALLEST_FRAME: Final = 64

# The edge lies where the light has risen by this share from the surround (2nd percentile) to the field's bright parts
# (97th percentile). On IDRiD, 0.10 to 0.20 give the same box to 1 % of its width; 0.05 lets stray light in.
_EDGE: Final = 0.15
_FIELD_PERCENTILE: Final = 0.97
_SURROUND_PERCENTILE: Final = 0.02

# Less light than this between surround and field (of 255) is noise: nothing was photographed.
_LEAST_CONTRAST: Final = 10

# A surround brighter than this share of the field is no surround: the field fills the frame.
_BRIGHTEST_SURROUND: Final = 0.35

# A row or column belongs to the field where it has at least this share of the pixels of the fullest one. On a disc this
# costs 0.04 % of the diameter, and it keeps out text and markers that are lower than this.
_LEAST_CHORD: Final = 0.04

# Rows of the search's picture that are computed at a time: they stay in the processor's cache.
_BLOCK: Final = 90


def find_field(decoded: Decoded) -> tuple[tuple[int, int, int, int], bool]:
    """Return (box, fallback): left, top, right, bottom of the field in original pixels, right and bottom exclusive.

    The brightest channel of each pixel is compared with a threshold between the surround and the field; then the run of
    rows and the run of columns with the most light are taken, so that text and markers beside the field do not count.

    A picture without a surround (cropped already, or the field fills the frame) is kept whole; that is no fall-back.
    Where no field can be told (nearly black, evenly coloured, or only a shape that no field has), the whole frame is
    kept, and ``fallback`` is true.
    """
    width, height = decoded.width, decoded.height
    whole = (0, 0, width, height)
    if max(width, height) <= _SMALLEST_FRAME:
        return whole, False
    grid = decoded.scale
    while max(width, height) > _SEARCH_SIZE * grid:
        grid *= 2
    light = _brightest_channel(decoded.image, grid // decoded.scale)
    surround, field = _levels(light)
    if field - surround < _LEAST_CONTRAST:
        return whole, True
    if surround > _BRIGHTEST_SURROUND * field:
        return whole, False
    bright = (light > _threshold(surround, field)).view(np.uint8)
    left, right = _fullest_run(bright.sum(axis=0, dtype=np.int32))
    top, bottom = _fullest_run(bright[:, left:right].sum(axis=1, dtype=np.int32))
    # Text above or below the field has widened the run of columns only where it was in the field's rows, too.
    left, right = _fullest_run(bright[top:bottom].sum(axis=0, dtype=np.int32))
    shorter, longer = sorted((right - left, bottom - top))
    if longer > 3 * shorter or 4 * longer < min(light.shape):
        return whole, True
    return (left * grid, top * grid, min(width, right * grid), min(height, bottom * grid)), False


def mask_field(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, cropped or not -> (H, W) bool: true in the field, also where it is dark in there.

    The threshold is that of :func:`find_field`; true is what lies between bright pixels both in its row and in its
    column. True everywhere where there is no surround, or no field can be told.
    """
    light = _largest(pixels)
    surround, field = _levels(light)
    if field - surround < _LEAST_CONTRAST or surround > _BRIGHTEST_SURROUND * field:
        return np.ones(light.shape, dtype=bool)
    bright = light > _threshold(surround, field)
    field_mask: np.ndarray = _fill_between(bright, axis=0) & _fill_between(bright, axis=1)
    return field_mask


def _fill_between(bright: np.ndarray, *, axis: int) -> np.ndarray:
    """True from the first to the last true value along ``axis``."""
    after_first = np.logical_or.accumulate(bright, axis=axis)
    before_last = np.flip(np.logical_or.accumulate(np.flip(bright, axis), axis=axis), axis)
    filled: np.ndarray = after_first & before_last
    return filled


def _levels(light: np.ndarray) -> tuple[int, int]:
    """How bright the surround and the field are, 0..255, if there are both."""
    histogram = np.cumsum(Image.fromarray(light).histogram()) / light.size
    return int(np.searchsorted(histogram, _SURROUND_PERCENTILE)), int(np.searchsorted(histogram, _FIELD_PERCENTILE))


def _threshold(surround: int, field: int) -> int:
    return surround + max(3, int(_EDGE * (field - surround)))


def _brightest_channel(image: Image.Image, factor: int) -> np.ndarray:
    """(h, w) uint8, the largest of R, G, B, after averaging blocks of factor x factor: the field is dark in blue, often
    in green."""
    pixels = view_pixels(image) if factor <= 2 else np.empty(0)
    if factor == 2 and pixels.shape[2] == 4 and image.width % 2 == image.height % 2 == 0:
        # What Image.reduce does, in less time: four sums of 16 bits are added as one number of 64 bits.
        light = np.empty((image.height // 2, image.width // 2), dtype=np.uint8)
        for start in range(0, len(light), _BLOCK):
            block = pixels[2 * start : 2 * (start + _BLOCK)]
            rows = np.add(block[::2], block[1::2], dtype=np.uint16).view(np.uint64)[..., 0]
            sums = (rows[:, ::2] + rows[:, 1::2]).view(np.uint16).reshape(len(rows), -1, 4)
            np.right_shift(_largest(sums) + 2, 2, out=light[start : start + _BLOCK], casting="unsafe")
        return light
    return _largest(pixels if factor == 1 else np.asarray(image.reduce(factor)))


def _largest(pixels: np.ndarray) -> np.ndarray:
    largest: np.ndarray = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return largest


def _fullest_run(counts: np.ndarray) -> tuple[int, int]:
    """The run of rows or columns (start, end exclusive) that together have the most bright pixels."""
    filled = np.flatnonzero(counts >= max(1.0, _LEAST_CHORD * counts.max()))
    gap = 1 + len(counts) // 100  # a dark line across the picture does not split the field
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > gap) + 1)
    fullest = max(runs, key=lambda run: int(counts[run].sum()))
    return int(fullest[0]), int(fullest[-1]) + 1
