"""What is fitted on validation and applied to test: cut points on the expected grade, and a temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.confusion import confusion_matrix, quadratic_weighted_kappa
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.probability import NLL_FLOOR
from retino_cli.grades import GRADES, N_GRADES

Array = npt.NDArray[np.float64]

PLAIN_CUT_POINTS: Final = (0.5, 1.5, 2.5, 3.5)
"""Rounding, halves up."""

TEMPERATURES: Final = (0.05, 20.0)
"""The range that a temperature is looked for in."""

_LOWEST, _HIGHEST = -0.5, 4.5  # stand for "below every score" and "above every score" when a gap's middle is taken


@dataclass(frozen=True)
class CutPoints:
    """Four thresholds on the expected grade, not decreasing, with the QWK on the ``n_images`` they were fitted on.

    ``qwk_rounded`` is the QWK there of the plain cut points 0.5, 1.5, 2.5, 3.5.
    """

    values: tuple[float, float, float, float]
    qwk: float
    qwk_rounded: float
    n_images: int


def apply_cut_points(expected_grade: npt.ArrayLike, cut_points: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The grade of each expected grade: how many of the four cut points are not above it. (N,), (4,) -> (N,) in 0..4.

    Raises ``ValueError`` unless there are four finite cut points that do not decrease.
    """
    cuts = np.asarray(cut_points, dtype=np.float64)
    if cuts.shape != (N_GRADES - 1,) or not np.isfinite(cuts).all() or (np.diff(cuts) < 0).any():
        raise ValueError(f"{cuts.tolist()} are not four cut points in increasing order")
    return np.searchsorted(cuts, np.asarray(expected_grade, dtype=np.float64), side="right").astype(np.int64)


def fit_cut_points(predictions: Predictions) -> CutPoints | Undefined:
    """The four cut points on the expected grade with the highest QWK on ``predictions``, found exactly.

    QWK = 1 - D / E. The observed disagreement D and the expected one E both change by a fixed amount for each image
    that a cut point lets pass, so that each is a sum of four functions, of one cut point each. For a given ratio r, the
    cut points t1 <= t2 <= t3 <= t4 that minimise D - r E follow from four running minima; with r set to the ratio they
    reach, and again until it stays (Dinkelbach's method), this is the global optimum: no search that can get stuck.
    Cut points lie midway between neighbouring scores, so that equal scores get equal grades. The QWK is never below
    that of 0.5, 1.5, 2.5, 3.5 on the same images.

    Fit on validation only. ``Undefined`` where all images have one grade. O(N log N).
    Source of the method: Dinkelbach, "On nonlinear fractional programming", Management Science 13 (1967) 492-498.
    """
    grade, score = predictions.grade, predictions.expected_grade
    if len(np.unique(grade)) == 1:
        return Undefined(f"every image has grade {int(grade[0])}")
    n = len(grade)
    values, inverse = np.unique(score, return_inverse=True)
    counts = np.bincount(inverse * N_GRADES + grade, minlength=len(values) * N_GRADES).reshape(-1, N_GRADES)
    # (M + 1, 5): images per true grade that score at least values[c]; candidate c lets exactly these pass.
    passing = np.concatenate([np.cumsum(counts[::-1], axis=0)[::-1], np.zeros((1, N_GRADES), dtype=np.int64)])
    true_counts = counts.sum(axis=0)
    grades = np.asarray(GRADES)
    # Passing cut point j, from grade j - 1 to j, adds (i - j)^2 - (i - j + 1)^2 = 2 (j - i) - 1 for true grade i.
    steps = 2 * (grades[1:, None] - grades[None, :]) - 1  # (4, 5)
    observed = passing @ steps.T * n  # (M + 1, 4): n D, so that all are whole numbers
    expected = passing.sum(axis=1)[:, None] * (steps @ true_counts)[None, :]
    base_observed, base_expected = n * int((true_counts * grades**2).sum()), n * int((true_counts * grades**2).sum())

    def disagreement(chosen: npt.NDArray[np.int64]) -> float:
        places = np.arange(N_GRADES - 1)
        top = base_observed + int(observed[chosen, places].sum())
        bottom = base_expected + int(expected[chosen, places].sum())
        return top / bottom if bottom > 0 else math.inf

    plain = np.searchsorted(values, PLAIN_CUT_POINTS, side="left")
    best, ratio = plain, disagreement(plain)
    while True:
        found = _minimise(observed - (0.0 if math.isinf(ratio) else ratio) * expected)
        reached = disagreement(found)
        if not reached < ratio:
            break
        best, ratio = found, reached
    cuts = _midpoints(values, best)
    return CutPoints(cuts, _qwk(grade, score, cuts), _qwk(grade, score, PLAIN_CUT_POINTS), n)


