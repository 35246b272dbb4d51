"""A heat map over the photograph that it is of, with a legend."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from retino_cli.preprocess import Crop

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright original (``PreparedPicture.box``)."""

OPACITY: Final = 0.65
"""How much of the photograph the hottest place hides."""

# From little heat to much: (heat, red, green, blue). A retina has hardly any blue, so that blue stands out against it
# for every kind of colour vision; lightness grows steadily, so that the order can be told without colour as well.
# White, at the end, would look pink over orange.
_COLOURS: Final = (
    (0.0, 20, 45, 190),
    (0.5, 20, 130, 255),
    (1.0, 90, 245, 255),
)


def locate_square(box: Box, *, crop: Crop) -> tuple[float, float, float, float]:
    """Where the model's square input lies on the original: left, top, width, height in its pixels.

    With crop "retina" the box was padded evenly to a square of its longer side (``data.square.cut_square``), which may
    reach beyond the photograph; with "none" the box itself was squeezed to a square.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if crop == "none":
        return float(left), float(top), float(width), float(height)
    side = max(width, height)
    return float(left - (side - width) // 2), float(top - (side - height) // 2), float(side), float(side)


def place_heat(
    heat: np.ndarray, box: Box, *, crop: Crop, original: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """A map of the model's input (S, S) in [0, 1], laid over the whole photograph: (h, w) float32 in [0, 1].

    ``original``: width and height of the photograph in pixels, which ``box`` is in; ``size``: (w, h) that are wanted of
    it. Outside of the model's input there is no heat.
    """
    left, top, width, height = locate_square(box, crop=crop)
    columns, rows = heat.shape[1] / width, heat.shape[0] / height  # pixels of the map to one of the original
    across, down = original[0] / size[0], original[1] / size[1]  # pixels of the original to one of the result
    placed = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32)).transform(
        size,
        Image.Transform.AFFINE,
        (across * columns, 0.0, -left * columns, 0.0, down * rows, -top * rows),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(placed)


def colour_heat(heat: np.ndarray, *, opacity: float = OPACITY) -> Image.Image:
    """(h, w) in [0, 1] -> a picture of mode RGBA, to be laid over a photograph: the less heat the more transparent, and
    invisible where there is none. ``opacity``, 0..1, is that of heat 1."""
    stops = np.array(_COLOURS)
    steps = np.linspace(0.0, 1.0, 256)
    table = [np.interp(steps, stops[:, 0], stops[:, channel]) for channel in (1, 2, 3)]
    table.append(255.0 * opacity * steps)
    index = np.rint(np.clip(heat, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(np.stack(table, axis=1).round().astype(np.uint8)[index])


def overlay(
    photograph: Image.Image,
    heat: np.ndarray,
    box: Box | None = None,
    *,
    crop: Crop = "retina",
    original: tuple[int, int] | None = None,
    opacity: float = OPACITY,
) -> Image.Image:
    """The photograph with a heat map over it; mode RGB, of the photograph's size, without any metadata.

    ``photograph``: the whole picture, upright, of any size. ``heat``: (S, S) in [0, 1], of the model's input. ``box``
    and ``crop``: how that was cut out (:class:`~retino_cli.preprocess.PreparedPicture`,
    :class:`~retino_cli.preprocess.PreprocessSpec`), in pixels of the original, whose width and height ``original``
    gives, by default those of ``photograph``. Without ``box``, the whole photograph was taken.
    """
    original = photograph.size if original is None else original
    box = (0, 0, *original) if box is None else box
    placed = place_heat(heat, box, crop=crop, original=original, size=photograph.size)
    base = Image.new("RGB", photograph.size)
    base.paste(photograph.convert("RGB"))
    layer = colour_heat(placed, opacity=opacity)
    base.paste(layer.convert("RGB"), mask=layer.getchannel("A"))
    return base
