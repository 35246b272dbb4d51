"""The bootstrap itself: which clusters are drawn, and the interval that follows from the resampled values.

A cluster is what is drawn as a whole: all images of a patient, or one image whose patient is unknown. Two eyes of a
patient are alike; drawing images one by one would take them for independent, and make intervals too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from retino_cli.evaluation.metrics import Undefined

Array = npt.NDArray[np.float64]
Method = Literal["percentile", "centred percentile", "exact"]

N_RESAMPLES: Final = 2000
LEVEL: Final = 0.95
MAX_UNDEFINED_SHARE: Final = 0.05
"""Resamples in which a metric is undefined are left out. Above this share there is no interval: it would speak of other
images than these."""

_CHUNK_BYTES: Final = 16 * 2**20


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval: ``low <= value <= high`` with confidence ``level``.

    ``n_resamples`` were drawn, ``n_undefined`` of them left out. ``method`` is "percentile", "centred percentile"
    (calibration errors) or "exact" (a share of 0 or 1). ``p_value`` only for differences: two-sided, against 0.
    """

    estimate: float
    low: float
    high: float
    level: float = LEVEL
    n_resamples: int = N_RESAMPLES
    n_undefined: int = 0
    method: Method = "percentile"
    p_value: float | None = None

    def __str__(self) -> str:
        return f"{self:.3f}"

    def __format__(self, spec: str) -> str:
        """The three numbers, each by ``spec``: "0.798 [0.770, 0.824]"."""
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "level": self.level,
            "method": self.method,
            "n_resamples": self.n_resamples,
            "n_undefined": self.n_undefined,
            **({} if self.p_value is None else {"p_value": self.p_value}),
        }


def cluster_codes(image_id: npt.NDArray[np.str_], patient_id: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """The cluster 0..K-1 of each image: its patient, or itself where the patient is "". (N,), (N,) -> (N,).

    Codes follow the sorted names, so that they do not depend on the order of the images.
    """
    known = patient_id != ""
    # The letter in front keeps a patient apart from an image of the same name.
    names = np.where(known, np.strings.add("p", patient_id), np.strings.add("i", image_id))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def draw_clusters(n_clusters: int, n_resamples: int, *, seed: int, chunk: int | None = None) -> Iterator[Array]:
    """Yield how often each cluster is drawn, K of K with replacement, in blocks (<= chunk, K) of resamples.

    The draws depend on ``seed`` and K alone, not on ``chunk``, which bounds the memory (default: about 16 MiB a block).
    """
    generator = np.random.default_rng(seed)
    block = chunk if chunk is not None else max(1, _CHUNK_BYTES // (8 * n_clusters))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        drawn = generator.integers(n_clusters, size=(rows, n_clusters))
        drawn += n_clusters * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n_clusters)
        yield counts.reshape(rows, n_clusters).astype(np.float64)


def sum_by_cluster(columns: npt.ArrayLike, codes: npt.NDArray[np.int64], n_clusters: int) -> Array:
    """Add up the rows of each cluster. (N, S) whole numbers, (N,) codes -> (K, S)."""
    values = np.asarray(columns, dtype=np.float64)
    return np.stack([np.bincount(codes, weights=column, minlength=n_clusters) for column in values.T], axis=1)


def resample_sums(
    sums: Array,
    statistic: Callable[[Array], Array],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    chunk: int | None = None,
) -> Array:
    """Values of a statistic of column sums in each resample. (K, S) whole numbers -> (n_resamples, M).

    ``statistic`` takes the sums (B, S) of B resamples and returns (B, M). The sums are exact: they do not depend on the
    number of threads or the size of a block.
    """
    blocks = draw_clusters(len(sums), n_resamples, seed=seed, chunk=chunk)
    by_column = np.ascontiguousarray(sums.T)
    # einsum, and not a matrix product: BLAS would share it among threads that wait for each other.
    return np.concatenate([statistic(np.einsum("bk,sk->bs", weights, by_column)) for weights in blocks])


def percentile_interval(
    samples: Array,
    estimate: float | Undefined,
    *,
    level: float = LEVEL,
    centred: bool = False,
    difference: bool = False,
) -> Interval | Undefined:
    """The interval between the (1 - level) / 2 and (1 + level) / 2 quantiles of ``samples`` (R,), NaN left out.

    Quantiles interpolate linearly between order statistics, as ``numpy.quantile`` does. ``centred`` shifts both ends by
    estimate - mean(samples). ``difference`` adds the p-value that goes with the interval: 2 (1 + m) / (R + 1), at most
    1, m being the number of samples on the rarer side of 0 (0 itself counts to both).

    ``Undefined`` where the estimate is, or more than 5 % of the samples.
    Source: Efron and Tibshirani, An introduction to the bootstrap (1993), chapter 13 (intervals) and 15.4 (p-value).
    """
    if isinstance(estimate, Undefined):
        return estimate
    values = np.sort(samples[np.isfinite(samples)])
    n_undefined = len(samples) - len(values)
    if n_undefined > MAX_UNDEFINED_SHARE * len(samples) or len(values) == 0:
        return Undefined(f"undefined in {n_undefined:,} of {len(samples):,} resamples: too few images of some kind")
    low = 0.0 + _quantile(values, (1.0 - level) / 2.0)
    # Mirrored, so that a difference the other way round only flips signs; from 0: there is no minus zero in a report.
    high = 0.0 - _quantile(-values[::-1], (1.0 - level) / 2.0)
    if centred:
        shift = estimate - math.fsum(values.tolist()) / len(values)
        low, high = low + shift, high + shift
    p_value = None
    if difference:
        rarer = min(int((values <= 0).sum()), int((values >= 0).sum()))
        p_value = min(1.0, 2.0 * (1 + rarer) / (len(values) + 1))
    return Interval(
        estimate,
        low,
        high,
        level,
        len(samples),
        n_undefined,
        "centred percentile" if centred else "percentile",
        p_value,
    )


def exact_interval(estimate: float, n: int, *, level: float = LEVEL, n_resamples: int = N_RESAMPLES) -> Interval:
    """The exact binomial interval of a share that is 0 or 1 among ``n`` independent ones.

    [(a/2)^(1/n), 1] for n of n, [0, 1 - (a/2)^(1/n)] for 0 of n, a = 1 - level. Every resample repeats such a share:
    the bootstrap would claim to know it exactly. Source: Clopper and Pearson, Biometrika 26 (1934) 404-413.
    """
    bound: float = ((1.0 - level) / 2.0) ** (1.0 / n)
    low, high = (bound, 1.0) if estimate == 1.0 else (0.0, 1.0 - bound)
    return Interval(estimate, low, high, level, n_resamples, 0, "exact")


def _quantile(ordered: Array, q: float) -> float:
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    step = float(ordered[above]) - float(ordered[below])
    return float(ordered[below]) + (position - below) * step
