"""Cut points against trying all of them, and temperature against scipy's optimiser."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.evaluation.calibration import (
    PLAIN_CUT_POINTS,
    CutPoints,
    apply_cut_points,
    apply_temperature,
    fit_cut_points,
    fit_temperature,
)
from retino_cli.evaluation.metrics import Undefined, round_grade, summarise
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.probability import negative_log_likelihood

Simulate = Callable[..., Predictions]
unhurried = settings(deadline=None)


def of_scores(grade: list[int], score: list[float]) -> Predictions:
    """Predictions with these expected grades."""
    n = len(grade)
    p = np.zeros((n, 5))
    for row, value in enumerate(score):
        below = min(int(value), 3)
        p[row, below], p[row, below + 1] = below + 1 - value, value - below
    ids = np.array([f"{i}" for i in range(n)])
    return Predictions(ids, np.full(n, ""), np.full(n, ""), np.array(grade), p)


def qwk(grade: object, predicted: object) -> float:
    return float(sklearn.metrics.cohen_kappa_score(grade, predicted, weights="quadratic", labels=[0, 1, 2, 3, 4]))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 16)), min_size=2, max_size=7))
def test_no_cut_points_are_better_than_those_found(rows: list[tuple[int, int]]) -> None:
    """All cut points between different scores are tried."""
    grade, score = [g for g, _ in rows], [s / 4 for _, s in rows]
    given = of_scores(grade, score)
    found = fit_cut_points(given)
    if len(set(grade)) == 1:
        assert found == Undefined(f"every image has grade {grade[0]}")
        return
    assert isinstance(found, CutPoints)
    places = sorted({-1.0, *(value + 1 / 8 for value in score)})
    best = -1.0
    for cuts in itertools.combinations_with_replacement(places, 4):
        predicted = np.searchsorted(cuts, score, side="right")
        best = max(best, qwk(grade, predicted))
    assert abs(found.qwk - best) < 1e-9
    assert abs(qwk(grade, apply_cut_points(given.expected_grade, found.values)) - best) < 1e-9


def test_cut_points_on_many_images_are_at_least_as_good_as_rounding_and_a_local_search(simulated: Simulate) -> None:
    given = simulated(3000, seed=1, skill=0.8)
    found = fit_cut_points(given)
    assert isinstance(found, CutPoints)
    assert found.qwk_rounded == summarise(given)["qwk_rounded"]
    assert found.qwk > found.qwk_rounded + 0.005
    assert list(found.values) == sorted(found.values)
    assert found.n_images == 3000

    def loss(cuts: np.ndarray) -> float:
        return -qwk(given.grade, np.searchsorted(np.sort(cuts), given.expected_grade, side="right"))

    searched = scipy.optimize.minimize(loss, PLAIN_CUT_POINTS, method="Nelder-Mead", options={"maxiter": 200})
    assert found.qwk >= -searched.fun - 1e-12


@unhurried
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 4)), min_size=2, max_size=40), st.integers(0, 99))
def test_properties_of_cut_points(rows: list[tuple[int, float]], seed: int) -> None:
    given = of_scores([g for g, _ in rows], [s for _, s in rows])
    found = fit_cut_points(given)
    if isinstance(found, Undefined):
        return
    rounded = summarise(given)["qwk_rounded"]
    assert isinstance(rounded, Undefined) or found.qwk >= rounded
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = fit_cut_points(of_scores([rows[i][0] for i in order], [rows[i][1] for i in order]))
    assert shuffled == found


def test_a_perfect_order_of_scores_gives_one() -> None:
    found = fit_cut_points(of_scores([0, 0, 1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert isinstance(found, CutPoints)
    assert found.qwk == 1
    assert found.values == pytest.approx((0.25, 0.35, 0.45, 0.55), abs=1e-9)


def test_halves_are_rounded_up_and_cut_points_must_rise() -> None:
    score = [0.0, 0.49, 0.5, 1.5, 2.5, 3.5, 4.0]
    assert apply_cut_points(score, PLAIN_CUT_POINTS).tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert round_grade(score).tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert apply_cut_points([0.5], [0.5, 0.5, 0.5, 3]).tolist() == [3]
    for wrong in ([1, 0.5, 2, 3], [0.5, 1.5, 2.5], [0.5, 1.5, 2.5, np.nan]):
        with pytest.raises(ValueError, match="not four cut points"):
            apply_cut_points(score, wrong)


@pytest.mark.parametrize("skill", [0.3, 1.5])
def test_the_temperature_equals_scipy_s(simulated: Simulate, skill: float) -> None:
    given = simulated(800, seed=2, skill=skill)
    sharpened = apply_temperature(given, 0.4)
    found = fit_temperature(sharpened)

    def loss(log_t: float) -> float:
        return negative_log_likelihood(
            sharpened.grade, apply_temperature(sharpened, float(np.exp(log_t))).probabilities
        )

    oracle = scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    assert found.value == pytest.approx(np.exp(oracle.x), rel=1e-5)  # the loss is flat at its minimum
    assert abs(found.nll - oracle.fun) < 1e-9
    assert abs(found.nll_before - negative_log_likelihood(sharpened.grade, sharpened.probabilities)) < 1e-9
    assert abs(loss(np.log(found.value)) - found.nll) < 1e-9
    assert found.nll < found.nll_before
    assert not found.at_limit


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 30), seed=st.integers(0, 99), temperature=st.floats(0.1, 10))
def test_properties_of_temperature(n: int, seed: int, temperature: float, simulated: Simulate) -> None:
    given = simulated(n, seed=seed)
    scaled = apply_temperature(given, temperature)
    np.testing.assert_array_equal(scaled.predicted, given.predicted)
    back = apply_temperature(scaled, 1 / temperature)
    if scaled.probabilities.min() > 1e-12:
        np.testing.assert_allclose(back.probabilities, given.probabilities, atol=1e-6)
    fitted = fit_temperature(given)
    assert fitted.nll <= fitted.nll_before
    assert 0.05 <= fitted.value <= 20
    weights = given.probabilities ** (1 / temperature)
    np.testing.assert_allclose(scaled.probabilities, weights / weights.sum(axis=1, keepdims=True), atol=1e-9)


def test_temperature_at_its_limits() -> None:
    right = of_scores([0, 1, 2], [0.2, 1.1, 2.3])
    fitted = fit_temperature(right)
    assert (fitted.value, fitted.at_limit) == (pytest.approx(0.05, rel=1e-12), True)
    wrong = of_scores([3, 4, 0], [0.2, 1.1, 2.3])
    fitted = fit_temperature(wrong)
    assert (fitted.value, fitted.at_limit) == (pytest.approx(20, rel=1e-12), True)
    certain = of_scores([0, 1], [0.0, 1.0])
    assert fit_temperature(certain).nll < 1e-14
    assert apply_temperature(right, 1.0) is right
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="not positive"):
            apply_temperature(right, bad)
