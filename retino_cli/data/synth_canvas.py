"""Where the synthetic eye meets its pixels: the camera's view of the retina, masks drawn on it, and smooth noise.

Everything is placed in *retinal coordinates* ``(u, v)``: the centre of the field of view is (0, 0), its radius is 1
(about 22.5 degrees for a 45-degree camera), ``u`` grows towards the nose and ``v`` downwards. That is what one sees in
a photograph of a right eye, with the optic disc on the right; a left eye is the mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """One photograph's geometry. Lengths are in pixels, ``angle`` in radians, ``shift`` in field radii."""

    width: int
    height: int
    centre: tuple[float, float]
    radius: float
    mirrored: bool
    angle: float
    shift: tuple[float, float]

    def to_pixels(self, points: Points) -> Points:
        """(n, 2) retinal coordinates -> (n, 2) pixel coordinates (x, y)."""
        cos, sin = self.radius * math.cos(self.angle), self.radius * math.sin(self.angle)
        side = -1.0 if self.mirrored else 1.0
        pixels: Points = (points + self.shift) @ np.array([[side * cos, sin], [-side * sin, cos]])
        pixels += self.centre
        return pixels

    def field_coordinates(self) -> tuple[Floats, Floats]:
        """Camera coordinates of the pixel centres in field radii, as a row (1, W) and a column (H, 1)."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.centre[0]) / self.radius
        y = (np.arange(self.height, dtype=np.float32) + 0.5 - self.centre[1]) / self.radius
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)

    def retinal_coordinates(self) -> tuple[Floats, Floats]:
        """Retinal coordinates ``(u, v)`` of the pixel centres, (H, W) each: the inverse of `to_pixels`."""
        x, y = self.field_coordinates()
        if self.mirrored:
            x = -x
        cos, sin = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        u = cos * x + sin * y - np.float32(self.shift[0])
        v = -sin * x + cos * y - np.float32(self.shift[1])
        return u, v

    def shows(self, u: float, v: float, *, reach: float = 0.93) -> bool:
        """Whether the retinal point lies well inside the field and the frame."""
        x, y = self.to_pixels(np.array([[u, v]]))[0]
        margin = 0.03 * self.radius
        inside = margin <= x < self.width - margin and margin <= y < self.height - margin
        return bool(inside and math.hypot(x - self.centre[0], y - self.centre[1]) <= reach * self.radius)


class Canvas:
    """A mask over the photograph, drawn with supersampling and read back as coverage in 0..1."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.factor = 1 if view.width > 1200 else 2 if view.width > 350 else 3 if view.width > 160 else 4
        self.touched = False
        self._image = Image.new("L", (view.width * self.factor, view.height * self.factor), 0)
        self._draw = ImageDraw.Draw(self._image)

    def stroke(self, points: Points, widths: NDArray[np.float64] | float, *, strength: float = 1.0) -> None:
        """Draw a line through (n, 2) retinal points; ``widths`` (n,) in field radii, ``strength`` 0..1."""
        if len(points) < 2:
            return
        self.touched = True
        pixels = self.view.to_pixels(points) * self.factor
        wide = np.full(len(points), self.view.radius * self.factor) * widths
        if wide.max() < 3.5:  # too thin to taper: one line, and what is thinner than a pixel is fainter instead
            mean = float(wide.mean())
            fill = round(255 * strength * min(1.0, mean))
            self._draw.line(pixels.ravel().tolist(), fill=fill, width=max(1, round(mean)))
            return
        fill = round(255 * strength)
        corners = pixels.tolist()
        for (x0, y0), (x1, y1), width in zip(corners[:-1], corners[1:], wide.tolist(), strict=False):
            self._draw.line((x0, y0, x1, y1), fill=fill, width=max(1, round(width)))
            half = width / 2 - 0.5
            if half >= 1.0:  # round joints
                self._draw.ellipse((x0 - half, y0 - half, x0 + half, y0 + half), fill=fill)

    def polygon(self, points: Points, *, strength: float = 1.0) -> None:
        """Fill the polygon through (n, 2) retinal points."""
        self.touched = True
        corners = (self.view.to_pixels(points) * self.factor).ravel().tolist()
        self._draw.polygon(corners, fill=round(255 * strength))

    def spot(self, u: float, v: float, diameter: float, *, strength: float = 1.0) -> None:
        """Fill a round spot; ``diameter`` in field radii."""
        self.touched = True
        x, y = (self.view.to_pixels(np.array([[u, v]]))[0] * self.factor).tolist()
        half = diameter * self.view.radius * self.factor / 2
        self._draw.ellipse((x - half, y - half, x + half, y + half), fill=round(255 * strength))

    def coverage(self, *, blur: float = 0.0) -> Floats:
        """(H, W) coverage in 0..1; ``blur`` is a Gaussian's sigma in field radii."""
        image = self._image.reduce(self.factor) if self.factor > 1 else self._image
        if blur > 0:
            image = image.filter(ImageFilter.GaussianBlur(blur * self.view.radius))
        return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def smooth_noise(rng: np.random.Generator, view: View, *, cell: float) -> Floats:
    """(H, W) smooth noise of about unit variance whose grain is ``cell`` field radii, whatever the picture's size."""
    reach = 1.6  # the widest frame, in field radii from the centre
    n = max(4, math.ceil(2 * reach / cell))
    grid = Image.fromarray(rng.standard_normal((n, n), dtype=np.float32))
    scale = n / (2 * reach)
    left = (reach - view.centre[0] / view.radius) * scale
    top = (reach - view.centre[1] / view.radius) * scale
    box = (left, top, left + view.width / view.radius * scale, top + view.height / view.radius * scale)
    image = grid.resize((view.width, view.height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image, dtype=np.float32)


def blob(
    rng: np.random.Generator,
    u: float,
    v: float,
    size: float,
    *,
    ragged: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Points:
    """(18, 2) outline of an irregular spot of diameter ``size``; ``stretch`` lengthens it along ``angle``."""
    turn = np.linspace(0.0, 2 * np.pi, 18, endpoint=False)
    phase = rng.uniform(0, 2 * np.pi, 4)
    weight = rng.normal(0, ragged, 4) / np.array([1.5, 1.8, 2.2, 2.6])
    ripple = weight[:, None] * np.cos(np.arange(2, 6)[:, None] * turn + phase[:, None])
    wave = np.clip(1 + ripple.sum(axis=0), 0.3, 1.9) * size / 2
    along, across = wave * np.cos(turn) * stretch, wave * np.sin(turn)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([u + cos * along - sin * across, v + sin * along + cos * across], axis=1)


def wavy(points: Points, rng: np.random.Generator, *, amplitude: float, waves: Sequence[float]) -> Points:
    """Bend a (n, 2) path sideways by a sum of sines with ``waves`` periods; its first point stays where it is."""
    step = np.empty_like(points)
    step[1:-1] = points[2:] - points[:-2]
    step[0], step[-1] = points[1] - points[0], points[-1] - points[-2]
    step /= np.sqrt((step * step).sum(axis=1))[:, None] + 1e-9
    periods = np.array(waves)[:, None]
    angle = 2 * np.pi * (periods * unit_steps(len(points)) + rng.random((len(waves), 1)))
    side = (rng.standard_normal((len(waves), 1)) / periods * np.sin(angle)).sum(axis=0)
    side = (side - side[0]) * amplitude
    bent = points.copy()
    bent[:, 0] -= step[:, 1] * side
    bent[:, 1] += step[:, 0] * side
    return bent


@cache
def unit_steps(n: int) -> Points:
    """(n,) numbers from 0 to 1, kept: a vessel tree asks for them some hundred times."""
    steps = np.linspace(0.0, 1.0, n)
    steps.flags.writeable = False
    return steps
