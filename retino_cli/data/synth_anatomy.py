"""The healthy part of a synthetic eye: what a patient's eyes share, where things lie, and the vessel tree.

Proportions follow a 45-degree photograph centred on the macula: the optic disc is 0.26 to 0.31 field radii across
(1.5 mm), the fovea lies 2.5 disc diameters temporal to the disc and a little lower, the large veins are about 125 um
wide at the disc's edge (ETDRS report 10, Ophthalmology 98 (1991) 786-806) and a third wider than the arteries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retino_cli.data.synth_canvas import Canvas, Points, View, unit_steps, wavy

Pair = tuple[float, float]
Kind = Literal["vein", "artery"]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Traits:
    """What both eyes of a patient share: pigment, anatomy, and the camera that they sat at."""

    colour: Colour
    """Reflected light of the bare fundus, RGB in 0..1."""
    tessellation: float
    """How far the choroidal vessels shine through, 0..1."""
    mottling: float
    disc_size: float
    cup: float
    """Diameter of the cup over that of the disc."""
    crescent: float
    """Strength of the pale crescent temporal to the disc, 0..1."""
    tortuosity: float
    vessel_width: float
    """Width of the large veins at the disc, in field radii."""
    sheen: float
    """Silvery reflexes of a young retina, 0..1."""
    drusen: int
    """Pale spots that are no sign of diabetic retinopathy."""
    aspect: float
    """Height of the frame over its width."""
    fill: float
    """Diameter of the field over the shorter side of the frame; above 1 the frame cuts it."""
    notch: bool
    tint: Colour
    """White balance of the camera."""


@dataclass(frozen=True)
class Vessel:
    """One unbranched piece: (n, 2) retinal points and (n,) widths in field radii."""

    points: Points
    widths: Points
    kind: Kind


@dataclass(frozen=True)
class Anatomy:
    """Where the landmarks of one eye lie, in retinal coordinates."""

    disc: Pair
    disc_radii: Pair
    fovea: Pair
    vessels: tuple[Vessel, ...]


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw what the two eyes of one patient have in common."""
    # Median colours of real photographs (IDRiD): red 0.37-0.81, green/red 0.32-0.59, blue/green 0-0.68, the last two
    # correlated.
    paleness = float(np.clip(rng.normal(0.5, 0.32), 0.0, 1.0))
    red = float(np.clip(0.60 + 0.22 * paleness + rng.normal(0, 0.06), 0.36, 0.84))
    green = red * float(np.clip(0.40 + 0.17 * paleness + rng.normal(0, 0.035), 0.30, 0.59))
    blue = green * float(np.clip(0.10 + 0.46 * paleness + rng.normal(0, 0.13), 0.04, 0.68))
    framing = ((1.0, 0.93), (0.86, 1.04), (0.75, 1.10), (0.667, 1.18))[int(rng.choice(4, p=(0.3, 0.25, 0.25, 0.2)))]
    return Traits(
        colour=(red, green, blue),
        tessellation=float(max(0.0, rng.normal(-0.15, 0.5))),
        mottling=float(rng.uniform(0.4, 1.0)),
        disc_size=float(rng.uniform(0.26, 0.31)),
        cup=float(np.clip(rng.normal(0.42, 0.12), 0.15, 0.75)),
        crescent=float(max(0.0, rng.normal(0.0, 0.45))),
        tortuosity=float(rng.uniform(0.5, 1.5)),
        vessel_width=float(rng.uniform(0.030, 0.038)),
        sheen=float(max(0.0, rng.normal(-0.2, 0.5))),
        drusen=int(rng.integers(4, 30)) if rng.random() < 0.15 else 0,
        aspect=framing[0],
        fill=framing[1] * float(rng.uniform(0.95, 1.03)),
        notch=bool(rng.random() < 0.4),
        tint=(1.0, float(rng.uniform(0.94, 1.06)), float(rng.uniform(0.8, 1.25))),
    )


def frame_view(rng: np.random.Generator, traits: Traits, *, size: int, mirrored: bool) -> View:
    """Point the camera: the picture is ``size`` wide, and its field is never quite in the middle."""
    height = max(1, round(size * traits.aspect))
    radius = traits.fill * min(size, height) / 2
    radius = min(radius, 0.49 * size)
    slack = 0.01 * size
    centre = (size / 2 + float(rng.uniform(-slack, slack)), height / 2 + float(rng.uniform(-slack, slack)))
    angle = float(np.clip(rng.normal(0, 0.06), -0.15, 0.15))
    shift = (float(rng.normal(0, 0.035)), float(rng.normal(0, 0.035)))
    return View(size, height, centre, radius, mirrored, angle, shift)


