"""ROC and precision-recall curves of one binary question, from labels and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """All thresholds of a score, from the highest: an image is called positive where its score >= ``threshold``.

    ``threshold`` (T,) strictly falling, the first inf (no image is called positive); ``true_positives`` and
    ``false_positives`` (T,) counts; ``n_positive`` and ``n_negative`` images in all.
    """

    threshold: Array
    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    n_positive: int
    n_negative: int

    @property
    def sensitivity(self) -> Array:
        """(T,) share of the positives that are called positive (recall, true positive rate). Rises from 0 to 1."""
        return self.true_positives / self.n_positive

    @property
    def specificity(self) -> Array:
        """(T,) share of the negatives that are not called positive: 1 - false positive rate. Falls from 1 to 0."""
        return 1.0 - self.false_positives / self.n_negative

    @property
    def precision(self) -> Array:
        """(T,) share of those called positive that are: the PPV among these images; 1 where none is called."""
        called = self.true_positives + self.false_positives
        return np.where(called > 0, self.true_positives / np.where(called > 0, called, 1), 1.0)

    @property
    def average_precision(self) -> float:
        """sum over thresholds of (recall_t - recall_(t-1)) precision_t, in [0, 1].

        Same as ``sklearn.metrics.average_precision_score``. Its chance level is the share of positives.
        """
        return math.fsum((np.diff(self.sensitivity) * self.precision[1:]).tolist())


def trace_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> Curve:
    """Count true and false positives at every threshold. (N,) bool, (N,) finite scores.

    Raises ``ValueError`` where shapes do not fit, a score is not finite, or all images are positive, or none.
    """
    is_positive, values = np.asarray(positive, dtype=np.bool_), np.asarray(score, dtype=np.float64)
    if is_positive.ndim != 1 or is_positive.shape != values.shape:
        raise ValueError(f"positives of the shape {is_positive.shape} and scores of {values.shape} do not fit")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    n_positive = int(is_positive.sum())
    if n_positive in (0, len(values)):
        raise ValueError("a curve needs positive and negative images")
    thresholds, place = np.unique(-values, return_inverse=True)
    hits = np.bincount(place, weights=is_positive.astype(np.float64)).astype(np.int64)
    alarms = np.bincount(place).astype(np.int64) - hits
    zero = np.zeros(1, dtype=np.int64)
    return Curve(
        threshold=np.concatenate([[np.inf], -thresholds]),
        true_positives=np.concatenate([zero, np.cumsum(hits)]),
        false_positives=np.concatenate([zero, np.cumsum(alarms)]),
        n_positive=n_positive,
        n_negative=len(values) - n_positive,
    )
