"""Lesions of diabetic retinopathy, drawn onto a photograph of a healthy eye.

What is real stays real: camera, colours, vessels, disc, blur. What is drawn is known: the lesions of a grade, planned
by the ICDR definition (`synth_plan`). The light of the photograph is divided by its lamp (a wide blur of red), so that
a lesion in a dark corner is as dark as the corner; blood then absorbs as in `synth_paint`, and the lamp is put back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retino_cli.data.paint_lesions import draw_varied_lesions
from retino_cli.data.retina import mask_field
from retino_cli.data.synth_anatomy import Anatomy, Pair, Traits, draw_traits
from retino_cli.data.synth_canvas import Canvas, Floats, View, smooth_noise
from retino_cli.data.synth_lesions import LesionLayers
from retino_cli.data.synth_paint import BLOOD, absorb, blend, draw_dust, paint_drusen, white_of, yellow_of
from retino_cli.data.synth_plan import LesionPlan, plan_lesions
from retino_cli.errors import DataError, UsageError
from retino_cli.grades import GRADES

BLOOD_BIT: Final = 1
"""Microaneurysms and haemorrhages within the retina."""
BRIGHT_BIT: Final = 2
"""Hard exudates and cotton wool spots."""
FINE_BIT: Final = 4
"""IRMA and new vessels."""
POOL_BIT: Final = 8
"""Preretinal haemorrhages."""
MASK_THRESHOLD: Final = 0.06
"""A pixel belongs to a lesion where more than this share of it is covered: faint and small lesions count as well."""

DRAWING: Final = 1
"""Version of the drawing: raised whenever the same seed gives other pictures than before."""

# What is taken to be the field: rows and columns with at least this share of their pixels in the mask.
_LEAST_ROW: Final = 0.1
_LEAST_COLUMN: Final = 0.02
_LAMP_BLUR: Final = 0.12
"""Sigma in field radii: wider than any lesion or vessel, narrower than the fall-off of the lamp."""
_LAMP_RANGE: Final = (0.25, 1.6)
"""The lamp over the median red; beyond, dividing by it would blow up noise."""

# The disc is the brightest spot of about its own size, compared with its wide surround (sigmas in field radii) ...
_DISC_BLUR: Final = 0.06
_SURROUND_BLUR: Final = 0.3
# ... beside the centre of the field and near the level of it, as in photographs centred on the macula (field radii).
_DISC_LEVEL: Final = 0.35
_DISC_ASIDE: Final = 0.25
_DISC_REACH: Final = 0.85
_DISC_RADIUS: Final = 0.13
_FOVEA: Final = (-0.7, 0.05)
"""The fovea from the disc, in field radii: temporal and a little lower."""

_VITREOUS_BLUR: Final = (0.5, 6.0)
"""Sigma of the blur behind a vitreous haemorrhage, in pixels of a picture of ``_VITREOUS_SIZE``."""
_VITREOUS_SIZE: Final = 448


@dataclass(frozen=True)
class HealthyPhotograph:
    """A prepared photograph (S x S) and what has to be known of it to draw on it: H rows of S columns hold the field.

    Pixel lengths are of the prepared picture. ``disc`` is as the picture shows it: u < 0 where it is on the left.
    """

    pixels: NDArray[np.uint8]
    """(S, S, 3) RGB."""
    top: int
    """The first row of the H with the field in it."""
    field: NDArray[np.bool_]
    """(H, S): true in the field."""
    light: Floats
    """(3, H, S), 0..1."""
    lamp: Floats
    """(H, S): red, blurred within the field."""
    median: tuple[float, float, float]
    """Median red, green and blue of the field, 0..1."""
    centre: Pair
    """(x, y) in the H rows, in pixels."""
    radius: float
    disc: Pair
    """(u, v) of the optic disc from the centre, in field radii."""

    @classmethod
    def measure(cls, pixels: NDArray[np.uint8]) -> HealthyPhotograph:
        """Find field, lamp and disc in a prepared photograph, (S, S, 3) uint8.

        Raises:
            DataError: no field can be told in it.
        """
        size = len(pixels)
        field = mask_field(pixels)
        rows = np.flatnonzero(field.sum(axis=1) > _LEAST_ROW * size)
        columns = np.flatnonzero(field.sum(axis=0) > _LEAST_COLUMN * size)
        if len(rows) < 2 or len(columns) < 2:
            raise DataError("no retina can be told in the picture", "draw on a photograph with a round, lit field")
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        field = field[top:bottom]
        light: Floats = (pixels[top:bottom].astype(np.float32) / np.float32(255)).transpose(2, 0, 1).copy()
        centre, radius = ((left + right) / 2, size / 2 - top), (right - left) / 2
        covered = np.maximum(_blur(field.astype(np.float32), _LAMP_BLUR * radius), 0.05)
        red, green, blue = (float(np.median(channel[field])) for channel in light)
        return cls(
            pixels=pixels,
            top=top,
            field=field,
            light=light,
            lamp=(_blur(light[0] * field, _LAMP_BLUR * radius) / covered).astype(np.float32),
            median=(red, green, blue),
            centre=centre,
            radius=radius,
            disc=_find_disc(light.mean(axis=0) * field, centre, radius),
        )

    def view(self) -> View:
        """The camera's view of the H rows; mirrored where the disc is on the left."""
        height, width = self.field.shape
        return View(width, height, self.centre, self.radius, self.disc[0] < 0, 0.0, (0.0, 0.0))

    def anatomy(self) -> Anatomy:
        """Where the landmarks lie in retinal coordinates; no vessels."""
        u, v = abs(self.disc[0]), self.disc[1]
        return Anatomy((u, v), (_DISC_RADIUS, _DISC_RADIUS * 1.04), (u + _FOVEA[0], v + _FOVEA[1]), ())