def grow_anatomy(rng: np.random.Generator, traits: Traits) -> Anatomy:
    """Place disc and fovea and grow the vessel tree of one eye."""
    disc = (0.56 + float(rng.normal(0, 0.03)), float(rng.normal(0.0, 0.03)))
    tall = traits.disc_size / 2 * float(rng.uniform(1.0, 1.08))
    wide = traits.disc_size / 2 * float(rng.uniform(0.9, 1.0))
    fovea = (disc[0] - 2.45 * traits.disc_size - float(rng.normal(0, 0.015)), disc[1] + float(rng.uniform(0.02, 0.09)))
    vessels: list[Vessel] = []
    kinds: tuple[tuple[Kind, float], ...] = (("vein", 1.0), ("artery", 0.72))
    for kind, share in kinds:
        width = traits.vessel_width * share
        for side in (-1.0, 1.0):
            # Temporal arcades: half ellipses around the macula that leave the disc upright and run out to the raphe.
            rise, reach = float(rng.uniform(0.56, 0.74)), float(rng.uniform(0.85, 1.15))
            if kind == "artery":
                rise *= float(rng.uniform(0.86, 1.0))
            t = np.linspace(0, float(rng.uniform(1.9, 2.4)), 75)
            start = disc[0] + float(rng.normal(0.0, 0.010)) + (0.014 if kind == "vein" else -0.012)
            arcade = np.stack(
                [start + 0.06 * np.sin(2 * t) - reach * (1 - np.cos(t)), disc[1] + side * rise * np.sin(t)], axis=1
            )
            trunks = [(arcade, width)]
            # Nasal vessels: a steep one that curves away and a flatter, thinner one.
            for steep, thin in ((1.15, 0.72), (0.45, 0.55)):
                heading = side * (steep + float(rng.normal(0, 0.14)))
                bend = -side * float(rng.uniform(0.0, 0.7))
                trunks.append((_path((start, disc[1]), heading, heading + bend, 1.1), width * thin))
            for trunk, thickness in trunks:
                vessels += _branch(rng, trunk, thickness, kind, traits.tortuosity, fovea, level=0)
    for _ in range(int(rng.integers(4, 8))):  # fine vessels that leave the disc by themselves
        heading = float(rng.uniform(-np.pi, np.pi))
        start_point = (disc[0] + 0.06 * math.cos(heading), disc[1] + 0.06 * math.sin(heading))
        twig = _path(start_point, heading, heading + float(rng.normal(0, 0.5)), float(rng.uniform(0.25, 0.5)))
        vessels += _branch(rng, twig, traits.vessel_width * 0.25, "artery", traits.tortuosity, fovea, level=2)
    vessels.sort(key=lambda vessel: float(vessel.widths[0]))  # wide ones are drawn over thin ones
    return Anatomy(disc, (wide, tall), fovea, tuple(vessels))


def _path(start: Pair, heading: float, final: float, length: float) -> Points:
    """A path of ``length`` that leaves at ``heading`` and turns to ``final`` (radians from the nasal direction)."""
    n = max(6, round(length / 0.025))
    turn = final + (heading - final) * np.exp(-3.0 * unit_steps(n))
    path = np.empty((n, 2))
    path[0] = start
    path[1:, 0] = start[0] + length / n * np.cumsum(np.cos(turn[:-1]))
    path[1:, 1] = start[1] + length / n * np.cumsum(np.sin(turn[:-1]))
    return path


def _branch(
    rng: np.random.Generator,
    path: Points,
    width: float,
    kind: Kind,
    tortuosity: float,
    fovea: Pair,
    *,
    level: int,
) -> list[Vessel]:
    """Bend ``path``, cut it where it would leave the field or enter the fovea, and let branches grow from it."""
    legs = path[1:] - path[:-1]
    length = float(np.sqrt((legs * legs).sum(axis=1)).sum())
    points = wavy(path, rng, amplitude=0.030 * tortuosity * min(1.0, length), waves=(1.0, 2.3, 4.7, 8.9))
    from_fovea = points - np.array(fovea)
    stop = np.flatnonzero(((points * points).sum(axis=1) > 1.2**2) | ((from_fovea * from_fovea).sum(axis=1) < 0.13**2))
    if len(stop):
        points = points[: int(stop[0])]
    if len(points) < 4:
        return []
    taper = 1.0 - (0.7 if level == 0 else 0.5) * unit_steps(len(path))[: len(points)]
    vessels = [Vessel(points, width * taper, kind)]
    if level >= 3 or width < 0.006:
        return vessels
    spacing = (0.20, 0.22, 0.26, 1.0)[level]
    count = int(rng.poisson(length * len(points) / len(path) / spacing))
    for position in np.sort(rng.uniform(0.12, 0.95, count)):
        i = min(int(position * len(points)), len(points) - 2)
        direction = points[i + 1] - points[i]
        heading = math.atan2(float(direction[1]), float(direction[0]))
        side = 1.0 if rng.random() < 0.5 else -1.0
        leave = heading + side * float(rng.uniform(0.6, 1.3))
        final = heading + side * float(rng.uniform(-0.2, 0.9))
        reach = float(rng.uniform(0.35, 0.95)) * (1.0, 0.6, 0.4)[level]
        thin = float(width * taper[i] * rng.uniform(0.35, 0.7))
        start = (float(points[i, 0]), float(points[i, 1]))
        vessels += _branch(rng, _path(start, leave, final, reach), thin, kind, tortuosity, fovea, level=level + 1)
    return vessels


def quadrant_of(points: Points) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Quadrant 0..3 of (n, 2) retinal points: superior temporal, superior nasal, inferior temporal, inferior nasal.

    Quadrants meet at the centre of the field, so that each holds a quarter of what the photograph shows.
    """
    return (2 * (points[:, 1] > 0) + (points[:, 0] > 0)).astype(np.int64)


def stroke_vessels(anatomy: Anatomy, veins: Canvas, arteries: Canvas, reflex: Canvas) -> None:
    """Draw the tree: veins, arteries, and the bright line that light leaves along the wider ones."""
    for vessel in anatomy.vessels:
        canvas = veins if vessel.kind == "vein" else arteries
        # A thin vessel holds less blood for the light to pass.
        canvas.stroke(vessel.points, vessel.widths, strength=min(1.0, 0.35 + 26 * float(vessel.widths.mean())))
        if vessel.widths[0] > 0.014:
            reflex.stroke(vessel.points, vessel.widths * 0.3, strength=0.9 if vessel.kind == "artery" else 0.4)
