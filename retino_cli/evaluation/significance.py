"""Tests of a difference between two models on the same images: McNemar's, DeLong's, and Holm's correction.

Both tests also take clusters (patients). Two eyes of one patient are alike, and a test that takes all images as
independent rejects too often; the variants here treat a patient as a whole, and are the plain tests where every image
is a cluster of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.ranking import midranks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class McNemar:
    """``only_a`` images that A alone has right, ``only_b`` that B alone has. ``p_value``: images are independent;
    ``patient_p_value``: patients are (None where no patients were given)."""

    only_a: int
    only_b: int
    p_value: float
    patient_p_value: float | None = None


def mcnemar(right_a: npt.ArrayLike, right_b: npt.ArrayLike, *, cluster: npt.ArrayLike | None = None) -> McNemar:
    """McNemar's exact test of equal accuracy: (N,) bool, (N,) bool, two-sided.

    Of the n = only_a + only_b images on which exactly one model is right, B's share is Binomial(n, 1/2) when the two
    are equally good: p = min(1, 2 P(X <= min(only_a, only_b))); 1 where n = 0.

    ``cluster`` (N,) integers, the patient of each image, adds the exact test that lets A and B change places in whole
    patients: p = P(|sum_k s_k d_k| >= |sum_k d_k|), d_k being only_b - only_a of patient k, and s_k = -1 or +1 with
    probability 1/2 each. With one image a patient it is McNemar's.

    Sources: McNemar, Psychometrika 12 (1947) 153-157. Same as ``scipy.stats.binomtest(min(...), n).pvalue``.
    """
    a, b = np.asarray(right_a, dtype=np.bool_), np.asarray(right_b, dtype=np.bool_)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two models' right answers of the shapes {a.shape} and {b.shape} do not fit")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    patient_p = None
    if cluster is not None:
        codes = np.unique(np.asarray(cluster), return_inverse=True)[1]
        differences = np.bincount(codes, weights=b.astype(np.float64) - a.astype(np.float64)).astype(np.int64)
        patient_p = _sign_flip_p(differences)
    return McNemar(only_a, only_b, binomial_p(only_a, only_a + only_b), patient_p)


def binomial_p(k: int, n: int) -> float:
    """Two-sided exact p-value of k successes in n trials of probability 1/2: min(1, 2 P(X <= min(k, n - k)))."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} successes")
    m = min(k, n - k)
    if 2 * m == n:
        return 1.0
    # The largest term in whole numbers of any size, correctly rounded; the others by their ratios, largest first.
    term = math.comb(n, m) / (1 << n)
    total = term
    while m > 0 and term > 1e-17 * total:
        term *= m / (n - m + 1)
        m -= 1
        total += term
    return min(1.0, 2.0 * total)


def _sign_flip_p(differences: npt.NDArray[np.int64]) -> float:
    """P(|sum of +-d_k| >= |sum of d_k|), signs being fair coins; exact, by convolving binomial distributions."""
    observed = abs(int(differences.sum()))
    sizes = np.bincount(np.abs(differences))
    distribution = np.ones(1)  # of the sum, from -reach to reach
    for size, n in enumerate(sizes.tolist()):
        if size == 0 or n == 0:
            continue
        steps = np.zeros(2 * size * n + 1)
        steps[:: 2 * size] = _binomial_distribution(n)
        distribution = np.convolve(distribution, steps)
    reach = len(distribution) // 2
    if observed == 0:
        return 1.0
    return float(min(1.0, distribution[reach + observed :].sum() + distribution[: reach - observed + 1].sum()))


