"""From anatomy and lesions to light: colours, absorption by blood, the lamp, the lens and the sensor.

Blood darkens multiplicatively, ``light * exp(-depth * ABSORPTION)`` (Beer and Lambert), little in red and much in
green: this is why haemorrhages and vessels look alike, and why the green channel shows them best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from retino_cli.data.synth_anatomy import Anatomy, Traits, stroke_vessels
from retino_cli.data.synth_canvas import Canvas, Floats, View, smooth_noise
from retino_cli.data.synth_lesions import LesionLayers

BLOOD = (0.30, 0.92, 0.70)
"""Absorption of a unit of blood in red, green and blue."""
PIGMENT = (0.42, 0.85, 0.45)
"""Absorption of the pigment of macula and choroid."""


def paint_retina(
    rng: np.random.Generator, traits: Traits, view: View, anatomy: Anatomy, layers: LesionLayers
) -> Floats:
    """(3, H, W) light that comes back from the retina, about 0..1, under an even lamp."""
    u, v = view.retinal_coordinates()
    from_disc = ((u - anatomy.disc[0]) / anatomy.disc_radii[0]) ** 2 + (
        (v - anatomy.disc[1]) / anatomy.disc_radii[1]
    ) ** 2
    from_fovea = (u - anatomy.fovea[0]) ** 2 + (v - anatomy.fovea[1]) ** 2

    # The pigment: mottled, denser at the macula, thinner around the disc.
    pigment = 0.065 * traits.mottling * smooth_noise(rng, view, cell=0.30)
    pigment += 0.034 * traits.mottling * smooth_noise(rng, view, cell=0.09)
    pigment += 0.016 * traits.mottling * smooth_noise(rng, view, cell=0.03)
    choroid = np.exp(-((smooth_noise(rng, view, cell=0.11) / np.float32(0.35)) ** 2))
    pale = traits.tessellation * (0.35 + 0.65 * np.clip(from_fovea * 1.6, 0, 1))
    pigment -= np.float32(0.22) * pale * (choroid - np.float32(0.5))
    pigment += 0.42 * np.exp(from_fovea * np.float32(-1 / (2 * 0.10**2)))
    pigment += 0.34 * np.exp(from_fovea * np.float32(-1 / (2 * 0.27**2)))
    pigment -= 0.30 * np.exp(from_disc * np.float32(-1 / (2 * 2.3**2)))
    light = np.stack([c * np.exp(pigment * np.float32(-a)) for c, a in zip(traits.colour, PIGMENT, strict=True)])

    _disc(light, traits, from_disc, u - np.float32(anatomy.disc[0]), v - np.float32(anatomy.disc[1]), anatomy)
    light += 0.16 * rng.random() * traits.sheen * np.exp(from_fovea * np.float32(-1 / (2 * 0.018**2)))

    if layers.veil.touched:
        blend(light, layers.veil.coverage(blur=0.03) * np.float32(0.45), white_of(traits, 0.72))
    if layers.cotton.touched:
        blend(light, layers.cotton.coverage(blur=0.014) * np.float32(0.8), white_of(traits, 0.9))
    paint_drusen(light, rng, traits, view, anatomy)
    if layers.exudate.touched:
        blend(light, layers.exudate.coverage(blur=0.0025) * np.float32(0.92), yellow_of(traits))
    absorb(light, _blood_depth(view, anatomy, layers), BLOOD)
    if layers.pool.touched:
        pool = layers.pool.coverage(blur=0.008)
        red = traits.colour[0]
        blend(light, pool * np.float32(0.93), (0.50 * red, 0.08 * red, 0.04 * red))
    return light


def _blood_depth(view: View, anatomy: Anatomy, layers: LesionLayers) -> Floats:
    """(H, W) thickness of the blood that light passes: where vessels and lesions overlap the thicker one counts."""
    veins, arteries, reflex = Canvas(view), Canvas(view), Canvas(view)
    stroke_vessels(anatomy, veins, arteries, reflex)
    depth = veins.coverage(blur=0.0025) * np.float32(0.85)
    np.maximum(depth, arteries.coverage(blur=0.0025) * np.float32(0.5), out=depth)
    if layers.beads.touched:
        np.maximum(depth, layers.beads.coverage(blur=0.002), out=depth)
    depth *= 1 - np.float32(0.5) * reflex.coverage(blur=0.002)
    if layers.blood.touched:
        np.maximum(depth, layers.blood.coverage(blur=0.006) * np.float32(1.05), out=depth)
    if layers.fine.touched:
        np.maximum(depth, layers.fine.coverage(blur=0.002) * np.float32(0.85), out=depth)
    return depth


def _disc(light: Floats, traits: Traits, from_disc: Floats, u: Floats, v: Floats, anatomy: Anatomy) -> None:
    """Paint the optic disc in place: a pink rim, a paler cup a little temporal to its middle, perhaps a crescent."""
    if traits.crescent > 0:
        wide, tall = anatomy.disc_radii
        crescent = _soft_edge(((u + 0.16 * wide) / (1.12 * wide)) ** 2 + (v / (1.08 * tall)) ** 2, 0.12)
        blend(light, crescent * np.float32(0.5 * min(1.0, traits.crescent)), white_of(traits, 0.85))
    blend(light, _soft_edge(from_disc, 0.16) * np.float32(0.85), _rim(traits))
    cup = traits.cup
    inner = ((u + 0.12 * anatomy.disc_radii[0]) / (cup * anatomy.disc_radii[0])) ** 2 + (
        v / (cup * anatomy.disc_radii[1])
    ) ** 2
    blend(light, _soft_edge(inner, 0.9) * np.float32(0.75), white_of(traits, 1.0))


def paint_drusen(light: Floats, rng: np.random.Generator, traits: Traits, view: View, anatomy: Anatomy) -> None:
    """Paint drusen in place: pale, soft and round, at any grade, so that a bright spot alone means nothing."""
    if not traits.drusen:
        return
    canvas = Canvas(view)
    for _ in range(traits.drusen):
        u, v = rng.normal(anatomy.fovea, 0.2)
        canvas.spot(float(u), float(v), float(rng.uniform(0.015, 0.04)), strength=float(rng.uniform(0.3, 1.0)))
    blend(light, canvas.coverage(blur=0.008) * np.float32(0.45), white_of(traits, 0.8))


def photograph(
    rng: np.random.Generator, traits: Traits, view: View, light: Floats, *, vitreous: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Take the picture: lamp, haze, focus, field stop, sensor. Returns (H, W, 3) uint8 pixels and the (H, W) field."""
    x, y = view.field_coordinates()
    r2 = x * x + y * y
    tilt = rng.normal(0, 0.10, 2).astype(np.float32)
    lamp = (1 + tilt[0] * x + tilt[1] * y) * (1 - np.float32(rng.uniform(0.10, 0.38)) * r2)
    lamp += np.float32(0.03) * smooth_noise(rng, view, cell=0.7)
    exposure = float(np.clip(rng.normal(1.12, 0.14), 0.75, 1.45))
    light *= np.clip(lamp, 0.15, None) * np.float32(exposure)
    for channel, tint in zip(light, traits.tint, strict=True):
        channel *= np.float32(tint)

    haze = float(np.clip(rng.exponential(0.05), 0, 0.22))
    grey = (0.55 * exposure, 0.38 * exposure, 0.26 * exposure)
    blend(light, np.float32(haze) * np.ones_like(r2), grey)
    if rng.random() < 0.35:  # a crescent of stray light where the pupil cuts the lamp
        side = float(rng.uniform(0, 2 * np.pi))
        edge = np.clip((x * np.cos(side) + y * np.sin(side)).astype(np.float32), 0, None) * r2
        blend(light, edge**3 * np.float32(rng.uniform(0.15, 0.5)), (0.75, 0.6, 0.45))
    if vitreous:
        clouds = np.clip(smooth_noise(rng, view, cell=0.5) * np.float32(0.4) + np.float32(0.35), 0, 0.85)
        absorb(light, clouds * np.float32(1.1), BLOOD)

    picture = Image.fromarray(_to_bytes(light))
    sharpness = float(np.clip(rng.lognormal(np.log(0.0028), 0.45), 0.0015, 0.008))
    picture = picture.filter(ImageFilter.GaussianBlur(sharpness * view.radius))

    pixels = np.asarray(picture, dtype=np.float32)
    noise = np.float32(rng.uniform(1.0, 3.2))
    pixels = pixels + noise * rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None]
    pixels += (0.7 * noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels *= 1 - draw_dust(rng, view)[..., None]

    stop = _field_stop(traits, view)
    pixels *= stop[..., None]
    pixels += np.float32(rng.uniform(0.0, 4.0))  # black is never quite black
    return np.clip(pixels + np.float32(0.5), 0, 255).astype(np.uint8), stop > 0.5


def _field_stop(traits: Traits, view: View) -> Floats:
    """(H, W) 1 inside the round field, 0 outside; some cameras have a notch that marks the upper side."""
    factor = 2 if view.width <= 1200 else 1
    image = Image.new("L", (view.width * factor, view.height * factor), 0)
    draw = ImageDraw.Draw(image)
    (x, y), r = view.centre, view.radius
    draw.ellipse([(x - r) * factor, (y - r) * factor, (x + r) * factor, (y + r) * factor], fill=255)
    if traits.notch:
        turn = np.array([-0.62, -0.60, -0.54, -0.52])
        reach = r * np.array([0.98, 1.035, 1.035, 0.98])
        corners = np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], axis=1) * factor
        draw.polygon(corners.ravel().tolist(), fill=255)
    if factor > 1:
        image = image.reduce(factor)
    image = image.filter(ImageFilter.GaussianBlur(0.002 * r))
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def draw_dust(rng: np.random.Generator, view: View) -> Floats:
    """(H, W) light lost to dust on the lens: a few faint, blurred, grey spots that are no lesions."""
    canvas = Canvas(view)
    for _ in range(int(rng.poisson(2.0))):
        u, v = rng.uniform(-0.85, 0.85, 2)
        canvas.spot(float(u), float(v), float(rng.uniform(0.02, 0.07)), strength=float(rng.uniform(0.3, 1.0)))
    return canvas.coverage(blur=0.012) * np.float32(0.22)


