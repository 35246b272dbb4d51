"""Thresholds against trying all of them, and the operating table against Bayes' theorem by counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError
from retino_cli.evaluation.judged import GradedPredictions, ScoredPredictions
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.operating_point import ROWS, choose_threshold, operating_table, trace_target
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.resampling import Interval, cluster_codes, draw_clusters

Simulate = Callable[..., Predictions]


def scored(positive: Any, score: Any) -> ScoredPredictions:
    n = len(score)
    ids = np.array([f"{i:03d}" for i in range(n)])
    empty = np.full(n, "")
    return ScoredPredictions(ids, empty, empty, np.asarray(positive).astype(np.int64), np.asarray(score), binary=True)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.random(n) < 0.4
    positive[:2] = [True, False]
    return positive, rng.integers(0, draw(st.sampled_from([3, 1000])), n) / 8


@settings(deadline=None)
@given(cases(), st.sampled_from([0.05, 0.5, 0.8, 0.9, 0.95, 1.0]))
def test_the_threshold_is_the_best_of_all(drawn: tuple[np.ndarray, np.ndarray], wanted: float) -> None:
    positive, score = drawn
    candidates = np.unique(score)
    point = choose_threshold(scored(positive, score), sensitivity=wanted)
    good = [t for t in candidates if (score[positive] >= t).sum() / positive.sum() >= wanted - 1e-9]
    assert point.threshold == max(good)
    assert point.sensitivity == (score[positive] >= point.threshold).mean()
    assert point.specificity == pytest.approx((score[~positive] < point.threshold).mean(), abs=1e-12)
    point = choose_threshold(scored(positive, score), specificity=wanted)
    good = [t for t in candidates if (score[~positive] < t).sum() / (~positive).sum() >= wanted - 1e-9]
    assert point.threshold == (min(good) if good else np.nextafter(score.max(), np.inf))
    assert point.specificity >= wanted - 1e-9
    assert point.n_images == len(score)


def test_nineteen_of_twenty_are_95_percent() -> None:
    score = np.arange(40) / 40
    positive = np.arange(40) >= 20
    point = choose_threshold(scored(positive, score), sensitivity=0.95)
    assert (point.threshold, point.sensitivity) == (21 / 40, 0.95)
    point = choose_threshold(scored(positive, score), specificity=0.95)
    assert (point.threshold, point.specificity) == (19 / 40, 0.95)


def test_a_threshold_needs_both_kinds_of_image_a_score_and_one_wish(simulated: Simulate) -> None:
    given = simulated(50)
    with pytest.raises(DataError, match="No threshold can be chosen on validation: no image is referable"):
        choose_threshold(scored([0, 0], [0.1, 0.2]), sensitivity=0.9)
    graded = GradedPredictions(given.image_id, given.patient_id, given.eye, given.grade, given.predicted)
    with pytest.raises(DataError, match="no score for referable DR: these predictions hold grades only"):
        choose_threshold(graded, sensitivity=0.9)
    with pytest.raises(DataError, match="no score for vision-threatening DR"):
        choose_threshold(scored([0, 1], [0.1, 0.2]), sensitivity=0.9, target="vision_threatening")
    for wish in ({}, {"sensitivity": 0.9, "specificity": 0.9}):
        with pytest.raises(ValueError, match="either a sensitivity or a specificity"):
            choose_threshold(given, **wish)
    with pytest.raises(ValueError, match="not above 0 and at most 1"):
        choose_threshold(given, sensitivity=95)
    assert trace_target(scored([1, 1], [0.1, 0.2])) == Undefined("every image is referable (true grade >= 2)")


@settings(deadline=None, max_examples=40)
@given(cases(), st.floats(0, 125), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 5))
def test_the_table_equals_counting_in_a_population(
    drawn: tuple[np.ndarray, np.ndarray], threshold: float, prevalence: float, ungradable: int
) -> None:
    """A population of that prevalence in which every image stands for as many people as it takes."""
    positive, score = drawn
    n = len(score)
    weight = np.where(positive, prevalence / positive.sum(), (1 - prevalence) / (~positive).sum())
    called = score >= threshold
    share = ungradable / (n + ungradable)
    for policy, u in (("exclude", 0.0), ("refer", share)):
        table = operating_table(
            scored(positive, score),
            threshold,
            prevalence=prevalence,
            ungradable=ungradable,
            policy=policy,  # type: ignore[arg-type]  # mypy takes it for str
            n_resamples=5,
        )
        referred_sick = (1 - u) * weight[positive & called].sum() + u * prevalence
        referred = (1 - u) * weight[called].sum() + u
        spared = (1 - u) * weight[~called].sum()
        spared_well = (1 - u) * weight[~positive & ~called].sum()
        expected = {
            "sensitivity": (1 - u) * called[positive].mean() + u,
            "specificity": (1 - u) * (~called[~positive]).mean(),
            "referral_rate": referred,
            "ppv": referred_sick / referred if referred > 1e-12 else None,
            "npv": spared_well / spared if spared > 1e-12 else None,
        }
        assert tuple(table.values) == tuple(table.intervals) == ROWS
        for name, value in expected.items():
            if value is None:
                continue  # 0/0 in exact arithmetic
            found = table.values[name]
            assert isinstance(found, float), (name, found)
            assert abs(found - value) < 1e-9, name
        assert sum(table.counts.values()) == n
        assert (table.ungradable, table.policy, table.prevalence) == (ungradable, policy, prevalence)


def test_the_intervals_are_those_of_resampled_patients(simulated: Simulate) -> None:
    given = simulated(300)
    table = operating_table(given, 0.4, prevalence=0.1, n_resamples=100, seed=3)
    positive, called = given.grade >= 2, given.referable_score >= 0.4
    codes = cluster_codes(given.image_id, given.patient_id)
    (weights,) = draw_clusters(150, 100, seed=3)
    per_image = weights[:, codes]
    sensitivity = (per_image * (positive & called)).sum(axis=1) / (per_image * positive).sum(axis=1)
    specificity = (per_image * (~positive & ~called)).sum(axis=1) / (per_image * ~positive).sum(axis=1)
    ppv = 0.1 * sensitivity / (0.1 * sensitivity + 0.9 * (1 - specificity))
    for name, samples in (("sensitivity", sensitivity), ("specificity", specificity), ("ppv", ppv)):
        interval = table.intervals[name]
        assert isinstance(interval, Interval)
        np.testing.assert_allclose(
            [interval.low, interval.high], np.quantile(samples, [0.025, 0.975]), rtol=0, atol=1e-9
        )
    order = np.random.default_rng(0).permutation(300)
    fields = ("image_id", "patient_id", "eye", "grade", "probabilities")
    shuffled = Predictions(*(getattr(given, name)[order] for name in fields))
    assert operating_table(shuffled, 0.4, prevalence=0.1, n_resamples=100, seed=3) == table


def test_a_sensitivity_of_one_has_the_exact_interval() -> None:
    positive, score = np.arange(60) >= 40, np.arange(60) / 60
    bound = scipy.stats.binomtest(20, 20).proportion_ci(method="exact").low
    table = operating_table(scored(positive, score), 0.5, prevalence=0.1, n_resamples=200)
    sensitivity = table.intervals["sensitivity"]
    assert isinstance(sensitivity, Interval)
    assert (abs(sensitivity.low - bound) < 1e-9, sensitivity.high, sensitivity.method) == (True, 1.0, "exact")
    assert table.intervals["npv"] == Undefined("it is 1 in every resample, which shows no limit")
    table = operating_table(
        scored(positive, score), 0.5, prevalence=0.1, ungradable=20, policy="refer", n_resamples=200
    )
    sensitivity = table.intervals["sensitivity"]
    assert isinstance(sensitivity, Interval)
    assert sensitivity.low == pytest.approx(0.75 * bound + 0.25, abs=1e-9)


def test_what_is_undefined_says_why(simulated: Simulate) -> None:
    given = simulated(60)
    assert operating_table(given, 2.0, n_resamples=5).values["ppv"] == Undefined("no image is called positive")
    assert operating_table(given, -1.0, n_resamples=5).values["npv"] == Undefined("no image is called negative")
    assert operating_table(given, 0.5, n_resamples=5).prevalence == (given.grade >= 2).mean()
    none = operating_table(scored([0, 0, 0], [0.1, 0.2, 0.9]), 0.5, prevalence=0.1, n_resamples=5)
    assert none.values["sensitivity"] == Undefined("no image is referable (true grade >= 2)")
    assert none.values["ppv"] == none.values["sensitivity"]
    assert none.values["specificity"] == pytest.approx(2 / 3, abs=1e-12)
    with pytest.raises(ValueError, match="the prevalence is 10"):
        operating_table(given, 0.5, prevalence=10)
    with pytest.raises(ValueError, match="-1 ungradable"):
        operating_table(given, 0.5, ungradable=-1)


def test_vision_threatening_uses_its_own_score(simulated: Simulate) -> None:
    given = simulated(400)
    point = choose_threshold(given, specificity=0.9, target="vision_threatening")
    assert point.specificity == pytest.approx(
        (given.probabilities[:, 3:].sum(axis=1) < point.threshold)[given.grade < 3].mean(), abs=1e-12
    )