def _minimise(costs: Array) -> npt.NDArray[np.int64]:
    """The candidates c1 <= c2 <= c3 <= c4 with the least sum of costs[c_j, j]. (M + 1, 4) -> (4,)."""
    n_candidates, n_cuts = costs.shape
    best = np.zeros(n_candidates)
    origins = []
    for cut in range(n_cuts):
        total = costs[:, cut] + best
        best = np.minimum.accumulate(total)  # the best place for cuts 0..cut at or before each candidate
        is_new = np.concatenate([[True], total[1:] < best[:-1]])
        origins.append(np.maximum.accumulate(np.where(is_new, np.arange(n_candidates), 0)))
    chosen = np.empty(n_cuts, dtype=np.int64)
    place = n_candidates - 1
    for cut in reversed(range(n_cuts)):
        place = chosen[cut] = origins[cut][place]
    return chosen


def _midpoints(values: Array, chosen: npt.NDArray[np.int64]) -> tuple[float, float, float, float]:
    """The middle between the scores on both sides of each candidate."""
    padded = np.concatenate([[_LOWEST], values, [_HIGHEST]])
    below, above = padded[chosen], padded[chosen + 1]
    middle = (below + above) / 2.0
    # Between two neighbouring floats there is no middle: the upper one lets the same images pass.
    a, b, c, d = np.where(middle > below, middle, above).tolist()
    return a, b, c, d


def _qwk(grade: npt.NDArray[np.int64], score: Array, cuts: npt.ArrayLike) -> float:
    return float(quadratic_weighted_kappa(confusion_matrix(grade, apply_cut_points(score, cuts))))


@dataclass(frozen=True)
class Temperature:
    """``value`` > 1 makes probabilities milder, < 1 sharper. ``nll`` and ``nll_before`` on the fitting images.

    ``at_limit``: the optimum lies outside 0.05..20 (where all are right, for instance, ever sharper ones are better).
    """

    value: float
    nll: float
    nll_before: float
    n_images: int
    at_limit: bool


def apply_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Predictions with p_k^(1/T) / sum_j p_j^(1/T): softmax of the logits over T, the logits being log p.

    Probabilities below 2^-52 count as it. T = 1 changes nothing; the most probable grade never changes, except that
    grades below 2^-52 may tie. Raises ``ValueError`` unless T is finite and > 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"a temperature of {temperature} is not positive")
    if temperature == 1.0:
        return predictions
    logits = _logits(predictions.probabilities) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        image_id=predictions.image_id,
        patient_id=predictions.patient_id,
        eye=predictions.eye,
        grade=predictions.grade,
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


def fit_temperature(predictions: Predictions) -> Temperature:
    """The temperature in 0.05..20 with the least log-loss on ``predictions``.

    The log-loss is convex in b = 1 / T: its slope, mean(sum_k q_k l_k - l_grade) with l = log p and q = softmax(b l),
    only rises, and its zero is found by bisection on log T. Fit on validation only.
    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    logits = _logits(predictions.probabilities)
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(logits)), predictions.grade]

    def slope(log_t: float) -> float:
        weights = np.exp(logits * math.exp(-log_t))
        mean_logit = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return math.fsum((mean_logit - own).tolist())

    def loss(log_t: float) -> float:
        scaled = logits * math.exp(-log_t)
        return math.fsum((np.log(np.exp(scaled).sum(axis=1)) - own * math.exp(-log_t)).tolist()) / len(own)

    low, high = (math.log(limit) for limit in TEMPERATURES)
    # A positive slope in b asks for a smaller b, a higher temperature.
    if slope(low) <= 0:
        fitted = low
    elif slope(high) >= 0:
        fitted = high
    else:
        while high - low > 1e-12:
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
        fitted = (low + high) / 2
    value = math.exp(fitted)
    at_limit = fitted in (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    before, after = loss(0.0), loss(fitted)
    if not after < before:  # nothing gained: leave the probabilities alone
        return Temperature(1.0, before, before, len(own), False)
    return Temperature(value, after, before, len(own), at_limit)


def _logits(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, NLL_FLOOR))
