"""McNemar's and DeLong's tests and Holm's correction against scipy, enumeration and published examples."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.significance import DeLong, binomial_p, delong, holm, mcnemar

Array = npt.NDArray[np.float64]
unhurried = settings(deadline=None)


# ---- McNemar ----


@unhurried
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_exact_p_value_equals_scipy(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    expected = scipy.stats.binomtest(only_a, n).pvalue if n else 1.0
    assert abs(binomial_p(only_a, n) - expected) < 1e-9
    assert binomial_p(only_a, n) == binomial_p(only_b, n)


@pytest.mark.timeout(60)  # summing without end is what this must not do
@pytest.mark.parametrize(("k", "n"), [(49_500, 100_000), (50_000, 100_000), (0, 100_000), (26_400, 53_576)])
def test_many_discordant_images_are_counted_exactly(k: int, n: int) -> None:
    ours = binomial_p(k, n)
    assert ours == pytest.approx(scipy.stats.binomtest(k, n).pvalue, rel=1e-9, abs=1e-300)


def test_a_published_example() -> None:
    """Airway hyperresponsiveness before and after stem cell transplantation: 1, 1, 7 and 12 children, exact p = 0.070.

    Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91 (data of Bentur et al. 2009).
    """
    before = np.repeat([True, True, False, False], [1, 1, 7, 12])
    after = np.repeat([True, False, True, False], [1, 1, 7, 12])
    result = mcnemar(before, after)
    assert (result.only_a, result.only_b, result.patient_p_value) == (1, 7, None)
    assert result.p_value == 2 * (1 + 8) / 2**8
    assert f"{result.p_value:.3f}" == "0.070"


def enumerated(differences: list[int]) -> float:
    """The sign-flip p-value by trying all signs."""
    observed = abs(sum(differences))
    signs = itertools.product((-1, 1), repeat=len(differences))
    hits = [abs(sum(s * d for s, d in zip(row, differences, strict=True))) >= observed for row in signs]
    return float(Fraction(sum(hits), len(hits)))


@unhurried
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_the_test_by_patient_equals_trying_all_signs(differences: list[int]) -> None:
    a, b, cluster = [], [], []
    for patient, difference in enumerate(differences):
        for _ in range(max(1, abs(difference))):
            a.append(difference < 0)
            b.append(difference > 0)
            cluster.append(patient)
    result = mcnemar(a, b, cluster=cluster)
    assert result.patient_p_value is not None
    assert abs(result.patient_p_value - enumerated(differences)) < 1e-9


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200), st.integers(0, 99))
def test_properties_of_mcnemar(pairs: list[tuple[bool, bool]], seed: int) -> None:
    a, b = np.array(pairs).T
    alone = mcnemar(a, b, cluster=np.arange(len(a)))
    assert alone.patient_p_value is not None
    assert abs(alone.patient_p_value - alone.p_value) < 1e-9  # one image a patient
    swapped = mcnemar(b, a, cluster=np.arange(len(a)))
    assert (swapped.only_a, swapped.only_b, swapped.p_value) == (alone.only_b, alone.only_a, alone.p_value)
    order = np.random.default_rng(seed).permutation(len(a))
    assert mcnemar(a[order], b[order]).p_value == alone.p_value
    assert mcnemar(a, a).p_value == 1.0
    assert 0 < alone.p_value <= 1


# ---- DeLong ----


def placements(positive: npt.NDArray[np.bool_], score: Array) -> tuple[Array, Array]:
    """Placement values by comparing every positive with every negative."""
    x, y = score[positive][:, None], score[~positive][None, :]
    wins = (x > y) + 0.5 * (x == y)
    return wins.mean(axis=1), wins.mean(axis=0)


def plain_delong(positive: npt.NDArray[np.bool_], a: Array, b: Array) -> tuple[float, float, float]:
    """Areas and the variance of their difference by DeLong's own formulas: two 2x2 covariance matrices."""
    (va, wa), (vb, wb) = placements(positive, a), placements(positive, b)
    s = np.cov(np.stack([va, vb])) / positive.sum() + np.cov(np.stack([wa, wb])) / (~positive).sum()
    return float(va.mean()), float(vb.mean()), float(s[0, 0] + s[1, 1] - 2 * s[0, 1])


