"""Deals grades to the eyes of synthetic patients, so that even a small data set has the distribution asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retino_cli.errors import UsageError
from retino_cli.grades import N_GRADES

EYEPACS_DISTRIBUTION: Final = (0.735, 0.070, 0.151, 0.025, 0.020)
"""Shares of the grades among the 35,126 training images of Kaggle EyePACS (25810, 2443, 5292, 873, 708)."""

DISCORDANT: Final = 0.13
"""Share of patients whose eyes differ in grade: 2,240 of 17,563 in the same images."""

# Patients by the grades of their two eyes, of those whose eyes differ, counted in the same images.
_PAIRS: Final = {
    (0, 1): 842, (0, 2): 631, (0, 3): 6, (0, 4): 21, (1, 2): 393,
    (1, 3): 3, (1, 4): 5, (2, 3): 183, (2, 4): 89, (3, 4): 67,
}  # fmt: skip


def count_grades(eyes: int, distribution: Sequence[float]) -> NDArray[np.int64]:
    """(5,) number of eyes of each grade: exact shares, rounded by largest remainder.

    A grade with a share above zero gets at least one eye, taken from the most frequent grade, if there are as many
    eyes as such grades. ``distribution`` sums to 1.
    """
    exact = np.asarray(distribution, dtype=np.float64) * eyes
    counts = np.floor(exact + 1e-9).astype(np.int64)
    rest = eyes - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    wanted = [grade for grade in range(N_GRADES) if distribution[grade] > 0]
    if eyes >= len(wanted):
        for grade in wanted:
            if counts[grade] == 0:
                counts[int(np.argmax(counts))] -= 1
                counts[grade] = 1
    return counts


def deal_grades(rng: np.random.Generator, patients: int, distribution: Sequence[float]) -> NDArray[np.int64]:
    """(patients, 2) grades of left and right eyes.

    Over all eyes the counts are exactly those of `count_grades`. Both eyes of a patient have the same grade in about
    87 % of patients, and where they differ, each pair of grades is as frequent as in EyePACS, so far as the counts
    allow: a grade with an odd number of eyes is always in at least one unequal pair.
    """
    counts = count_grades(2 * patients, distribution)
    odd = np.flatnonzero(counts % 2).tolist()
    unequal: list[tuple[int, int]] = list(zip(odd[::2], odd[1::2], strict=True))
    equal = counts // 2
    while len(unequal) + 2 <= round(DISCORDANT * patients):
        possible = [pair for pair in _PAIRS if equal[pair[0]] > 0 and equal[pair[1]] > 0]
        if not possible:
            break
        weights = np.array([_PAIRS[pair] for pair in possible], dtype=np.float64)
        a, b = possible[int(rng.choice(len(possible), p=weights / weights.sum()))]
        # Two patients of equal eyes (a, a) and (b, b) become two of unequal ones: no grade's count changes.
        equal[[a, b]] -= 1
        unequal += [(a, b), (a, b)]
    pairs = np.array([(g, g) for g in range(N_GRADES) for _ in range(int(equal[g]))] + unequal, dtype=np.int64)
    pairs = rng.permutation(pairs.reshape(-1, 2), axis=0)
    swap = rng.random(len(pairs)) < 0.5
    pairs[swap] = pairs[swap][:, ::-1]
    return pairs


def normalised(distribution: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to 1."""
    total = sum(distribution)
    return tuple(share / total for share in distribution)


def check_distribution(distribution: Sequence[float]) -> tuple[float, ...]:
    """Five shares that sum to 1.

    Raises:
        UsageError: they are not five, or one is negative, or all are zero.
    """
    shares = [float(share) for share in distribution]
    right = len(shares) == N_GRADES and all(math.isfinite(share) and share >= 0 for share in shares) and sum(shares) > 0
    if not right:
        raise UsageError(
            f"--grade-distribution {','.join(f'{share:g}' for share in shares)}: must be five shares of the grades "
            "0 to 4, none negative and not all zero",
            hint=f"EyePACS is {','.join(map(str, EYEPACS_DISTRIBUTION))}",
        )
    return normalised(shares)
