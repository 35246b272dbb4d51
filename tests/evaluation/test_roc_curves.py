"""ROC and precision-recall curves against scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.evaluation.curves import trace_curve

Array = npt.NDArray[np.float64]


@st.composite
def scored(draw: st.DrawFn) -> tuple[npt.NDArray[np.bool_], Array]:
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    positive[:2] = [True, False]
    score = rng.integers(0, 5, n).astype(np.float64) if draw(st.booleans()) else rng.normal(size=n)
    return positive, score


@settings(deadline=None)
@given(scored())
def test_curves_equal_scikit_learn(drawn: tuple[npt.NDArray[np.bool_], Array]) -> None:
    positive, score = drawn
    curve = trace_curve(positive, score)
    false_rate, true_rate, threshold = sklearn.metrics.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_array_equal(curve.threshold, threshold)
    np.testing.assert_allclose(curve.sensitivity, true_rate, rtol=0, atol=1e-9)
    np.testing.assert_allclose(1 - curve.specificity, false_rate, rtol=0, atol=1e-9)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(positive, score)
    np.testing.assert_allclose(curve.precision, precision[::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(curve.sensitivity, recall[::-1], rtol=0, atol=1e-9)
    oracle = sklearn.metrics.average_precision_score(positive, score)
    assert abs(curve.average_precision - oracle) < 1e-9
    area = np.trapezoid(curve.sensitivity, 1 - curve.specificity)
    assert abs(area - sklearn.metrics.roc_auc_score(positive, score)) < 1e-9


def test_a_curve_needs_both_kinds_of_image() -> None:
    for positive in ([True, True], [False, False]):
        with pytest.raises(ValueError, match="positive and negative images"):
            trace_curve(positive, [1.0, 2.0])
    with pytest.raises(ValueError, match="not finite"):
        trace_curve([True, False], [1.0, np.nan])
    with pytest.raises(ValueError, match="do not fit"):
        trace_curve([True, False], [1.0])
