"""Under no difference, 5 % tests reject in 5 % of 1,000 simulated cases; intervals cover in 95 %."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from retino_cli.evaluation.bootstrap import bootstrap_intervals, paired_bootstrap
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.resampling import Interval
from retino_cli.evaluation.significance import DeLong, delong, mcnemar

N_CASES = 1000
LOW, HIGH = scipy.stats.binom.ppf([0.0005, 0.9995], N_CASES, 0.05)
"""What 5 % of 1,000 may be by chance, with 99.9 % confidence: 29 to 74."""

pytestmark = pytest.mark.slow
Array = npt.NDArray[np.float64]


def eyes(rng: np.random.Generator, patients: int, *, alike: float) -> tuple[Array, npt.NDArray[np.int64]]:
    """Normal noise for two eyes a patient, and the patient of each; ``alike`` is the correlation of the two."""
    shared, own = rng.normal(size=patients), rng.normal(size=(patients, 2))
    return (np.sqrt(alike) * shared[:, None] + np.sqrt(1 - alike) * own).ravel(), np.repeat(np.arange(patients), 2)


def test_mcnemar_never_rejects_too_often() -> None:
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(N_CASES):
        right = rng.random((2, 150)) < 0.7
        rejected += mcnemar(right[0], right[1]).p_value <= 0.05
    assert 0.3 * LOW < rejected <= HIGH  # exact tests are conservative: their size is at most 5 %


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_mcnemar_by_patient_keeps_its_size_where_the_two_eyes_are_alike(alike: float) -> None:
    rng = np.random.default_rng(2)
    by_patient = by_image = 0
    for _ in range(N_CASES):
        a, patient = eyes(rng, 80, alike=alike)
        b, _ = eyes(rng, 80, alike=alike)
        result = mcnemar(a > -0.5, b > -0.5, cluster=patient)
        assert result.patient_p_value is not None
        by_patient += result.patient_p_value <= 0.05
        by_image += result.p_value <= 0.05
    assert 0.3 * LOW < by_patient <= HIGH
    assert (by_image > HIGH) == (alike > 0)  # this is why the test by patient is there


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_delong_by_patient_keeps_its_size_where_the_two_eyes_are_alike(alike: float) -> None:
    rng = np.random.default_rng(3)
    by_patient = by_image = 0
    for _ in range(N_CASES):
        disease, patient = eyes(rng, 100, alike=alike)
        positive = disease > 0.3
        a, b = (positive + eyes(rng, 100, alike=alike)[0] for _ in range(2))
        for cluster in (patient, None):
            result = delong(positive, a, b, cluster=cluster)
            assert isinstance(result, DeLong)
            if cluster is None:
                by_image += result.p_value <= 0.05
            else:
                by_patient += result.p_value <= 0.05
    assert LOW <= by_patient <= HIGH
    if alike == 0:
        assert LOW <= by_image <= HIGH
    else:
        assert by_image > HIGH


def predictions(grade: npt.NDArray[np.int64], noise: Array, patient: npt.NDArray[np.int64]) -> Predictions:
    """A model that sees the grade through ``noise``."""
    seen = np.clip(grade + noise, -1, 5)
    weights = np.exp(-1.5 * (seen[:, None] - np.arange(5)) ** 2)
    n = len(grade)
    return Predictions(
        np.array([f"{i}" for i in range(n)]),
        np.array([f"{k}" for k in patient]),
        np.full(n, ""),
        grade,
        weights / weights.sum(axis=1, keepdims=True),
    )


def test_the_interval_of_a_difference_excludes_zero_in_five_percent() -> None:
    rng = np.random.default_rng(4)
    n_cases = N_CASES // 2  # each takes a twentieth of a second
    low, high = scipy.stats.binom.ppf([0.0005, 0.9995], n_cases, 0.05)  # 11 to 43
    metrics = ("accuracy", "qwk", "referable_auc", "brier")
    excluded = dict.fromkeys(metrics, 0)
    for case in range(n_cases):
        disease, patient = eyes(rng, 100, alike=0.7)
        grade = np.searchsorted([0.2, 0.7, 1.3, 1.9], disease).astype(np.int64)
        a, b = (predictions(grade, 0.9 * eyes(rng, 100, alike=0.5)[0], patient) for _ in range(2))
        for name, difference in paired_bootstrap(a, b, n_resamples=300, seed=case, metrics=metrics).items():
            assert isinstance(difference, Interval)
            excluded[name] += difference.low > 0 or difference.high < 0
    for name, count in excluded.items():
        assert low <= count <= high, f"{name}: {count} of {n_cases}"


def test_intervals_cover_the_true_value() -> None:
    """Accuracy, QWK and AUC of a model known from 400,000 images, in 400 test sets of 150 patients.

    At least 91 %: 95 % less what a percentile interval of 300 images loses, and three standard errors of 400 cases.
    """
    rng = np.random.default_rng(5)
    metrics = ("accuracy", "qwk", "referable_auc", "nll")

    def draw(patients: int) -> Predictions:
        disease, patient = eyes(rng, patients, alike=0.7)
        grade = np.searchsorted([0.2, 0.7, 1.3, 1.9], disease).astype(np.int64)
        return predictions(grade, 0.9 * eyes(rng, patients, alike=0.5)[0], patient)

    known = bootstrap_intervals(draw(200_000), n_resamples=1, metrics=metrics)
    covered = dict.fromkeys(metrics, 0)
    for case in range(400):
        for name, interval in bootstrap_intervals(draw(150), n_resamples=300, seed=case, metrics=metrics).items():
            truth = known[name]
            assert isinstance(interval, Interval)
            assert isinstance(truth, Interval)
            covered[name] += interval.low <= truth.estimate <= interval.high
    for name, count in covered.items():
        assert count >= 0.91 * 400, f"{name}: {count} of 400"
