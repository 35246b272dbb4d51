"""Metrics that follow from a confusion matrix.

Each function takes matrices ``confusion`` of the shape (..., 5, 5), ``confusion[..., i, j]`` being the number (or the
weight) of images of true grade i that were predicted as grade j, and returns an array of the shape (...): leading axes
are resamples, runs, whatever the caller puts there. A value that is 0/0 is NaN in these arrays;
``metrics.summarise`` turns it into ``Undefined`` with a reason, so that no NaN leaves the evaluation.

n is the sum of a matrix, n_i. the sum of row i (images of true grade i), n_.j the sum of column j (predicted as j).
Labels are 0..4 always, whatever grades occur.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retino_cli.grades import GRADES, N_GRADES, REFERABLE_GRADE

Array = npt.NDArray[np.float64]


def confusion_matrix(grade: npt.ArrayLike, predicted: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Count images by (true grade, predicted grade).

    ``grade`` and ``predicted``: (N,) integers 0..4. Returns (5, 5) int64, rows true, columns predicted; its sum is N.
    Raises ``ValueError`` for other shapes or values.
    """
    true, guess = np.asarray(grade), np.asarray(predicted)
    if true.ndim != 1 or true.shape != guess.shape:
        raise ValueError(f"grades of the shape {true.shape} and predictions of the shape {guess.shape} do not fit")
    for name, values in (("true", true), ("predicted", guess)):
        wrong = ~np.isin(values, GRADES)
        if wrong.any():
            raise ValueError(f"a {name} grade is {values[np.argmax(wrong)]}, not one of 0, 1, 2, 3, 4")
    cell = true.astype(np.int64) * N_GRADES + guess.astype(np.int64)
    return np.bincount(cell, minlength=N_GRADES * N_GRADES).reshape(N_GRADES, N_GRADES).astype(np.int64)


def accuracy(confusion: npt.ArrayLike) -> Array:
    """Share of images with the right grade: sum_i C_ii / n. Shape (..., 5, 5) -> (...), in [0, 1].

    NaN where the matrix is empty. Same as ``sklearn.metrics.accuracy_score``.
    """
    c = _matrices(confusion)
    return _ratio(np.trace(c, axis1=-2, axis2=-1), c.sum(axis=(-2, -1)))


def majority_accuracy(confusion: npt.ArrayLike) -> Array:
    """Share of the most frequent true grade: max_i n_i. / n. Shape (..., 5, 5) -> (...), in [0.2, 1].

    It is what a prediction of that one grade for every image scores: an accuracy means something only above it.
    NaN where the matrix is empty.
    """
    c = _matrices(confusion)
    return _ratio(c.sum(axis=-1).max(axis=-1), c.sum(axis=(-2, -1)))


def recall_per_grade(confusion: npt.ArrayLike) -> Array:
    """Share of the images of grade i that were predicted as i: C_ii / n_i. Shape (..., 5, 5) -> (..., 5), in [0, 1].

    NaN for a grade that does not occur. ``sklearn.metrics.recall_score(average=None)`` shows 0 there.
    """
    c = _matrices(confusion)
    return _ratio(_diagonal(c), c.sum(axis=-1))


def precision_per_grade(confusion: npt.ArrayLike) -> Array:
    """Share of the images predicted as j that are j: C_jj / n_.j. Shape (..., 5, 5) -> (..., 5), in [0, 1].

    NaN for a grade that is never predicted. ``sklearn.metrics.precision_score(average=None)`` shows 0 there.
    """
    c = _matrices(confusion)
    return _ratio(_diagonal(c), c.sum(axis=-2))


def balanced_accuracy(confusion: npt.ArrayLike) -> Array:
    """Mean recall over the grades that occur. Shape (..., 5, 5) -> (...), in [0, 1].

    A constant prediction scores 1 / (number of grades that occur). NaN where the matrix is empty.
    Same as ``sklearn.metrics.balanced_accuracy_score``.
    """
    c = _matrices(confusion)
    occurs = c.sum(axis=-1) > 0
    recall = np.where(occurs, recall_per_grade(c), 0.0)
    return _ratio(recall.sum(axis=-1), occurs.sum(axis=-1))