@dataclass(frozen=True)
class PaintedEye:
    """A photograph with lesions drawn onto it, and the truth about them."""

    pixels: NDArray[np.uint8]
    """(S, S, 3) RGB; outside the field as in the photograph, or black where no row of the field is."""
    masks: NDArray[np.uint8]
    """(S, S): `BLOOD_BIT`, `BRIGHT_BIT`, `FINE_BIT` and `POOL_BIT`, added up. All 0 at grade 0. The pale veil under new
    vessels and the diffuse darkening by a vitreous haemorrhage are in none."""
    grade: int


def paint_photograph(healthy: HealthyPhotograph, grade: int, rng: np.random.Generator) -> PaintedEye:
    """Draw the lesions of ICDR ``grade`` 0..4 onto a photograph; all that varies is drawn from ``rng``.

    At any grade there may be drusen (in a quarter of the pictures) and dust on the lens (in half), so that a spot alone
    means nothing. Grade 0 has these at most.

    Raises:
        UsageError: ``grade`` is none of 0..4.
    """
    if grade not in GRADES:
        raise UsageError(f"grade {grade!r}: must be one of 0, 1, 2, 3, 4")
    # The order of the draws is part of the drawing: changing it gives other pictures from the same seed.
    traits = draw_traits(rng)
    view, anatomy = healthy.view(), healthy.anatomy()
    plan = _plan(grade, rng)
    layers = draw_varied_lesions(plan, rng, view, anatomy)
    red, green, blue = healthy.median
    traits = replace(traits, colour=(red, max(green, 0.08), max(blue, 0.02)))
    traits = replace(traits, drusen=int(rng.integers(2, 14)) if rng.random() < 0.25 else 0)
    lamp = np.clip(healthy.lamp / max(red, 0.05), *_LAMP_RANGE)
    light = healthy.light / lamp
    _add_lesions(light, rng, traits, view, anatomy, layers)
    light *= lamp
    if plan.vitreous_haemorrhage:
        light = _cloud(light, rng, view, len(healthy.pixels))
    if rng.random() < 0.5:
        light *= 1 - draw_dust(rng, view)
    light = np.where(healthy.field, light, healthy.light)

    rows = slice(healthy.top, healthy.top + len(healthy.field))
    pixels = np.zeros_like(healthy.pixels)
    pixels[rows] = (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    masks = np.zeros(pixels.shape[:2], dtype=np.uint8)
    masks[rows] = np.where(healthy.field, _flag(layers), 0)
    return PaintedEye(pixels, masks, grade)


def _plan(grade: int, rng: np.random.Generator) -> LesionPlan:
    """Lesions of ``grade`` without beaded veins. A plan that was severe by its beading alone is drawn anew."""
    while True:
        plan = replace(plan_lesions(grade, rng), beaded_quadrants=())
        if plan.grade() == grade:
            return plan


def _add_lesions(
    light: Floats, rng: np.random.Generator, traits: Traits, view: View, anatomy: Anatomy, layers: LesionLayers
) -> None:
    """Change (3, H, S) ``light`` under an even lamp in place: pale lesions first, blood over them."""
    sharpness = float(rng.uniform(0.7, 2.2))
    exposure = float(rng.uniform(0.85, 1.15))

    def exposed(colour: tuple[float, float, float]) -> tuple[float, float, float]:
        r, g, b = (min(1.0, value * exposure) for value in colour)
        return r, g, b

    if layers.veil.touched:
        blend(light, layers.veil.coverage(blur=0.03) * np.float32(0.35), exposed(white_of(traits, 0.72)))
    if layers.cotton.touched:
        cotton = layers.cotton.coverage(blur=0.014) * np.float32(rng.uniform(0.45, 0.8))
        blend(light, cotton, exposed(white_of(traits, 0.9)))
    paint_drusen(light, rng, traits, view, anatomy)
    if layers.exudate.touched:
        exudate = layers.exudate.coverage(blur=0.0025 * sharpness) * np.float32(rng.uniform(0.6, 0.92))
        blend(light, exudate, exposed(yellow_of(traits)))

    depth = np.zeros(light.shape[1:], np.float32)
    thick = float(rng.uniform(0.6, 1.15))
    if layers.blood.touched:
        np.maximum(depth, layers.blood.coverage(blur=0.005 * sharpness) * np.float32(1.05 * thick), out=depth)
    if layers.fine.touched:
        thin = np.float32(rng.uniform(0.35, 0.8))
        np.maximum(depth, layers.fine.coverage(blur=0.0025 * sharpness) * thin, out=depth)
    # Cameras differ in how dark blood is in red: their colours overlap by different amounts.
    absorb(light, depth, (float(rng.uniform(0.25, 0.5)), BLOOD[1], BLOOD[2]))
    if layers.pool.touched:
        pool = layers.pool.coverage(blur=0.008) * np.float32(rng.uniform(0.6, 0.93))
        red = traits.colour[0]
        blend(light, pool, (float(rng.uniform(0.45, 0.75)) * red, 0.12 * red, 0.06 * red))


def _cloud(light: Floats, rng: np.random.Generator, view: View, size: int) -> Floats:
    """Blood in the vitreous: the retina behind it out of focus, each colour by itself, and darkened in clouds."""
    to_pixels = size / _VITREOUS_SIZE
    light = np.stack([_blur(channel, to_pixels * float(rng.uniform(*_VITREOUS_BLUR))) for channel in light])
    clouds = np.clip(smooth_noise(rng, view, cell=0.5) * 0.4 + 0.35, 0, 0.85).astype(np.float32)
    absorb(light, clouds * np.float32(1.1), BLOOD)
    return light


def _flag(layers: LesionLayers) -> NDArray[np.uint8]:
    """(H, S): which kinds of lesions cover each pixel."""
    flags = np.zeros((layers.view.height, layers.view.width), dtype=np.uint8)
    kinds: tuple[tuple[int, Canvas], ...] = (
        (BLOOD_BIT, layers.blood),
        (BRIGHT_BIT, layers.exudate),
        (BRIGHT_BIT, layers.cotton),
        (FINE_BIT, layers.fine),
        (POOL_BIT, layers.pool),
    )
    for bit, canvas in kinds:
        if canvas.touched:
            flags |= (canvas.coverage() > MASK_THRESHOLD).astype(np.uint8) * np.uint8(bit)
    return flags


def _find_disc(grey: Floats, centre: Pair, radius: float) -> Pair:
    """(u, v) of the optic disc in (H, S) ``grey``: the brightest spot, blurred, beside the centre of the field."""
    spot = _blur(grey, _DISC_BLUR * radius) - _blur(grey, _SURROUND_BLUR * radius)
    y, x = np.mgrid[: spot.shape[0], : spot.shape[1]]
    u, v = (x - centre[0]) / radius, (y - centre[1]) / radius
    possible = (abs(v) < _DISC_LEVEL) & (abs(u) > _DISC_ASIDE) & (np.hypot(u, v) < _DISC_REACH)
    row, column = np.unravel_index(np.where(possible, spot, -np.inf).argmax(), spot.shape)
    return float(u[row, column]), float(v[row, column])


def _blur(values: Floats, sigma: float) -> Floats:
    """Gaussian blur of (H, W); ``sigma`` in pixels."""
    from scipy.ndimage import gaussian_filter

    blurred: Floats = gaussian_filter(values, sigma)
    return blurred
