"""Metrics of the five probabilities themselves: Brier score, log-loss and calibration error.

``p`` is (N, 5), each row a distribution over the grades 0..4; ``grade`` is (N,), the true grades. All of these are
better when lower, and 0 for a certain and right prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.ranking import midranks
from retino_cli.grades import N_GRADES

Array = npt.NDArray[np.float64]
Binning = Literal["equal_width", "equal_mass"]

NLL_FLOOR: Final = 2.0**-52
"""Probabilities below it count as it in the log-loss: one certain and wrong image costs 36.04 nats, not infinity. The
value is scikit-learn's."""

N_BINS: Final = 15
"""As in Guo et al. (2017), and in most papers since."""


def brier_per_image(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """sum_k (p_k - [k = grade])^2 of each image. (N,), (N, 5) -> (N,), in [0, 2]."""
    true, p = _arrays(grade, probabilities)
    return np.asarray(((p - np.eye(N_GRADES)[true]) ** 2).sum(axis=1))


def brier_score(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean over the images of sum_k (p_k - [k = grade])^2, in [0, 2].

    The sum runs over all five grades (Brier's own definition): it is not halved, and not the mean over grades.
    Source: Brier, Monthly Weather Review 78 (1950) 1-3. Same as
    ``sklearn.metrics.brier_score_loss(labels=[0, 1, 2, 3, 4], scale_by_half=False)``.
    """
    return _mean(brier_per_image(grade, probabilities))


def nll_per_image(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """-log(max(p_grade, 2^-52)) of each image, in nats. (N,), (N, 5) -> (N,), in [0, 36.05]."""
    true, p = _arrays(grade, probabilities)
    return -np.log(np.maximum(p[np.arange(len(true)), true], NLL_FLOOR)) + 0.0  # + 0.0: no "-0.0" for a certain one


def negative_log_likelihood(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean over the images of -log(max(p_grade, 2^-52)), in nats, in [0, 36.05]; also called log-loss.

    Source: Good, Journal of the Royal Statistical Society B 14 (1952) 107-114. Same as ``sklearn.metrics.log_loss``.
    """
    return _mean(nll_per_image(grade, probabilities))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Images binned by the confidence of their predicted grade: the data of a reliability diagram and of the ECE.

    ``count`` (M,) images per bin; ``confidence`` (M,) mean probability of the predicted grade; ``accuracy`` (M,) share
    that is right, with a 95 % Wilson interval ``low``..``high`` that takes images as independent; both NaN in an empty
    bin. ``edges`` (M + 1,) of equal-width bins, None for equal-mass bins.
    """

    count: npt.NDArray[np.int64]
    confidence: Array
    accuracy: Array
    low: Array
    high: Array
    edges: Array | None

    @property
    def calibration_error(self) -> float:
        """sum over bins of count / N * |accuracy - confidence|: the ECE."""
        filled = self.count > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return math.fsum(self.count[filled] * gap) / int(self.count.sum())


def confidence_bins(probabilities: npt.ArrayLike, *, binning: Binning = "equal_width") -> npt.NDArray[np.int64]:
    """The bin 0..14 of each image by its confidence c = max_k p_k. (N, 5) -> (N,).

    "equal_width": bin b holds b / 15 < c <= (b + 1) / 15. "equal_mass": bin floor(15 (r - 1/2) / N), r being the
    midrank of c: bins of N / 15 images, as nearly as can be, equal confidences always in one bin. Neither depends on
    the order of the images.
    """
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    if binning == "equal_width":
        bins = np.searchsorted(_edges(), confidence, side="left") - 1
        # A row may sum to 1 + 1e-15.
        return np.asarray(np.clip(bins, 0, N_BINS - 1), dtype=np.int64)
    doubled = np.rint(2.0 * midranks(confidence)).astype(np.int64)  # whole numbers: no bin hangs on a rounding
    return np.asarray(N_BINS * (doubled - 1) // (2 * len(confidence)), dtype=np.int64)


def reliability(grade: npt.ArrayLike, probabilities: npt.ArrayLike, *, binning: Binning = "equal_width") -> Reliability:
    """Bin the images by confidence (see ``confidence_bins``) and compare confidence with accuracy."""
    true, p = _arrays(grade, probabilities)
    bins = confidence_bins(p, binning=binning)
    right = (np.argmax(p, axis=1) == true).astype(np.float64)
    # Sorted, so that the sums, and with them the last digits, do not depend on the order of the images.
    order = np.lexsort((p.max(axis=1), bins))
    count = np.bincount(bins, minlength=N_BINS)
    total = np.bincount(bins[order], weights=p.max(axis=1)[order], minlength=N_BINS)
    hits = np.bincount(bins, weights=right, minlength=N_BINS)
    safe = np.where(count > 0, count, 1)
    accuracy = np.where(count > 0, hits / safe, np.nan)
    confidence = np.where(count > 0, total / safe, np.nan)
    low, high = wilson_interval(hits, count)
    edges = _edges() if binning == "equal_width" else None
    return Reliability(count.astype(np.int64), confidence, accuracy, low, high, edges)


def expected_calibration_error(
    grade: npt.ArrayLike, probabilities: npt.ArrayLike, *, binning: Binning = "equal_width"
) -> float:
    """ECE = sum over 15 bins of (images in the bin / N) |accuracy - mean confidence|, in [0, 1].

    Confidence is the probability of the predicted grade. Estimated from few images, it is too high: the distance in
    each bin cannot be negative, so that chance adds to it.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017 (equal width); Nixon et al., "Measuring
    calibration in deep learning", CVPR workshops 2019 (equal mass).
    """
    return reliability(grade, probabilities, binning=binning).calibration_error


def wilson_interval(hits: npt.ArrayLike, count: npt.ArrayLike, *, z: float = 1.959963984540054) -> tuple[Array, Array]:
    """Score interval of a share ``hits / count``: (...) -> two arrays (...); NaN where count is 0.

    Source: Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    k, n = np.asarray(hits, dtype=np.float64), np.asarray(count, dtype=np.float64)
    safe = np.where(n > 0, n, 1.0)
    share = k / safe
    centre = (share + z * z / (2 * safe)) / (1 + z * z / safe)
    half = z / (1 + z * z / safe) * np.sqrt(share * (1 - share) / safe + z * z / (4 * safe * safe))
    low, high = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def _edges() -> Array:
    return np.arange(N_BINS + 1) / N_BINS


def _mean(values: Array) -> float:
    """The mean, rounded once: the same for every order of the images."""
    return math.fsum(values.tolist()) / len(values)


def _arrays(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], Array]:
    true, p = np.asarray(grade), np.asarray(probabilities, dtype=np.float64)
    if true.ndim != 1 or len(true) == 0 or p.shape != (len(true), N_GRADES):
        raise ValueError(f"grades of the shape {true.shape} and probabilities of {p.shape} do not fit")
    return true.astype(np.int64), p