def macro_f1(confusion: npt.ArrayLike) -> Array:
    """Mean F1_i = 2 C_ii / (n_i. + n_.i) over the grades that occur or are predicted. (..., 5, 5) -> (...), in [0, 1].

    A grade that occurs and is never predicted counts with 0; one that neither occurs nor is predicted does not count.
    NaN where the matrix is empty. Same as ``sklearn.metrics.f1_score(average="macro")``.
    """
    c = _matrices(confusion)
    total = c.sum(axis=-1) + c.sum(axis=-2)
    seen = total > 0
    f1 = np.where(seen, _ratio(2.0 * _diagonal(c), total), 0.0)
    return _ratio(f1.sum(axis=-1), seen.sum(axis=-1))


def quadratic_weighted_kappa(confusion: npt.ArrayLike) -> Array:
    """Agreement beyond chance, disagreements weighted by squared distance. Shape (..., 5, 5) -> (...), in [-1, 1].

    QWK = 1 - sum_ij w_ij C_ij / sum_ij w_ij E_ij, w_ij = (i - j)^2 / 16, E_ij = n_i. n_.j / n.
    1 is perfect, 0 is chance: a constant prediction gives exactly 0. NaN where the matrix is empty, and where all true
    and all predicted grades are one and the same (0/0).

    Source: Cohen, "Weighted kappa", Psychological Bulletin 70 (1968) 213-220. Same as
    ``sklearn.metrics.cohen_kappa_score(weights="quadratic", labels=[0, 1, 2, 3, 4])``.
    """
    c = _matrices(confusion)
    grades = np.arange(N_GRADES, dtype=np.float64)
    weight = (grades[:, None] - grades[None, :]) ** 2  # the factor 1/16 cancels; without it all sums are whole numbers
    rows, columns = c.sum(axis=-1), c.sum(axis=-2)
    observed = (weight * c).sum(axis=(-2, -1)) * c.sum(axis=(-2, -1))
    expected = (weight * rows[..., :, None] * columns[..., None, :]).sum(axis=(-2, -1))
    return 1.0 - _ratio(observed, expected)


def sensitivity(confusion: npt.ArrayLike, threshold_grade: int = REFERABLE_GRADE) -> Array:
    """Share of the images with true grade >= t that were predicted as >= t. Shape (..., 5, 5) -> (...), in [0, 1].

    NaN where no image has a true grade >= t. t is in 1..4; 2, the default, is referable DR.
    """
    c, t = _matrices(confusion), _threshold(threshold_grade)
    return _ratio(c[..., t:, t:].sum(axis=(-2, -1)), c[..., t:, :].sum(axis=(-2, -1)))


def specificity(confusion: npt.ArrayLike, threshold_grade: int = REFERABLE_GRADE) -> Array:
    """Share of the images with true grade < t that were predicted as < t. Shape (..., 5, 5) -> (...), in [0, 1].

    NaN where no image has a true grade < t. t is in 1..4; 2, the default, is referable DR.
    """
    c, t = _matrices(confusion), _threshold(threshold_grade)
    return _ratio(c[..., :t, :t].sum(axis=(-2, -1)), c[..., :t, :].sum(axis=(-2, -1)))


def _matrices(confusion: npt.ArrayLike) -> Array:
    c = np.asarray(confusion, dtype=np.float64)
    if c.shape[-2:] != (N_GRADES, N_GRADES):
        raise ValueError(f"a confusion matrix has the shape (..., 5, 5), not {c.shape}")
    return c


def _threshold(grade: int) -> int:
    if grade not in GRADES[1:]:
        raise ValueError(f"the threshold grade is {grade}, not one of 1, 2, 3, 4")
    return grade


def _diagonal(c: Array) -> Array:
    return np.diagonal(c, axis1=-2, axis2=-1)


def _ratio(numerator: npt.NDArray[np.generic], denominator: npt.NDArray[np.generic]) -> Array:
    """Divide; NaN, without a warning, where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out
