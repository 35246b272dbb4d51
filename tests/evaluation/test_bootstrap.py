"""Intervals against resampling by hand, and that nothing but the seed and the names moves them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError
from retino_cli.evaluation.bootstrap import INTERVAL_METRICS, bootstrap_intervals, paired_bootstrap, resample
from retino_cli.evaluation.judged import GradedPredictions, ScoredPredictions
from retino_cli.evaluation.metrics import METRIC_NAMES, Undefined, summarise
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.probability import confidence_bins
from retino_cli.evaluation.resampling import (
    Interval,
    cluster_codes,
    draw_clusters,
    exact_interval,
    percentile_interval,
)

Simulate = Callable[..., Predictions]
Take = Callable[[Predictions, object], Predictions]


def by_hand(predictions: Predictions, weights: np.ndarray) -> dict[str, float | Undefined]:
    """``summarise`` on the images themselves, repeated as often as their cluster was drawn."""
    order = np.argsort(predictions.image_id)
    codes = cluster_codes(predictions.image_id[order], predictions.patient_id[order])
    rows = order[np.repeat(np.arange(len(order)), weights[codes].astype(int))]
    names = np.array([f"{i}" for i in range(len(rows))])
    fields = [getattr(predictions, field)[rows] for field in ("patient_id", "eye", "grade", "probabilities")]
    return summarise(Predictions(names, *fields))


@pytest.mark.parametrize("name_patients", [True, False])
def test_every_metric_of_every_resample_is_the_metric_of_the_images_drawn(
    simulated: Simulate, name_patients: bool
) -> None:
    given = simulated(120, name_patients=name_patients, seed=3)
    # Scores in steps of 1/8: ties between and within the classes.
    ties = np.maximum(np.rint(given.probabilities * 8), 0.25)
    given = Predictions(
        given.image_id, given.patient_id, given.eye, given.grade, ties / ties.sum(axis=1, keepdims=True)
    )
    names = [name for name in INTERVAL_METRICS if name != "ece_equal_mass"]  # its bins are the whole sample's
    samples = resample([given], n_resamples=15, seed=7, metrics=names).samples[0]
    n_clusters = 60 if name_patients else 120
    (weights,) = draw_clusters(n_clusters, 15, seed=7)
    assert (weights.sum(axis=1) == n_clusters).all()
    for row in range(15):
        expected = by_hand(given, weights[row])
        for column, name in enumerate(names):
            value = expected[name]
            if isinstance(value, Undefined):
                assert np.isnan(samples[row, column])
            else:
                assert abs(samples[row, column] - value) < 1e-9, name


def test_equal_mass_bins_stay_those_of_the_whole_sample(simulated: Simulate) -> None:
    given = simulated(90, name_patients=False)
    samples = resample([given], n_resamples=5, seed=1, metrics=["ece_equal_mass"]).samples[0]
    (weights,) = draw_clusters(90, 5, seed=1)
    bins = confidence_bins(given.probabilities, binning="equal_mass")
    gap = (given.predicted == given.grade) - given.probabilities.max(axis=1)
    expected = [sum(abs((w * gap)[bins == b].sum()) for b in range(15)) / 90 for w in weights]
    np.testing.assert_allclose(samples[:, 0], expected, rtol=0, atol=1e-9)


def test_the_interval_is_the_quantiles_of_the_resamples(simulated: Simulate) -> None:
    given = simulated(400)
    drawn = resample([given], n_resamples=333, level=0.9)
    for column, name in enumerate(drawn.names):
        interval = drawn.intervals()[name]
        assert isinstance(interval, Interval), name
        samples = drawn.samples[0, :, column]
        low, high = np.quantile(samples, [0.05, 0.95])
        assert interval.estimate == summarise(given)[name]
        assert interval.level == 0.9
        if name.startswith("ece"):
            shift = interval.estimate - samples.mean()
            low, high = max(0, low + shift), min(1, high + shift)
            assert interval.method == "centred percentile"
        assert abs(interval.low - low) < 1e-12
        assert abs(interval.high - high) < 1e-12


@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 60), seed=st.integers(0, 1000), chunk=st.integers(1, 50))
def test_neither_order_nor_block_size_changes_a_digit(
    n: int, seed: int, chunk: int, simulated: Simulate, taken: Take
) -> None:
    given = simulated(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    before = bootstrap_intervals(given, n_resamples=40, seed=seed)
    assert bootstrap_intervals(taken(given, order), n_resamples=40, seed=seed, chunk=chunk) == before


def test_the_seed_moves_the_resamples_and_nothing_else_does(simulated: Simulate) -> None:
    given = simulated(100)
    assert bootstrap_intervals(given, n_resamples=50) == bootstrap_intervals(given, n_resamples=50)
    other = bootstrap_intervals(given, n_resamples=50, seed=1)
    assert all(other[name] != value for name, value in bootstrap_intervals(given, n_resamples=50).items())


_THREADS = """
import sys, threading
import numpy as np
from retino_cli.evaluation.bootstrap import bootstrap_intervals
from retino_cli.evaluation.predictions import Predictions
rng = np.random.default_rng(0)
n = 4000
grade, p = rng.integers(0, 5, n), rng.dirichlet(np.ones(5), n)
names = np.array([f"{i}" for i in range(n)])
given = Predictions(names, np.array([f"{i // 2}" for i in range(n)]), np.full(n, ""), grade, p)
for name, value in bootstrap_intervals(given, n_resamples=60).items():
    print(name, value.low.hex(), value.high.hex())
