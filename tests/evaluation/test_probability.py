"""Brier score, log-loss and calibration error against scikit-learn, scipy and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.probability import (
    N_BINS,
    Binning,
    brier_score,
    confidence_bins,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    wilson_interval,
)

Simulate = Callable[..., Predictions]
Array = npt.NDArray[np.float64]
unhurried = settings(deadline=None)


@st.composite
def judged(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], Array]:
    """True grades, and probabilities in steps of 1/8 with many ties, or of any value."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.multinomial(8, np.ones(5) / 5, size=n) / 8 if draw(st.booleans()) else rng.dirichlet(np.ones(5), n)
    return rng.integers(0, 5, n), p


@unhurried
@given(judged())
def test_brier_and_log_loss_equal_scikit_learn(drawn: tuple[npt.NDArray[np.int64], Array]) -> None:
    grade, p = drawn
    ours = brier_score(grade, p)
    oracle = sklearn.metrics.brier_score_loss(grade, p, labels=[0, 1, 2, 3, 4], scale_by_half=False)
    assert abs(ours - oracle) < 1e-9
    assert abs(negative_log_likelihood(grade, p) - sklearn.metrics.log_loss(grade, p, labels=[0, 1, 2, 3, 4])) < 1e-9


def test_one_certain_and_wrong_image_costs_a_finite_amount() -> None:
    p = [[1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0]]
    assert negative_log_likelihood([0, 1], p) == pytest.approx(52 * math.log(2) / 2, abs=1e-12)
    assert str(negative_log_likelihood([0, 0], p)) == "0.0"


def loop_ece(grade: npt.NDArray[np.int64], p: Array, binning: Binning) -> float:
    """The definition, image by image."""
    n, members = len(grade), [[] for _ in range(N_BINS)]  # type: ignore[var-annotated]  # lists of pairs
    confidences = p.max(axis=1)
    ranks = scipy.stats.rankdata(confidences)
    for i, confidence in enumerate(confidences):
        if binning == "equal_width":
            place = next(b for b in range(N_BINS) if confidence <= (b + 1) / N_BINS + 1e-15)
        else:
            place = math.floor(N_BINS * (ranks[i] - 0.5) / n + 1e-12)
        members[place].append((confidence, float(np.argmax(p[i]) == grade[i])))
    total = 0.0
    for group in members:
        if group:
            mean = np.mean(group, axis=0)
            total += len(group) / n * abs(mean[1] - mean[0])
    return total


@unhurried
@given(judged(), st.sampled_from(["equal_width", "equal_mass"]))
def test_the_calibration_error_equals_a_plain_loop(
    drawn: tuple[npt.NDArray[np.int64], Array], binning: Binning
) -> None:
    grade, p = drawn
    assert abs(expected_calibration_error(grade, p, binning=binning) - loop_ece(grade, p, binning)) < 1e-9


@unhurried
@given(judged(), st.sampled_from(["equal_width", "equal_mass"]), st.randoms(use_true_random=False))
def test_the_order_of_images_changes_no_digit(
    drawn: tuple[npt.NDArray[np.int64], Array], binning: Binning, random: object
) -> None:
    grade, p = drawn
    order = np.arange(len(grade))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis types it as random.Random
    assert brier_score(grade[order], p[order]) == brier_score(grade, p)
    assert negative_log_likelihood(grade[order], p[order]) == negative_log_likelihood(grade, p)
    ours = expected_calibration_error(grade, p, binning=binning)
    assert expected_calibration_error(grade[order], p[order], binning=binning) == ours


def test_bins_of_equal_mass_hold_equally_many_images(simulated: Simulate) -> None:
    p = simulated(1000).probabilities
    counts = np.bincount(confidence_bins(p, binning="equal_mass"), minlength=N_BINS)
    assert set(counts.tolist()) <= {66, 67}
    tied = confidence_bins(np.tile([[0.5, 0.5, 0, 0, 0]], (7, 1)), binning="equal_mass")
    assert set(tied.tolist()) == {7}


def test_edges_of_equal_width_bins_belong_to_the_bin_below() -> None:
    p = np.array([[0.2] * 5, [0.6, 0.4, 0, 0, 0], [0.61, 0.39, 0, 0, 0], [1.0, 0, 0, 0, 0]])
    assert confidence_bins(p).tolist() == [2, 8, 9, 14]


def test_reliability_counts_every_image_once_and_marks_empty_bins(simulated: Simulate) -> None:
    given = simulated(300)
    bins = reliability(given.grade, given.probabilities)
    assert bins.count.sum() == 300
    empty = bins.count == 0
    assert empty[:3].all()  # the highest of five probabilities is never below 1/5
    for values in (bins.confidence, bins.accuracy, bins.low, bins.high):
        np.testing.assert_array_equal(np.isnan(values), empty)
    full = ~empty
    assert bins.edges is not None
    assert (bins.confidence[full] > bins.edges[:-1][full]).all()
    assert (bins.confidence[full] <= bins.edges[1:][full]).all()
    assert (bins.low[full] <= bins.accuracy[full] + 1e-12).all()
    assert (bins.high[full] >= bins.accuracy[full] - 1e-12).all()


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 10), (7, 10), (999, 1000)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    oracle = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    low, high = wilson_interval(hits, n)
    assert abs(float(low) - oracle.low) < 1e-9
    assert abs(float(high) - oracle.high) < 1e-9


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        brier_score([0, 1], np.ones((2, 4)))
    with pytest.raises(ValueError, match="do not fit"):
        negative_log_likelihood([], np.ones((0, 5)))
