"""Metrics of many resamples at once.

Everything is a function of whole numbers that are summed over images, weighted by how often their cluster was drawn.
Sums of whole numbers below 2^53 are exact in float64, in any order: so the result depends neither on the number of
threads, nor on the size of a block, nor on the order of the images. Where the terms are no whole numbers (Brier, NLL,
ECE) they are rounded to a binary grid that is as fine as 2^53 allows, some 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation import confusion as by_confusion
from retino_cli.evaluation.judged import Judged, is_referable, is_vision_threatening
from retino_cli.evaluation.metrics import round_grade
from retino_cli.evaluation.probability import N_BINS, Binning, brier_per_image, confidence_bins, nll_per_image
from retino_cli.grades import GRADES, N_GRADES, REFERABLE_GRADE, VISION_THREATENING_GRADE

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_OF_CONFUSION: Final[dict[str, Callable[[Array], Array]]] = {
    "accuracy": by_confusion.accuracy,
    "balanced_accuracy": by_confusion.balanced_accuracy,
    "qwk": by_confusion.quadratic_weighted_kappa,
    "macro_f1": by_confusion.macro_f1,
    "referable_sensitivity": lambda c: by_confusion.sensitivity(c, REFERABLE_GRADE),
    "referable_specificity": lambda c: by_confusion.specificity(c, REFERABLE_GRADE),
    "vision_threatening_sensitivity": lambda c: by_confusion.sensitivity(c, VISION_THREATENING_GRADE),
    "vision_threatening_specificity": lambda c: by_confusion.specificity(c, VISION_THREATENING_GRADE),
}
_BINNINGS: Final[dict[str, Binning]] = {"ece": "equal_width", "ece_equal_mass": "equal_mass"}


@dataclass(frozen=True, eq=False)
class _Block:
    """Sums over images by cell: ``cells`` (N,) 0..n_cells-1; ``values`` (N,) whole numbers, None for 1."""

    cells: Codes
    values: Array | None
    n_cells: int


class ResampledMetrics:
    """The metrics ``names`` of one model's predictions, for any weights of the clusters.

    ``order`` (N,) puts the images into the order that ``codes`` (N,), their clusters 0..K-1, are in. ``names``
    afterwards are those that the predictions hold. Calling it with weights (B, K) gives the values (B, M), NaN where
    undefined.
    """

    def __init__(self, judged: Judged, order: Codes, codes: Codes, names: Sequence[str]) -> None:
        self._codes = codes
        self._blocks: list[_Block] = []
        self._metrics: dict[str, Callable[[Array, Array], Array]] = {}
        self._add_block(np.zeros(len(codes), dtype=np.int64), None, 1)  # column 0: images
        if not judged.binary:
            self._add_grades(judged, order, names)
        self._add_probabilities(judged, order, names)
        self._add_areas(judged, order, names)
        self.names = tuple(name for name in names if name in self._metrics)

    def __call__(self, weights: Array) -> Array:
        """(B, K) weights -> (B, M) values."""
        sums = np.empty((len(weights), sum(block.n_cells for block in self._blocks)))
        # Row by row, and not as one matrix product: BLAS would share it among threads that wait for each other.
        for row, drawn in enumerate(weights):
            per_image = drawn[self._codes]
            start = 0
            for block in self._blocks:
                terms = per_image if block.values is None else per_image * block.values
                sums[row, start : start + block.n_cells] = np.bincount(block.cells, terms, minlength=block.n_cells)
                start += block.n_cells
        return np.stack([self._metrics[name](weights, sums) for name in self.names], axis=1)

    def _add_block(self, cells: Codes, values: Array | None, n_cells: int) -> slice:
        """Sum ``values`` (or 1) by cell; returns the columns of ``sums`` that these sums are in."""
        start = sum(block.n_cells for block in self._blocks)
        self._blocks.append(_Block(cells, values, n_cells))
        return slice(start, start + n_cells)

    def _add_grades(self, judged: Judged, order: Codes, names: Sequence[str]) -> None:
        grade, predicted, expected = judged.grade[order], judged.predicted, judged.expected_grade
        if predicted is not None and any(name in _OF_CONFUSION for name in names):
            self._add_confusion(grade, predicted[order], _OF_CONFUSION)
        if expected is not None and "qwk_rounded" in names:
            rounded = round_grade(expected)[order]
            self._add_confusion(grade, rounded, {"qwk_rounded": by_confusion.quadratic_weighted_kappa})

    def _add_confusion(self, grade: Codes, predicted: Codes, metrics: dict[str, Callable[[Array], Array]]) -> None:
        columns = self._add_block(grade * N_GRADES + predicted, None, N_GRADES * N_GRADES)

        def bind(metric: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
            return lambda weights, sums: metric(sums[:, columns].reshape(-1, N_GRADES, N_GRADES))

        self._metrics.update({name: bind(metric) for name, metric in metrics.items()})

    def _add_probabilities(self, judged: Judged, order: Codes, names: Sequence[str]) -> None:
        if judged.probabilities is None:
            return
        grade, p = judged.grade[order], judged.probabilities[order]
        one_cell = np.zeros(len(grade), dtype=np.int64)
        for name, per_image in (("brier", brier_per_image), ("nll", nll_per_image)):
            if name in names:
                self._add_mean(name, one_cell, per_image(grade, p), 1)
        for name, binning in _BINNINGS.items():
            if name in names:
                gap = (np.argmax(p, axis=1) == grade) - p.max(axis=1)
                # The bins are those of the whole sample, in every resample.
                self._add_mean(name, confidence_bins(p, binning=binning), gap, N_BINS)

    def _add_mean(self, name: str, cells: Codes, terms: Array, n_cells: int) -> None:
        """A metric that is the sum over cells of the absolute weighted sum of ``terms`` (N,), divided by N."""
        n_clusters, largest_cluster = int(self._codes.max()) + 1, int(np.bincount(self._codes).max())
        largest = float(np.abs(terms).max()) * largest_cluster * n_clusters
        scale = 2.0 ** math.floor(52 - math.log2(max(largest, 1.0)))
        columns = self._add_block(cells, np.rint(terms * scale), n_cells)
        self._metrics[name] = lambda weights, sums: np.abs(sums[:, columns]).sum(axis=1) / scale / sums[:, 0]

    def _add_areas(self, judged: Judged, order: Codes, names: Sequence[str]) -> None:
        if "referable_auc" in names and judged.referable_score is not None:
            positive = is_referable(judged)[order]
            self._metrics["referable_auc"] = _area(positive, judged.referable_score[order], self._codes)
        if "vision_threatening_auc" in names and judged.vision_threatening_score is not None:
            positive = is_vision_threatening(judged)[order]
            score = judged.vision_threatening_score[order]
            self._metrics["vision_threatening_auc"] = _area(positive, score, self._codes)
        if "macro_auc" in names and judged.probabilities is not None:
            grade, p = judged.grade[order], judged.probabilities[order]
            areas = [_area(grade == k, p[:, k], self._codes) for k in GRADES]
            self._metrics["macro_auc"] = lambda weights, sums: np.mean([area(weights, sums) for area in areas], axis=0)


def _area(positive: npt.NDArray[np.bool_], score: Array, codes: Codes) -> Callable[[Array, Array], Array]:
    """The weighted area under the ROC curve, from one sort of the scores.

    AUC = sum over positives i of w_i (B_i + A_i) / 2 / (P Q): B_i is the weight of the negatives that score below i,
    A_i that of those that score not above it, P and Q are the weights of all positives and negatives.
    """
    order = np.argsort(score[~positive], kind="stable")
    negatives = score[~positive][order]
    negative_codes, positive_codes = codes[~positive][order], codes[positive]
    below = np.searchsorted(negatives, score[positive], side="left")
    not_above = np.searchsorted(negatives, score[positive], side="right")
    has_ties = bool((below != not_above).any())

    def area(weights: Array, sums: Array) -> Array:
        values = np.full(len(weights), np.nan)
        if len(positive_codes) == 0 or len(negative_codes) == 0:
            return values
        reached = np.zeros(len(negatives) + 1)
        for row, drawn in enumerate(weights):
            np.cumsum(drawn[negative_codes], out=reached[1:])
            of_positives = drawn[positive_codes]
            pairs = of_positives.sum() * reached[-1]
            if pairs > 0:
                wins = (of_positives * reached[below]).sum()
                ties_and_wins = (of_positives * reached[not_above]).sum() if has_ties else wins
                values[row] = (wins + ties_and_wins) / (2.0 * pairs)
        return values

    return area