def clustered_delong(positive: npt.NDArray[np.bool_], a: Array, b: Array, cluster: npt.NDArray[np.int64]) -> float:
    """The variance by Obuchowski's formulas: both variances and the covariance of the two areas, cluster by cluster."""
    m, n = positive.sum(), (~positive).sum()
    ids = np.unique(cluster)
    v, w = zip(*(placements(positive, score) for score in (a, b)), strict=True)
    theta = [x.mean() for x in v]
    i10 = len(np.unique(cluster[positive]))
    i01 = len(np.unique(cluster[~positive]))

    def sums(model: int) -> tuple[Array, Array]:
        mine = [v[model][cluster[positive] == k] for k in ids]
        theirs = [w[model][cluster[~positive] == k] for k in ids]
        return (
            np.array([x.sum() - len(x) * theta[model] for x in mine]),
            np.array([x.sum() - len(x) * theta[model] for x in theirs]),
        )

    def covariance(first: int, second: int) -> float:
        (p1, q1), (p2, q2) = sums(first), sums(second)
        s10 = i10 / ((i10 - 1) * m) * (p1 * p2).sum()
        s01 = i01 / ((i01 - 1) * n) * (q1 * q2).sum()
        s11 = len(ids) / (len(ids) - 1) * (p1 * q2).sum()
        s11b = len(ids) / (len(ids) - 1) * (p2 * q1).sum()
        return float(s10 / m + s01 / n + (s11 + s11b) / (m * n))

    return covariance(0, 0) + covariance(1, 1) - 2 * covariance(0, 1)