"""


def test_the_number_of_threads_changes_no_digit() -> None:
    outputs = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", _THREADS], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == len(INTERVAL_METRICS)


@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
def test_swapping_a_and_b_flips_the_sign_and_nothing_else(n: int, seed: int, simulated: Simulate, taken: Take) -> None:
    a, b = simulated(n, seed=seed), simulated(n, seed=seed, skill=0.5)
    b = taken(b, np.random.default_rng(seed).permutation(n))
    forth = paired_bootstrap(a, b, n_resamples=40, seed=seed)
    back = paired_bootstrap(b, a, n_resamples=40, seed=seed)
    for name, difference in forth.items():
        mirrored = back[name]
        if isinstance(difference, Undefined):
            assert mirrored == difference
            continue
        assert isinstance(mirrored, Interval)
        assert (mirrored.estimate, mirrored.low, mirrored.high) == (
            -difference.estimate,
            -difference.high,
            -difference.low,
        )
        assert mirrored.p_value == difference.p_value


def test_a_difference_is_that_of_the_same_resamples(simulated: Simulate) -> None:
    a, b = simulated(200, seed=1, skill=1.0), simulated(200, seed=1, skill=2.0)
    drawn = resample([a, b], n_resamples=100, metrics=["qwk", "brier"])
    alone = resample([b], n_resamples=100, metrics=["qwk", "brier"])
    np.testing.assert_array_equal(drawn.samples[1], alone.samples[0])
    difference = drawn.differences()["qwk"]
    assert isinstance(difference, Interval)
    gaps = drawn.samples[1, :, 0] - drawn.samples[0, :, 0]
    np.testing.assert_allclose([difference.low, difference.high], np.quantile(gaps, [0.025, 0.975]), atol=1e-12)
    assert difference.estimate == summarise(b)["qwk"] - summarise(a)["qwk"]  # type: ignore[operator]  # floats
    rarer = min((gaps <= 0).sum(), (gaps >= 0).sum())
    assert difference.p_value == pytest.approx(min(1, 2 * (1 + rarer) / 101), abs=1e-12)
    assert drawn.differences(0, 0)["qwk"] == Interval(0.0, 0.0, 0.0, 0.95, 100, 0, "percentile", 1.0)


def test_predictions_that_are_not_for_the_same_images_are_refused(simulated: Simulate, taken: Take) -> None:
    a = simulated(10)
    with pytest.raises(DataError, match="not for the same images"):
        paired_bootstrap(a, taken(a, np.arange(9)), n_resamples=5)
    grade = a.grade.copy()
    grade[4] = (grade[4] + 1) % 5
    other = Predictions(a.image_id, a.patient_id, a.eye, grade, a.probabilities)
    with pytest.raises(DataError, match="true grade of 1 images, the first being '000004'"):
        paired_bootstrap(a, other, n_resamples=5)
    patients = a.patient_id.copy()
    patients[7] = "somebody else"
    other = Predictions(a.image_id, patients, a.eye, a.grade, a.probabilities)
    with pytest.raises(DataError, match="different patients for 1 images, the first being '000007'"):
        paired_bootstrap(a, other, n_resamples=5)


def test_patients_that_one_of_two_names_count_for_both(simulated: Simulate) -> None:
    a, b = simulated(60, seed=2), simulated(60, seed=2, name_patients=False)
    both = resample([a, b], n_resamples=30)
    np.testing.assert_array_equal(both.samples[0], both.samples[1])
    np.testing.assert_array_equal(both.samples[0], resample([a], n_resamples=30).samples[0])


def test_patients_that_are_alike_make_intervals_wider(simulated: Simulate) -> None:
    """Every image twice, as two eyes that are the same: as much information as half the images hold."""
    half = simulated(300, name_patients=False)
    ids = np.concatenate([half.image_id, np.strings.add(half.image_id, "b")])
    fields = [np.concatenate([getattr(half, name)] * 2) for name in ("eye", "grade", "probabilities")]
    patients = np.concatenate([half.image_id, half.image_id])
    named = Predictions(ids, patients, *fields)
    unnamed = Predictions(ids, np.full(600, ""), *fields)

    def width(predictions: Predictions) -> float:
        interval = bootstrap_intervals(predictions, metrics=["accuracy"])["accuracy"]
        assert isinstance(interval, Interval)
        return interval.high - interval.low

    assert width(named) == pytest.approx(width(half), rel=0.1)
    assert width(named) / width(unnamed) == pytest.approx(2**0.5, rel=0.1)


def certain(grade: list[int], predicted: list[int]) -> Predictions:
    n = len(grade)
    ids = np.array([f"{i}" for i in range(n)])
    return Predictions(ids, np.full(n, ""), np.full(n, ""), np.array(grade), np.eye(5)[predicted])


def test_a_perfect_share_has_the_exact_interval_and_other_perfect_values_have_none() -> None:
    grade = [0, 1, 2, 3, 4] * 8
    intervals = bootstrap_intervals(certain(grade, grade), n_resamples=200)
    bound = scipy.stats.binomtest(40, 40).proportion_ci(method="exact").low
    assert intervals["accuracy"] == Interval(1.0, pytest.approx(bound, abs=1e-9), 1.0, 0.95, 200, 0, "exact")  # type: ignore[arg-type]  # approx
    bound = scipy.stats.binomtest(24, 24).proportion_ci(method="exact").low
    sensitivity = intervals["referable_sensitivity"]
    assert isinstance(sensitivity, Interval)
    assert abs(sensitivity.low - bound) < 1e-9
    for name in ("qwk", "macro_f1", "balanced_accuracy", "referable_auc", "macro_auc"):
        assert intervals[name] == Undefined("it is 1 in every resample, which shows no limit"), name
    assert intervals["brier"] == Undefined("it is 0 in every resample, which shows no limit")


def test_a_collapsed_model_has_a_qwk_of_zero_for_certain() -> None:
    grade = [0, 1, 2, 3, 4] * 8
    intervals = bootstrap_intervals(certain(grade, [0] * 40), n_resamples=200)
    assert intervals["qwk"] == Interval(0.0, 0.0, 0.0, 0.95, 200)
    assert intervals["referable_auc"] == Interval(0.5, 0.5, 0.5, 0.95, 200)
    sensitivity = intervals["referable_sensitivity"]
    assert isinstance(sensitivity, Interval)
    assert (sensitivity.low, sensitivity.method) == (0.0, "exact")
    assert abs(sensitivity.high - scipy.stats.binomtest(0, 24).proportion_ci(method="exact").high) < 1e-9


def test_what_is_undefined_says_why() -> None:
    intervals = bootstrap_intervals(certain([0, 0, 1, 1], [0, 1, 1, 1]), n_resamples=100)
    assert intervals["referable_auc"] == Undefined("no image is referable (true grade >= 2)")
    rare = bootstrap_intervals(certain([0] * 19 + [2], [0, 1] * 10), n_resamples=1000)["referable_sensitivity"]
    assert isinstance(rare, Undefined)  # (19/20)^20 = 36 % of the resamples hold no referable image
    assert re.fullmatch(r"undefined in 3\d\d of 1,000 resamples: too few images of some kind", rare.reason)
    left_out = bootstrap_intervals(certain([0] * 80 + [2] * 5, [0, 2] * 40 + [2, 0, 2, 2, 0]), n_resamples=1000)
    interval = left_out["referable_auc"]
    assert isinstance(interval, Interval)
    assert 0 < interval.n_undefined < 50


def test_predictions_that_hold_less_have_the_intervals_that_they_allow(simulated: Simulate) -> None:
    full = simulated(200)
    columns = (full.image_id, full.patient_id, full.eye, full.grade)
    whole = bootstrap_intervals(full, n_resamples=60)
    graded = bootstrap_intervals(GradedPredictions(*columns, full.predicted), n_resamples=60)
    scored = bootstrap_intervals(ScoredPredictions(*columns, full.referable_score), n_resamples=60)
    for name, value in graded.items():
        is_there = name not in ("qwk_rounded", "brier", "nll", "ece", "ece_equal_mass") and not name.endswith("auc")
        assert value == (whole[name] if is_there else Undefined("these predictions hold grades only")), name
    for name, value in scored.items():
        expected = whole[name] if name == "referable_auc" else None
        assert value == (expected or Undefined("these predictions hold a score for referable DR only")), name
    labels = (full.grade >= 2).astype(np.int64)
    binary = ScoredPredictions(*columns[:3], labels, full.referable_score, binary=True)
    intervals = bootstrap_intervals(binary, n_resamples=60)
    assert intervals["referable_auc"] == whole["referable_auc"]
    assert intervals["accuracy"] == Undefined("the labels say referable or not, and no grade")
    assert set(INTERVAL_METRICS) < set(METRIC_NAMES)


def test_a_patient_and_an_image_of_one_name_are_two_clusters() -> None:
    codes = cluster_codes(np.array(["7", "a", "b", "c"]), np.array(["", "7", "7", ""]))
    assert codes[1] == codes[2]
    assert len(set(codes.tolist())) == 3


def test_quantiles_of_few_values() -> None:
    one = percentile_interval(np.array([0.25]), 0.5)
    assert isinstance(one, Interval)
    assert (one.low, one.high) == (0.25, 0.25)
    assert isinstance(percentile_interval(np.array([np.nan] * 3), 0.5), Undefined)
    assert f"{Interval(0.7976, 0.77, 0.8239):.3f}" == "0.798 [0.770, 0.824]"
    assert str(Interval(0.7976, 0.77, 0.8239)) == "0.798 [0.770, 0.824]"
    assert exact_interval(0.0, 10).to_dict()["high"] == pytest.approx(1 - 0.025**0.1, abs=1e-12)


def test_wrong_arguments_are_refused(simulated: Simulate) -> None:
    given = simulated(10)
    with pytest.raises(ValueError, match="'recall_0' has no interval"):
        bootstrap_intervals(given, metrics=["recall_0"])
    with pytest.raises(ValueError, match="a level lies between 0 and 1"):
        bootstrap_intervals(given, level=95)
    with pytest.raises(ValueError, match="resamples are >= 1"):
        bootstrap_intervals(given, n_resamples=0)


@pytest.mark.timeout(120)
def test_ten_thousand_images(simulated: Simulate) -> None:
    given = simulated(10_000)
    intervals = bootstrap_intervals(given)
    assert all(isinstance(value, Interval) for value in intervals.values())
