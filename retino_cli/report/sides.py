"""The sides of a comparison: its runs, or its groups of runs, each with a letter and a look of its own."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.judged import Judged
from retino_cli.report.charts import N_STYLES
from retino_cli.report.markup import Html, element


@dataclass(frozen=True)
class Side:
    """``members`` are places of runs. ``letter`` stands for the name where there is little room; ``look`` is its
    colour in charts."""

    letter: str
    label: str
    members: tuple[int, ...]
    look: int


def list_sides(comparison: Comparison) -> tuple[Side, ...]:
    """One side for every group where there are several, else for every run: what the places of pairs mean."""
    if len(comparison.groups) > 1:
        found = [(group.label, group.members) for group in comparison.groups]
    else:
        found = [(run.label, (place,)) for place, run in enumerate(comparison.runs)]
    return tuple(
        Side(_letter(place), label, tuple(members), place % N_STYLES) for place, (label, members) in enumerate(found)
    )


def badge(side: Side) -> Html:
    """The letter in the side's colour."""
    return element("b", side.letter, class_=f"side s{side.look + 1}")


def mean_matrix(comparison: Comparison, side: Side) -> npt.NDArray[np.float64] | None:
    """(5, 5) images by true and predicted grade, the mean over the side's runs; None where one has no grades."""
    matrices = [comparison.runs[place].confusion for place in side.members]
    if any(matrix is None for matrix in matrices):
        return None
    return np.asarray(np.mean(np.stack([np.asarray(one, dtype=np.float64) for one in matrices]), axis=0))


def sorted_probabilities(judged: Sequence[Judged], side: Side) -> npt.NDArray[np.float64] | None:
    """(N, 5) mean probabilities of the side's runs, rows in the order of the image ids; None where one has none."""
    found = []
    for place in side.members:
        one = judged[place]
        if one.probabilities is None:
            return None
        found.append(one.probabilities[np.argsort(one.image_id, kind="stable")])
    return np.asarray(np.mean(np.stack(found), axis=0))


def _letter(place: int) -> str:
    letters = string.ascii_uppercase
    return letters[place % len(letters)] + (str(place // len(letters) + 1) if place >= len(letters) else "")
