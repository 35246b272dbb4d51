"""Small pictures as text inside a page: downscaled, encoded anew, and no more bytes than a page may take."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from retino_cli.explain.overlay import colour_heat

Pixels = npt.NDArray[np.uint8]

HEAT_SIZE: Final = 96
"""Side of a heat map in a page, in pixels: it is smooth, and the browser enlarges it."""


class PictureBudget:
    """Turns pictures into data URIs until ``most_bytes`` of text are used up."""

    def __init__(self, most_bytes: int) -> None:
        self.left = most_bytes
        self.shown = 0

    def add(self, uri: str) -> bool:
        """Take the bytes of ``uri``; False, and nothing is taken, where they are not there any more."""
        if len(uri) > self.left:
            return False
        self.left -= len(uri)
        self.shown += 1
        return True


def encode_photograph(pixels: Pixels, *, side: int, quality: int = 80) -> str:
    """A picture (S, S, 3) uint8 as data URI, downscaled to ``side`` where it is larger, as WebP.

    Only pixels go in: what a camera wrote into the original file (place, time, a patient's name) cannot come along.
    """
    image = Image.fromarray(pixels, mode=None)
    if max(image.size) > side:
        image = image.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _to_uri(image, quality=quality)


def encode_heat(heat: npt.NDArray[np.float32]) -> str:
    """A heat map (S, S) in [0, 1] as data URI: colours whose opacity grows with the heat, to lie over a photograph."""
    small = Image.fromarray(np.asarray(heat, dtype=np.float32))
    if max(small.size) > HEAT_SIZE:
        small = small.resize((HEAT_SIZE, HEAT_SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _to_uri(colour_heat(np.asarray(small), opacity=1.0), quality=70)


def _to_uri(image: Image.Image, *, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
