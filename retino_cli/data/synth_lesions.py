"""Draws the lesions of a plan: what each looks like, how large it is and where on the retina it lies.

Sizes are in field radii; 0.29 is one disc diameter (1.5 mm). A microaneurysm is at most 125 um across (ETDRS report
10); here it is drawn between 1/110 and 1/60 of the field's diameter, so that at 224 px it is just about still there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retino_cli.data.synth_anatomy import Anatomy, Pair, quadrant_of
from retino_cli.data.synth_canvas import Canvas, Points, View, blob, wavy
from retino_cli.data.synth_plan import LesionPlan


@dataclass
class LesionLayers:
    """One canvas per way in which lesions change the light, and the mask of all of them."""

    view: View
    blood: Canvas = field(init=False)
    """Inside the retina: absorbs like blood."""
    pool: Canvas = field(init=False)
    """Before the retina: thick blood that hides what lies behind."""
    fine: Canvas = field(init=False)
    """New vessels and IRMA."""
    exudate: Canvas = field(init=False)
    """Sharp-edged and yellow."""
    cotton: Canvas = field(init=False)
    """Fluffy and white."""
    veil: Canvas = field(init=False)
    """Pale tissue that new vessels grow with."""
    beads: Canvas = field(init=False)
    """Swollen parts of veins."""
    centres: list[Pair] = field(default_factory=list)
    """A point of every lesion, for lesions that are smaller than a pixel."""

    def __post_init__(self) -> None:
        for name in ("blood", "pool", "fine", "exudate", "cotton", "veil", "beads"):
            setattr(self, name, Canvas(self.view))

    def mask(self) -> NDArray[np.bool_]:
        """(H, W): which pixels show a lesion, whatever its kind."""
        mask = np.zeros((self.view.height, self.view.width), dtype=bool)
        for canvas in (self.blood, self.pool, self.fine, self.exudate, self.cotton, self.beads):
            if canvas.touched:
                mask |= canvas.coverage() > 0.2
        if self.centres:
            x, y = np.floor(self.view.to_pixels(np.array(self.centres))).astype(np.int64).T
            inside = (x >= 0) & (y >= 0) & (x < self.view.width) & (y < self.view.height)
            mask[y[inside], x[inside]] = True
        return mask


def draw_lesions(plan: LesionPlan, rng: np.random.Generator, view: View, anatomy: Anatomy) -> LesionLayers:
    """Draw every lesion of ``plan`` where the camera sees it."""
    layers = LesionLayers(view)
    place = Places(rng, view, anatomy)
    contrast = float(rng.uniform(0.5, 0.9))
    for quadrant in range(4):
        for _ in range(plan.haemorrhages[quadrant]):
            _haemorrhage(layers, rng, place, quadrant, contrast)
        for _ in range(plan.microaneurysms[quadrant]):
            u, v = place.find(quadrant, reach=0.85)
            layers.blood.spot(u, v, float(rng.uniform(0.018, 0.033)), strength=contrast * float(rng.uniform(0.8, 1.05)))
            layers.centres.append((u, v))
        for _ in range(plan.irma[quadrant]):
            draw_irma(layers, rng, place, quadrant)
    for _ in range(plan.exudate_clusters):
        _exudates(layers, rng, place, anatomy)
    for _ in range(plan.cotton_wool_spots):
        u, v = place.find(None, reach=0.75)
        size = float(rng.uniform(0.07, 0.15))
        outline = blob(rng, u, v, size, ragged=0.25, stretch=1.3, angle=float(rng.uniform(0, np.pi)))
        layers.cotton.polygon(outline, strength=float(rng.uniform(0.6, 1.0)))
        layers.centres.append((u, v))
    _bead_veins(layers, plan, rng, view, anatomy)
    if plan.new_vessels_disc:
        draw_new_vessels(layers, rng, anatomy.disc, float(rng.uniform(0.16, 0.30)))
    for _ in range(plan.new_vessels_elsewhere):
        draw_new_vessels(layers, rng, place.find(None, reach=0.72), float(rng.uniform(0.09, 0.20)))
    for _ in range(plan.preretinal_haemorrhages):
        draw_boat(layers, rng, place.find(None, reach=0.7))
    return layers


class Places:
    """Finds places for lesions: in the frame, outside the disc, denser towards the posterior pole."""

    def __init__(self, rng: np.random.Generator, view: View, anatomy: Anatomy) -> None:
        self.rng, self.view, self.anatomy = rng, view, anatomy

    def find(self, quadrant: int | None, *, reach: float) -> Pair:
        """A place in ``quadrant`` (or anywhere) within ``reach`` field radii of the centre."""
        which = int(self.rng.integers(4)) if quadrant is None else quadrant
        signs = ((-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0))[which]
        u = v = 0.0
        for _ in range(200):  # a quadrant may lie almost wholly beyond the frame: then the last try will do
            radius = reach * math.sqrt(self.rng.random())
            angle = math.pi / 2 * self.rng.random()
            u, v = signs[0] * radius * math.cos(angle), signs[1] * radius * math.sin(angle)
            on_disc = math.hypot(u - self.anatomy.disc[0], v - self.anatomy.disc[1]) < 1.25 * self.anatomy.disc_radii[1]
            if not on_disc and self.view.shows(u, v):
                break
        return u, v


def _haemorrhage(layers: LesionLayers, rng: np.random.Generator, place: Places, quadrant: int, contrast: float) -> None:
    """A dot, a blot, or a flame that follows the nerve fibres."""
    u, v = place.find(quadrant, reach=0.92)
    strength = min(1.0, contrast * float(rng.uniform(0.6, 1.25)))
    kind = rng.random()
    if kind < 0.62:
        layers.blood.polygon(blob(rng, u, v, float(rng.uniform(0.024, 0.045)), ragged=0.12), strength=strength)
    elif kind < 0.86:
        layers.blood.polygon(blob(rng, u, v, float(0.045 + rng.exponential(0.02)), ragged=0.2), strength=strength)
    else:
        disc = place.anatomy.disc
        along = math.atan2(v - disc[1], u - disc[0])
        size, stretch = float(rng.uniform(0.03, 0.05)), float(rng.uniform(2.2, 4.0))
        layers.blood.polygon(blob(rng, u, v, size, ragged=0.3, stretch=stretch, angle=along), strength=strength)
    layers.centres.append((u, v))


def _exudates(layers: LesionLayers, rng: np.random.Generator, place: Places, anatomy: Anatomy) -> None:
    """A cluster of hard exudates: a ring around a leak, or a patch; mostly near the macula."""
    if rng.random() < 0.7:
        angle, distance = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.08, 0.42))
        centre = (anatomy.fovea[0] + distance * math.cos(angle), anatomy.fovea[1] + distance * math.sin(angle))
        if not place.view.shows(*centre):
            centre = place.find(None, reach=0.7)
    else:
        centre = place.find(None, reach=0.7)
    extent = float(rng.uniform(0.04, 0.14))
    ring = rng.random() < 0.4
    for _ in range(int(rng.integers(5, 30))):
        turn = float(rng.uniform(0, 2 * np.pi))
        radius = extent * (float(rng.normal(1.0, 0.12)) if ring else math.sqrt(rng.random()))
        u, v = centre[0] + radius * math.cos(turn), centre[1] + radius * math.sin(turn)
        size = 0.009 + float(rng.exponential(0.009))
        outline = blob(rng, u, v, min(size, 0.06), ragged=0.3)
        layers.exudate.polygon(outline, strength=float(rng.uniform(0.6, 1.0)))
        layers.centres.append((u, v))


def draw_irma(layers: LesionLayers, rng: np.random.Generator, place: Places, quadrant: int) -> None:
    """Fine, kinked, dilated capillaries within the retina: a few short strokes that branch at odd angles."""
    u, v = place.find(quadrant, reach=0.78)
    heading = float(rng.uniform(0, 2 * np.pi))
    for _ in range(int(rng.integers(3, 6))):
        length = float(rng.uniform(0.08, 0.17))
        t = np.linspace(0, length, 24)[:, None]
        line = np.array([[u, v]]) + t * np.array([[math.cos(heading), math.sin(heading)]])
        line = wavy(line, rng, amplitude=0.026, waves=(1.6, 2.7, 4.1))
        layers.fine.stroke(line, float(rng.uniform(0.008, 0.012)), strength=0.9)
        layers.centres.append((u, v))
        u, v = (float(c) for c in line[int(rng.integers(6, 24))])
        heading += float(rng.choice((-1, 1))) * float(rng.uniform(0.7, 1.6))


def draw_new_vessels(layers: LesionLayers, rng: np.random.Generator, centre: Pair, extent: float) -> None:
    """A lace of fine loops that fan out from one point, on a pale veil."""
    haze = blob(rng, *centre, 1.6 * extent, ragged=0.25)
    layers.veil.polygon(haze, strength=float(rng.uniform(0.1, 0.8)))
    lean = float(rng.uniform(0, 2 * np.pi))
    fan = float(rng.uniform(1.2, np.pi))
    turn = np.linspace(0, 1, 28)
    for _ in range(int(rng.integers(10, 19))):
        # A loop: out at one heading, back at another, never through the same place.
        first = lean + float(rng.uniform(-fan, fan))
        second = first + float(rng.uniform(0.25, 0.9))
        reach = extent * float(rng.uniform(0.35, 1.05))
        heading = first + (second - first) * turn
        radius = reach * np.sin(np.pi * np.clip(turn * float(rng.uniform(0.75, 1.0)), 0, 1)) ** 0.7
        loop: Points = np.stack([centre[0] + radius * np.cos(heading), centre[1] + radius * np.sin(heading)], axis=1)
        loop = wavy(loop, rng, amplitude=0.16 * extent, waves=(1.5, 3.0, 5.5))
        layers.fine.stroke(loop, float(rng.uniform(0.006, 0.010)), strength=float(rng.uniform(0.6, 0.95)))
    layers.centres.append(centre)


def draw_boat(layers: LesionLayers, rng: np.random.Generator, centre: Pair) -> None:
    """A preretinal haemorrhage: blood before the retina that settles with a level top."""
    width, depth = float(rng.uniform(0.14, 0.34)), float(rng.uniform(0.08, 0.2))
    turn = np.linspace(0, np.pi, 24)
    bulge = 1 + 0.12 * np.cos(3 * turn + float(rng.uniform(0, 6))) * np.sin(turn)
    outline = np.stack([centre[0] + width * np.cos(turn), centre[1] + depth * np.sin(turn) * bulge], axis=1)
    layers.pool.polygon(outline)
    layers.centres.append((centre[0], centre[1] + depth / 3))


def _bead_veins(layers: LesionLayers, plan: LesionPlan, rng: np.random.Generator, view: View, anatomy: Anatomy) -> None:
    """String swellings along the widest vein of each beaded quadrant."""
    veins = [vessel for vessel in reversed(anatomy.vessels) if vessel.kind == "vein"]
    for quadrant in plan.beaded_quadrants:
        for vessel in veins:
            here = np.flatnonzero(quadrant_of(vessel.points) == quadrant)
            # Not on the disc, and not beyond the frame.
            far = np.hypot(*(vessel.points[here] - np.array(anatomy.disc)).T) > 1.3 * anatomy.disc_radii[1]
            here = np.array([i for i in here[far] if view.shows(*vessel.points[i].tolist())], dtype=np.int64)
            if len(here) >= 8:
                break
        else:
            continue
        step = int(rng.integers(2, 4))
        for i in here[: 12 * step : step]:
            u, v = vessel.points[min(int(i) + int(rng.integers(0, 2)), len(vessel.points) - 1)].tolist()
            swollen = float(vessel.widths[i]) * float(rng.uniform(1.25, 1.75))
            layers.beads.spot(u, v, swollen, strength=0.95)
            layers.centres.append((u, v))