def _binomial_distribution(n: int) -> Array:
    """P(X = 0..n) for n fair coins."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # log k!
    return np.asarray(np.exp(logs[n] - logs - logs[::-1] - n * math.log(2.0)))


@dataclass(frozen=True)
class DeLong:
    """Two areas under the ROC curve of the same images. ``difference`` = b - a, with its standard error and interval;
    ``p_value`` two-sided."""

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    low: float
    high: float
    level: float
    z: float
    p_value: float


def delong(
    positive: npt.ArrayLike,
    score_a: npt.ArrayLike,
    score_b: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> DeLong | Undefined:
    """DeLong's test of two correlated areas under the ROC curve: (N,) bool, (N,), (N,) finite scores.

    A placement value V_i of a positive is the share of the negatives that score lower (ties one half), of a negative
    the share of the positives that score higher. With D the differences of both models' placement values, centred,
    var(b - a) = S10 / P + S01 / Q (sample variances of D among the P positives and the Q negatives), z = (b - a) / sd,
    p = erfc(|z| / sqrt 2). The normal distribution is an approximation: with few positives or negatives it is rough.

    ``cluster`` (N,) integers, the patient of each image, sums D by patient first (Obuchowski), which allows for the two
    eyes of a patient being alike. Without it images are taken as independent.

    ``Undefined`` with fewer than two positives or negatives (or patients that have them), and where the variance is 0
    though the areas differ. Equal scores give p = 1.

    Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837-845; in O(N log N) by Sun and Xu, IEEE Signal
    Processing Letters 21 (2014) 1389-1393; clusters: Obuchowski, Biometrics 53 (1997) 567-578.
    """
    is_positive = np.asarray(positive, dtype=np.bool_)
    scores = np.stack([np.asarray(score, dtype=np.float64) for score in (score_a, score_b)])
    if is_positive.ndim != 1 or scores.shape[1:] != is_positive.shape:
        raise ValueError(f"positives of the shape {is_positive.shape} and scores of {scores.shape[1:]} do not fit")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    codes = np.arange(len(is_positive)) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    with_positive = len(np.unique(codes[is_positive]))
    with_negative = len(np.unique(codes[~is_positive]))
    if min(with_positive, with_negative) < 2:
        who = "positive" if with_positive < with_negative else "negative"
        return Undefined(f"fewer than two {'images' if cluster is None else 'patients'} are {who}")
    # (2, P) and (2, Q) placement values: rank among all minus rank among the own kind.
    all_ranks = midranks(scores)
    of_positives = (all_ranks[:, is_positive] - midranks(scores[:, is_positive])) / n_negative
    of_negatives = 1.0 - (all_ranks[:, ~is_positive] - midranks(scores[:, ~is_positive])) / n_positive
    auc_a, auc_b = (math.fsum(row.tolist()) / n_positive for row in of_positives)
    difference = auc_b - auc_a
    n_clusters = int(codes.max()) + 1
    centred_positives = of_positives[1] - of_positives[0] - difference
    centred_negatives = of_negatives[1] - of_negatives[0] - difference
    by_positive = np.bincount(codes[is_positive], weights=centred_positives, minlength=n_clusters)
    by_negative = np.bincount(codes[~is_positive], weights=centred_negatives, minlength=n_clusters)
    variance = (
        with_positive / (with_positive - 1) * math.fsum((by_positive**2).tolist()) / n_positive**2
        + with_negative / (with_negative - 1) * math.fsum((by_negative**2).tolist()) / n_negative**2
        + 2 * n_clusters / (n_clusters - 1) * math.fsum((by_positive * by_negative).tolist()) / n_positive / n_negative
    )
    error = math.sqrt(max(variance, 0.0))
    if error < 1e-12:  # nothing but rounding
        if abs(difference) > 1e-12:
            return Undefined("the difference of the areas shows no variance")
        return DeLong(auc_a, auc_b, 0.0, 0.0, 0.0, 0.0, level, 0.0, 1.0)
    z = difference / error
    half = NormalDist().inv_cdf((1.0 + level) / 2.0) * error
    p_value = math.erfc(abs(z) / math.sqrt(2.0))
    return DeLong(auc_a, auc_b, difference, error, difference - half, difference + half, level, z, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for m tests: adjusted p-values, in the order given.

    With p_(1) <= ... <= p_(m): adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)). Calling those below 0.05
    significant keeps the chance of one or more false calls among all m tests below 5 %, however they depend on each
    other. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70. Same as R's ``p.adjust(method = "holm")``.
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("a p-value is not between 0 and 1")
    adjusted = [1.0] * len(p_values)
    reached = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = reached
    return adjusted
