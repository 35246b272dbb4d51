"""Lesions as they are drawn onto a photograph: sizes and strengths nearer to real ones than those of `synth_lesions`.

Synthetic eyes are made to be looked at at any size, so their lesions are large and clear. Here they range from barely
visible to plain, and from small to large, each eye with its own scale. What each kind looks like is in `synth_lesions`.
Sizes are in field radii, about 22.5 degrees: 0.29 is one disc diameter (1.5 mm).
"""

from __future__ import annotations

import math

import numpy as np

from retino_cli.data.synth_anatomy import Anatomy
from retino_cli.data.synth_canvas import View, blob
from retino_cli.data.synth_lesions import LesionLayers, Places, draw_boat, draw_irma, draw_new_vessels
from retino_cli.data.synth_plan import LesionPlan


def draw_varied_lesions(plan: LesionPlan, rng: np.random.Generator, view: View, anatomy: Anatomy) -> LesionLayers:
    """Draw every lesion of ``plan`` where the camera sees it.

    Beading is left out: it belongs to veins, and those of a photograph are not known. ``anatomy`` needs no vessels.
    """
    return _Pen(rng, view, anatomy).draw(plan)


class _Pen:
    """Draws the lesions of one eye, which share a contrast and a scale."""

    def __init__(self, rng: np.random.Generator, view: View, anatomy: Anatomy) -> None:
        self.rng, self.view, self.anatomy = rng, view, anatomy
        self.layers = LesionLayers(view)
        self.places = Places(rng, view, anatomy)
        self.contrast = self._between(0.25, 0.9)
        self.scale = float(np.exp(rng.normal(0, 0.25)))

    def draw(self, plan: LesionPlan) -> LesionLayers:
        for quadrant in range(4):
            for _ in range(plan.haemorrhages[quadrant]):
                self._haemorrhage(quadrant)
            for _ in range(plan.microaneurysms[quadrant]):
                u, v = self.places.find(quadrant, reach=0.85)
                diameter = self.scale * self._between(0.009, 0.02)
                self.layers.blood.spot(u, v, diameter, strength=min(1.0, self.contrast * self._between(0.7, 1.3)))
            for _ in range(plan.irma[quadrant]):
                draw_irma(self.layers, self.rng, self.places, quadrant)
        strength = self._between(0.3, 1.0)
        # Half of the eyes have twice as many clusters: photographs show more of them than the plan's numbers.
        for _ in range(plan.exudate_clusters * (1 + int(self.rng.random() < 0.5))):
            self._exudates(strength)
        for _ in range(plan.cotton_wool_spots):
            self._cotton_wool()
        if plan.new_vessels_disc:
            draw_new_vessels(self.layers, self.rng, self.anatomy.disc, self._between(0.12, 0.3))
        for _ in range(plan.new_vessels_elsewhere):
            draw_new_vessels(self.layers, self.rng, self.places.find(None, reach=0.8), self._between(0.07, 0.2))
        for _ in range(plan.preretinal_haemorrhages):
            self._preretinal()
        return self.layers

    def _between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _haemorrhage(self, quadrant: int) -> None:
        """A dot, a blot, or a flame that follows the nerve fibres."""
        rng = self.rng
        u, v = self.places.find(quadrant, reach=0.92)
        strength = min(1.0, self.contrast * self._between(0.5, 1.3))
        kind = rng.random()
        if kind < 0.6:
            outline = blob(rng, u, v, self.scale * self._between(0.014, 0.034), ragged=0.15)
        elif kind < 0.85:
            size = self.scale * (0.03 + float(rng.exponential(0.016)))
            stretch, angle = self._between(1, 1.6), self._between(0, 3.14)
            outline = blob(rng, u, v, size, ragged=0.25, stretch=stretch, angle=angle)
        else:
            along = math.atan2(v - self.anatomy.disc[1], u - self.anatomy.disc[0])
            size, stretch = self.scale * self._between(0.02, 0.04), self._between(1.8, 3.5)
            outline = blob(rng, u, v, size, ragged=0.35, stretch=stretch, angle=along)
        self.layers.blood.polygon(outline, strength=strength)

    def _exudates(self, strength: float) -> None:
        """A cluster of hard exudates: a ring around a leak, or a patch; mostly near the macula."""
        rng = self.rng
        if rng.random() < 0.6:
            turn, distance = self._between(0, 6.28), self._between(0.05, 0.5)
            fovea = self.anatomy.fovea
            centre = (fovea[0] + distance * math.cos(turn), fovea[1] + distance * math.sin(turn))
            if not self.view.shows(*centre):
                centre = self.places.find(None, reach=0.8)
        else:
            centre = self.places.find(None, reach=0.85)
        extent = self._between(0.03, 0.2)
        ring = rng.random() < 0.3
        for _ in range(int(rng.integers(3, 50))):
            turn = self._between(0, 6.28)
            away = extent * (float(rng.normal(1, 0.12)) if ring else abs(float(rng.normal(0, 0.7))))
            u, v = centre[0] + away * math.cos(turn), centre[1] + away * math.sin(turn)
            size = min(self.scale * (0.005 + float(rng.exponential(0.006))), 0.05)
            outline = blob(rng, u, v, size, ragged=0.3)
            self.layers.exudate.polygon(outline, strength=min(1.0, strength * self._between(0.5, 1.3)))

    def _cotton_wool(self) -> None:
        u, v = self.places.find(None, reach=0.75)
        size, stretch, angle = self._between(0.04, 0.12), self._between(1, 1.8), self._between(0, 3.14)
        outline = blob(self.rng, u, v, size, ragged=0.3, stretch=stretch, angle=angle)
        self.layers.cotton.polygon(outline, strength=self._between(0.3, 0.9))

    def _preretinal(self) -> None:
        """Blood before the retina: settled with a level top, or a ragged pool."""
        if self.rng.random() < 0.5:
            draw_boat(self.layers, self.rng, self.places.find(None, reach=0.8))
            return
        u, v = self.places.find(None, reach=0.85)
        size, stretch, angle = self._between(0.08, 0.25), self._between(1, 2.2), self._between(0, 3.14)
        self.layers.pool.polygon(blob(self.rng, u, v, size, ragged=0.35, stretch=stretch, angle=angle))
