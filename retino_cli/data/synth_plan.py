"""What a grade shows: the lesions of one synthetic eye, planned by the definitions of the ICDR scale.

Source: Wilkinson et al., "Proposed international clinical diabetic retinopathy and diabetic macular edema disease
severity scales", Ophthalmology 110 (2003) 1677-1682:

- 0, no apparent retinopathy: no abnormalities;
- 1, mild: microaneurysms only;
- 2, moderate: more than just microaneurysms but less than severe;
- 3, severe (the 4-2-1 rule): any of more than 20 intraretinal haemorrhages in each of 4 quadrants, definite venous
  beading in 2 or more quadrants, prominent intraretinal microvascular abnormalities (IRMA) in 1 or more; and no sign of
  grade 4;
- 4, proliferative: neovascularisation, or vitreous or preretinal haemorrhage, or both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Quadrants = tuple[int, int, int, int]
"""One number per quadrant: superior temporal, superior nasal, inferior temporal, inferior nasal."""

NONE: Quadrants = (0, 0, 0, 0)
MANY_HAEMORRHAGES = 21
"""The fewest intraretinal haemorrhages of a quadrant that count as "more than 20"."""


@dataclass(frozen=True)
class LesionPlan:
    """How many lesions of each kind an eye gets."""

    microaneurysms: Quadrants = NONE
    haemorrhages: Quadrants = NONE
    exudate_clusters: int = 0
    cotton_wool_spots: int = 0
    beaded_quadrants: tuple[int, ...] = ()
    irma: Quadrants = NONE
    new_vessels_disc: bool = False
    new_vessels_elsewhere: int = 0
    preretinal_haemorrhages: int = 0
    vitreous_haemorrhage: bool = False

    def grade(self) -> int:
        """The ICDR grade that these lesions mean, read back from the definition."""
        if (
            self.new_vessels_disc
            or self.new_vessels_elsewhere
            or self.preretinal_haemorrhages
            or self.vitreous_haemorrhage
        ):
            return 4
        if min(self.haemorrhages) >= MANY_HAEMORRHAGES or len(self.beaded_quadrants) >= 2 or any(self.irma):
            return 3
        if any(self.haemorrhages) or self.exudate_clusters or self.cotton_wool_spots or self.beaded_quadrants:
            return 2
        return 1 if any(self.microaneurysms) else 0


def plan_lesions(grade: int, rng: np.random.Generator) -> LesionPlan:
    """Draw the lesions of an eye of ``grade`` 0..4; `LesionPlan.grade` of the result is ``grade``."""
    if grade == 0:
        return LesionPlan()
    if grade == 1:
        return LesionPlan(microaneurysms=_spread(rng, int(rng.integers(3, 11))))
    if grade == 2:
        return _moderate(rng)
    if grade == 3:
        return _severe(rng)
    return _proliferative(rng)


def _moderate(rng: np.random.Generator) -> LesionPlan:
    haemorrhages = int(rng.integers(3, 19)) if rng.random() < 0.85 else 0
    clusters = int(rng.integers(1, 5)) if rng.random() < 0.55 else 0
    spots = int(rng.integers(1, 4)) if rng.random() < 0.3 else 0
    if not (haemorrhages or clusters or spots):
        haemorrhages = int(rng.integers(3, 19))
    return LesionPlan(
        microaneurysms=_spread(rng, int(rng.integers(5, 19))),
        haemorrhages=_spread(rng, haemorrhages),
        exudate_clusters=clusters,
        cotton_wool_spots=spots,
    )


def _severe(rng: np.random.Generator) -> LesionPlan:
    many, beading, irma = (rng.random(3) < (0.7, 0.5, 0.5)).tolist()
    if not (many or beading or irma):
        many = True
    bleeding = rng.integers(MANY_HAEMORRHAGES, 34, 4) if many else rng.integers(5, 19, 4)
    prominent = rng.permutation((1, int(rng.integers(0, 2)), int(rng.integers(0, 2)), 0)) if irma else np.zeros(4, int)
    return LesionPlan(
        microaneurysms=_spread(rng, int(rng.integers(12, 40))),
        haemorrhages=_four(bleeding),
        exudate_clusters=int(rng.integers(0, 6)),
        cotton_wool_spots=int(rng.integers(0, 6)),
        beaded_quadrants=_some_quadrants(rng, int(rng.integers(2, 5))) if beading else (),
        irma=_four(prominent * rng.integers(2, 5, 4)),
    )


def _proliferative(rng: np.random.Generator) -> LesionPlan:
    disc, elsewhere, preretinal = (rng.random(3) < (0.5, 0.6, 0.45)).tolist()
    if not (disc or elsewhere or preretinal):
        elsewhere = True
    beading = rng.random() < 0.3
    return LesionPlan(
        microaneurysms=_spread(rng, int(rng.integers(8, 35))),
        haemorrhages=_four(rng.integers(1, 16, 4)),
        exudate_clusters=int(rng.integers(0, 6)),
        cotton_wool_spots=int(rng.integers(0, 5)),
        beaded_quadrants=_some_quadrants(rng, int(rng.integers(1, 4))) if beading else (),
        irma=_four((rng.random(4) < 0.15) * rng.integers(2, 5, 4)),
        new_vessels_disc=disc,
        new_vessels_elsewhere=int(rng.integers(1, 4)) if elsewhere else 0,
        preretinal_haemorrhages=int(rng.integers(1, 3)) if preretinal else 0,
        vitreous_haemorrhage=bool(rng.random() < 0.2),
    )


def _spread(rng: np.random.Generator, count: int) -> Quadrants:
    """Share ``count`` lesions out unevenly among the quadrants."""
    return _four(rng.multinomial(count, rng.dirichlet((2.0, 2.0, 2.0, 2.0))))


def _some_quadrants(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    return tuple(sorted(int(q) for q in rng.permutation(4)[:count]))


def _four(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Quadrants:
    a, b, c, d = (int(n) for n in counts)
    return a, b, c, d
