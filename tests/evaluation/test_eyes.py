"""Two eyes of one patient, against plain loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.evaluation.bootstrap import bootstrap_intervals
from retino_cli.evaluation.eyes import EyeWeight, blend_eyes, by_patient, fit_eye_weight
from retino_cli.evaluation.metrics import Undefined, summarise
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.resampling import Interval

Simulate = Callable[..., Predictions]
Rows = list[tuple[str, str, int, int]]
rows = st.lists(
    st.tuples(
        st.sampled_from(["", "1", "2", "3"]),
        st.sampled_from(["left", "right", ""]),
        st.integers(0, 4),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=14,
)


def made(drawn: Rows) -> Predictions:
    patient, eye, grade, seeds = zip(*drawn, strict=True)
    p = np.array([np.random.default_rng(seed).dirichlet(np.ones(5)) for seed in seeds])
    return Predictions(
        np.array([f"{i}" for i in range(len(drawn))]), np.array(patient), np.array(eye), np.array(grade), p
    )


@settings(deadline=None)
@given(rows, st.floats(0, 1))
def test_blending_equals_a_plain_loop(drawn: Rows, weight: float) -> None:
    before = made(drawn)
    after = blend_eyes(before, weight)
    other = {"left": "right", "right": "left"}
    for i, (patient, eye, _, _) in enumerate(drawn):
        fellows = [j for j, row in enumerate(drawn) if patient and eye and row[0] == patient and row[1] == other[eye]]
        expected = before.probabilities[i]
        if fellows:
            expected = (1 - weight) * expected + weight * before.probabilities[fellows].mean(axis=0)
        np.testing.assert_allclose(after.probabilities[i], expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(after.image_id, before.image_id)


def test_the_weight_fitted_is_the_best_of_all_and_not_worse_than_none(simulated: Simulate) -> None:
    given = simulated(600, seed=4, skill=0.6)
    fitted = fit_eye_weight(given)
    assert isinstance(fitted, EyeWeight)
    values = [
        sklearn.metrics.cohen_kappa_score(
            given.grade, blend_eyes(given, w / 100).predicted, weights="quadratic", labels=range(5)
        )
        for w in range(101)
    ]
    assert abs(fitted.qwk - max(values)) < 1e-9
    assert abs(values[round(100 * fitted.value)] - max(values)) < 1e-9
    assert abs(fitted.qwk_alone - values[0]) < 1e-9
    assert fitted.qwk > fitted.qwk_alone  # the eyes of a simulated patient are alike: the other one helps
    assert (fitted.n_images, fitted.n_paired) == (600, 600)


def test_without_fellows_there_is_no_weight(simulated: Simulate) -> None:
    alone = simulated(20, images_per_patient=1)
    assert fit_eye_weight(alone) == Undefined("no image has the other eye of its patient beside it")
    np.testing.assert_array_equal(blend_eyes(alone, 0.7).probabilities, alone.probabilities)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            blend_eyes(alone, wrong)


@settings(deadline=None)
@given(rows)
def test_by_patient_equals_a_plain_loop(drawn: Rows) -> None:
    given = made(drawn)
    found = by_patient(given)
    groups: dict[str, list[int]] = {}
    for i, (patient, *_) in enumerate(drawn):
        groups.setdefault(f"p{patient}" if patient else f"i{i}", []).append(i)
    assert len(found) == len(groups)
    assert found.n_images.sum() == len(drawn)
    for place, key in enumerate(sorted(groups)):
        members = groups[key]
        assert found.n_images[place] == len(members)
        for name in ("grade", "predicted", "expected_grade", "referable_score", "vision_threatening_score"):
            assert getattr(found, name)[place] == getattr(given, name)[members].max(), name
    assert len(set(found.patient_id.tolist())) == len(groups)


def test_patients_are_scored_like_images(simulated: Simulate) -> None:
    patients = by_patient(simulated(400))
    values = summarise(patients)
    assert len(patients) == 200
    assert values["accuracy"] == pytest.approx((patients.predicted == patients.grade).mean(), abs=1e-12)
    oracle = sklearn.metrics.roc_auc_score(patients.grade >= 2, patients.referable_score)
    assert values["referable_auc"] == pytest.approx(oracle, abs=1e-9)
    assert isinstance(values["brier"], Undefined)
    assert "a patient has no probabilities" in values["brier"].reason
    intervals = bootstrap_intervals(patients, n_resamples=50)
    assert isinstance(intervals["qwk"], Interval)
    assert isinstance(intervals["macro_auc"], Undefined)