def _soft_edge(squared: Floats, softness: float) -> Floats:
    """1 inside the ellipse ``squared`` = 1, 0 outside, with an edge of relative width ``softness``."""
    ramp: Floats = np.clip((1 + softness - squared) * np.float32(1 / (2 * softness)), 0, 1)
    smooth: Floats = ramp * ramp * (3 - 2 * ramp)
    return smooth


def blend(light: Floats, alpha: Floats, colour: tuple[float, float, float]) -> None:
    """Lay ``colour`` over (3, H, W) ``light`` in place, as far as ``alpha`` (H, W) covers it, 0..1."""
    for channel, value in zip(light, colour, strict=True):
        channel += alpha * (np.float32(value) - channel)


def absorb(light: Floats, depth: Floats, absorption: tuple[float, float, float]) -> None:
    """Darken (3, H, W) ``light`` in place: ``light * exp(-depth * absorption)``; ``depth`` is (H, W)."""
    for channel, value in zip(light, absorption, strict=True):
        channel *= np.exp(depth * np.float32(-value))


def white_of(traits: Traits, brightness: float) -> tuple[float, float, float]:
    """White as the patient's lens lets it through: the yellower the fundus, the yellower the white."""
    red, green, blue = traits.colour
    lit = brightness * min(1.0, 0.72 + 0.4 * red)
    return lit, lit * (0.62 + 0.45 * green / red), lit * (0.18 + 0.85 * blue / green)


def _rim(traits: Traits) -> tuple[float, float, float]:
    white = white_of(traits, 0.98)
    return white[0], 0.80 * white[1], 0.75 * white[2]


def yellow_of(traits: Traits) -> tuple[float, float, float]:
    """The yellow of hard exudates, under the same lens as `white_of`."""
    white = white_of(traits, 1.0)
    return white[0], 0.95 * white[1], 0.55 * white[2]


def _to_bytes(light: Floats) -> NDArray[np.uint8]:
    """(3, H, W) light -> (H, W, 3) uint8; bright light is compressed instead of cut off."""
    knee = np.float32(0.8)
    squeezed = np.where(light > knee, knee + (1 - knee) * np.tanh((light - knee) / (1 - knee)), light)
    return np.ascontiguousarray((np.clip(squeezed, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
