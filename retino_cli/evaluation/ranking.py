"""Areas under the ROC curve, computed from midranks.

As in ``confusion``, leading axes pass through, and an area that is not defined is NaN in the arrays;
``metrics.summarise`` turns it into ``Undefined`` with a reason.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retino_cli.grades import GRADES, N_GRADES

Array = npt.NDArray[np.float64]


def midranks(score: npt.ArrayLike) -> Array:
    """Ranks from 1 along the last axis; equal scores share the mean of their ranks. Shape (..., N) -> (..., N).

    Scores must be finite. Same as ``scipy.stats.rankdata(method="average")``.
    """
    values = np.asarray(score, dtype=np.float64)
    n = values.shape[-1]
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    position = np.broadcast_to(np.arange(n), values.shape)
    starts = np.ones(values.shape, dtype=np.bool_)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(values.shape, dtype=np.bool_)
    ends[..., :-1] = starts[..., 1:]
    first = np.maximum.accumulate(np.where(starts, position, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, position, n)[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, 0.5 * (first + last) + 1.0, axis=-1)
    return ranks


def binary_auc(positive: npt.ArrayLike, score: npt.ArrayLike) -> Array:
    """Probability that a positive image scores higher than a negative one, ties counting one half.

    AUC = (sum of the midranks of the P positives - P (P + 1) / 2) / (P (N - P)); the Mann-Whitney statistic, equal to
    the trapezoidal area under the ROC curve. ``positive``: (..., N) bool; ``score``: (..., N) finite numbers.
    Shape (..., N) -> (...), in [0, 1]. NaN where all images are positive, or none.

    Source: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143 (1982) 29-36. Same as ``sklearn.metrics.roc_auc_score``.
    """
    is_positive = np.asarray(positive, dtype=np.bool_)
    values = np.asarray(score, dtype=np.float64)
    if is_positive.shape[-1:] != values.shape[-1:]:
        raise ValueError(f"positives of the shape {is_positive.shape} and scores of {values.shape} do not fit")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    n_positive = is_positive.sum(axis=-1).astype(np.float64)
    n_negative = is_positive.shape[-1] - n_positive
    rank_sum = np.where(is_positive, midranks(values), 0.0).sum(axis=-1)
    pairs = n_positive * n_negative
    wins = np.asarray(rank_sum - n_positive * (n_positive + 1.0) / 2.0)
    area = np.full(wins.shape, np.nan)
    np.divide(wins, pairs, out=area, where=pairs > 0)
    return area


def macro_auc(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Mean over the five grades k of the AUC of p_k for "grade k" against all others.

    ``grade``: (..., N) integers 0..4; ``probabilities``: (..., N, 5). Shape -> (...), in [0, 1]. NaN where a grade does
    not occur: a mean over fewer grades would be a different number under the same name.

    Source: MedMNIST (Yang et al., Scientific Data 10 (2023) 41), ``getAUC`` of its evaluator, multi-class. Same as
    ``sklearn.metrics.roc_auc_score(multi_class="ovr", average="macro")``.
    """
    grades, p = np.asarray(grade), np.asarray(probabilities, dtype=np.float64)
    if p.shape[-1:] != (N_GRADES,) or p.shape[-2:-1] != grades.shape[-1:]:
        raise ValueError(f"grades of the shape {grades.shape} and probabilities of {p.shape} do not fit")
    areas = [binary_auc(grades == k, p[..., k]) for k in GRADES]
    return np.asarray(np.mean(areas, axis=0))
