"""The strip below a heat map: what was predicted, and what the colours say."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retino_cli.explain.overlay import colour_heat
from retino_cli.grades import GRADE_NAMES, GRADES, REFERABLE_GRADE

LEAST_WIDTH: Final = 320
"""Pixels that the text needs."""

_BACKGROUND: Final = (16, 16, 18)
_TEXT: Final = (235, 235, 235)
_BAR: Final = (150, 150, 155)
_PREDICTED: Final = (110, 225, 255)


def describe_target(target: str | int) -> str:
    """What a map explains, in words: "grade 3, Severe NPDR", "referable DR"."""
    if isinstance(target, int):
        return f"grade {target}, {GRADE_NAMES[target]}"
    return "referable DR" if target == "referable" else "the predicted grade"


def draw_legend(width: int, *, probabilities: tuple[float, ...], target: str | int, empty: bool) -> Image.Image:
    """A strip of ``width`` pixels, mode RGB: predicted grade, the five probabilities as bars with numbers, and which
    score the map explains. ``probabilities``: of grades 0 to 4; ``empty``: the map is 0 everywhere."""
    size = max(11, min(22, width // 44))
    font = ImageFont.load_default(size)
    line, gap = round(1.45 * size), size
    strip = Image.new("RGB", (width, gap + 6 * line + gap), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    predicted = max(GRADES, key=lambda grade: probabilities[grade])  # the lower one of two that are equally probable
    referable = sum(probabilities[REFERABLE_GRADE:])
    title = f"Predicted: grade {predicted}, {GRADE_NAMES[predicted]}"
    draw.text((gap, gap // 2), title, font=font, fill=_PREDICTED)
    draw.text((width - gap, gap // 2), f"referable DR {referable:.2f}", font=font, fill=_TEXT, anchor="ra")
    bars_end = round(0.6 * width)
    first = gap + round(1.6 * size)
    for grade in GRADES:
        colour = _PREDICTED if grade == predicted else _BAR
        middle = gap // 2 + line + grade * round(0.92 * line) + line // 2
        draw.text((gap, middle), str(grade), font=font, fill=_TEXT, anchor="lm")
        end = bars_end - 3 * size
        half = round(0.3 * size)
        filled = first + probabilities[grade] * (end - first)
        draw.rectangle((first, middle - half, max(filled, first + 1), middle + half), fill=colour)
        draw.text((bars_end, middle), f"{probabilities[grade]:.2f}", font=font, fill=_TEXT, anchor="rm")
    _draw_scale(strip, draw, font, (bars_end + 2 * gap, width - gap), line=line, target=target, empty=empty)
    return strip


def _draw_scale(
    strip: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    across: tuple[int, int],
    *,
    line: int,
    target: str | int,
    empty: bool,
) -> None:
    left, right = across
    top = line + line // 2
    draw.text((left, top), "Grad-CAM for", font=font, fill=_TEXT)
    words = describe_target(target).split(", ")
    for number, words_of_line in enumerate(words, start=1):
        draw.text((left, top + number * line), words_of_line, font=font, fill=_TEXT)
    below = top + 3 * line + line // 4
    if empty:
        draw.text((left, below), "nothing speaks for it", font=font, fill=_TEXT)
        return
    ramp = np.broadcast_to(np.linspace(0.0, 1.0, max(right - left, 1)), (line // 2, max(right - left, 1)))
    layer = colour_heat(ramp, opacity=1.0)
    strip.paste(layer.convert("RGB"), (left, below), mask=layer.getchannel("A"))
    draw.text((left, below + line // 2 + 2), "less", font=font, fill=_TEXT)
    draw.text((right, below + line // 2 + 2), "more", font=font, fill=_TEXT, anchor="ra")


def add_legend(picture: Image.Image, legend: Image.Image) -> Image.Image:
    """The picture above its legend; the narrower of the two in the middle."""
    width = max(picture.width, legend.width)
    whole = Image.new("RGB", (width, picture.height + legend.height), _BACKGROUND)
    whole.paste(picture, ((width - picture.width) // 2, 0))
    whole.paste(legend, ((width - legend.width) // 2, picture.height))
    return whole