@st.composite
def scored(draw: st.DrawFn) -> tuple[npt.NDArray[np.bool_], Array, Array, npt.NDArray[np.int64]]:
    n = draw(st.integers(6, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = rng.random(n) < 0.4
    positive[:4] = [True, True, False, False]
    a = rng.integers(0, 6, n) + positive if draw(st.booleans()) else rng.normal(size=n) + positive
    b = rng.integers(0, 6, n) if draw(st.booleans()) else a + rng.normal(size=n)
    return positive, a.astype(np.float64), b.astype(np.float64), np.r_[np.arange(4), rng.integers(4, 4 + n // 2, n - 4)]


@unhurried
@given(scored())
def test_delong_equals_comparing_all_pairs(
    drawn: tuple[npt.NDArray[np.bool_], Array, Array, npt.NDArray[np.int64]],
) -> None:
    positive, a, b, cluster = drawn
    area_a, area_b, variance = plain_delong(positive, a, b)
    for result, expected in (
        (delong(positive, a, b), variance),
        (delong(positive, a, b, cluster=cluster), clustered_delong(positive, a, b, cluster)),
    ):
        if isinstance(result, Undefined):
            assert expected < 1e-12
            assert abs(area_a - area_b) > 1e-12
            continue
        assert abs(result.auc_a - area_a) < 1e-9
        assert abs(result.auc_b - area_b) < 1e-9
        assert abs(result.standard_error**2 - max(expected, 0)) < 1e-9
        if result.standard_error > 1e-6:
            p = 2 * scipy.stats.norm.sf(abs(area_b - area_a) / result.standard_error)
            assert abs(result.p_value - p) < 1e-9
            low, high = scipy.stats.norm.interval(0.95, loc=area_b - area_a, scale=result.standard_error)
            assert abs(result.low - low) < 1e-9
            assert abs(result.high - high) < 1e-9


# Albumin, total protein, K-G score and whether the patient died, 43 patients with ovarian cancer and intestinal
# obstruction: the data of DeLong et al. (1988).
_DELONG_1988 = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def test_the_example_of_delong_and_colleagues() -> None:
    """Printed values: SAS/STAT user's guide, PROC LOGISTIC, "Comparing receiver operating characteristic curves"."""
    albumin, protein, kg, alive = np.array(_DELONG_1988.split(), dtype=np.float64).reshape(-1, 4).T
    for score, area, difference, error, p in (
        (albumin, "0.7366", "0.0108", "0.0953", "0.9102"),
        (protein, "0.6478", "-0.0780", "0.1046", "0.4561"),
    ):
        result = delong(alive == 1, 10 - kg, score)
        assert isinstance(result, DeLong)
        shown = (result.auc_a, result.auc_b, result.difference, result.standard_error, result.p_value)
        assert [f"{value:.4f}" for value in shown] == ["0.7258", area, difference, error, p]


@unhurried
@given(scored(), st.integers(0, 99))
def test_properties_of_delong(
    drawn: tuple[npt.NDArray[np.bool_], Array, Array, npt.NDArray[np.int64]], seed: int
) -> None:
    positive, a, b, cluster = drawn
    result, swapped = delong(positive, a, b, cluster=cluster), delong(positive, b, a, cluster=cluster)
    if isinstance(result, Undefined):
        assert swapped == result
        return
    assert isinstance(swapped, DeLong)
    assert (swapped.difference, swapped.z, swapped.low, swapped.high) == (
        -result.difference,
        -result.z,
        -result.high,
        -result.low,
    )
    assert swapped.p_value == result.p_value
    order = np.random.default_rng(seed).permutation(len(a))
    again = delong(positive[order], a[order], b[order], cluster=cluster[order])
    assert isinstance(again, DeLong)
    assert abs(again.p_value - result.p_value) < 1e-6
    same = delong(positive, a, 2 * a + 1)  # the same order of images: the same area
    assert isinstance(same, DeLong)
    assert (same.difference, same.p_value) == (0, 1)


def test_delong_says_what_it_cannot_do() -> None:
    one_positive = [True, False, False, False]
    assert delong(one_positive, [1, 2, 3, 4], [4, 3, 2, 1]) == Undefined("fewer than two images are positive")
    assert delong(np.invert(one_positive), [1, 2, 3, 4], [4, 3, 2, 1]) == Undefined(
        "fewer than two images are negative"
    )
    both = delong([True, True, False, False], [3, 4, 1, 2], [1, 2, 3, 4], cluster=[5, 5, 6, 7])
    assert both == Undefined("fewer than two patients are positive")
    apart = delong([True, True, False, False], [3, 4, 1, 2], [1, 2, 3, 4])
    assert apart == Undefined("the difference of the areas shows no variance")
    with pytest.raises(ValueError, match="not finite"):
        delong([True, False], [1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="do not fit"):
        delong([True, False], [1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="do not fit"):
        mcnemar([True], [True, False])


@pytest.mark.timeout(60)  # comparing all pairs of images would take hours
def test_delong_on_the_largest_public_test_set() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(53_576) < 0.2
    a = rng.normal(size=53_576) + positive
    result = delong(positive, a, a + rng.normal(size=53_576), cluster=np.arange(53_576) // 2)
    assert isinstance(result, DeLong)


# ---- Holm ----


def plain_holm(p: list[float]) -> list[float]:
    """Step down by the rule itself: the smallest alpha at which each hypothesis is rejected."""
    m, order = len(p), np.argsort(p, kind="stable")
    adjusted = np.empty(m)
    for place, index in enumerate(order):
        adjusted[index] = max(min(1, (m - j) * p[order[j]]) for j in range(place + 1))
    return adjusted.tolist()


def test_holm_by_hand() -> None:
    # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04 lifted to the 0.06 before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-12)
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.1, 1.1])


@unhurried
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_the_rule(p: list[float]) -> None:
    assert holm(p) == pytest.approx(plain_holm(p), abs=1e-9)
    assert all(adjusted >= raw for adjusted, raw in zip(holm(p), p, strict=True))
