"""Bootstrap intervals of every metric, and of the differences between models on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.errors import DataError
from retino_cli.evaluation.judged import Judged, Texts, is_referable
from retino_cli.evaluation.metrics import Undefined, summarise
from retino_cli.evaluation.resampled import ResampledMetrics
from retino_cli.evaluation.resampling import (
    LEVEL,
    N_RESAMPLES,
    Interval,
    cluster_codes,
    draw_clusters,
    exact_interval,
    percentile_interval,
)
from retino_cli.grades import REFERABLE_GRADE, VISION_THREATENING_GRADE

INTERVAL_METRICS: Final = (
    "accuracy",
    "balanced_accuracy",
    "qwk",
    "qwk_rounded",
    "macro_f1",
    "macro_auc",
    "referable_auc",
    "referable_sensitivity",
    "referable_specificity",
    "vision_threatening_auc",
    "vision_threatening_sensitivity",
    "vision_threatening_specificity",
    "brier",
    "nll",
    "ece",
    "ece_equal_mass",
)
"""The metrics of ``metrics.METRIC_NAMES`` that have intervals."""

_CENTRED: Final = frozenset({"ece", "ece_equal_mass"})
_BEST_AND_WORST: Final = {"qwk": (-1.0, 1.0), "qwk_rounded": (-1.0, 1.0), "brier": (0.0, 2.0)}  # others: 0 and 1


@dataclass(frozen=True, eq=False)
class Resamples:
    """The metrics of one or several models in the same resamples of the same images.

    ``names``: M metrics. ``estimates``: their values on the images themselves, per model. ``samples``: (models,
    n_resamples, M), NaN where undefined. ``n_clusters``: patients and single images that were drawn from, in all, and
    those that hold what a share is taken of ("referable_sensitivity": those with a referable image).
    """

    names: tuple[str, ...]
    estimates: tuple[dict[str, float | Undefined], ...]
    samples: npt.NDArray[np.float64]
    level: float
    n_clusters: dict[str, int]

    def intervals(self, model: int = 0) -> dict[str, Interval | Undefined]:
        """The interval of each metric of one model, by name."""
        return {name: self._interval(model, column, name) for column, name in enumerate(self.names)}

    def differences(self, a: int = 0, b: int = 1) -> dict[str, Interval | Undefined]:
        """The interval of each metric's difference b - a, by name; ``differences(b, a)`` has exactly the other sign."""
        found: dict[str, Interval | Undefined] = {}
        for column, name in enumerate(self.names):
            first, second = self.estimates[a][name], self.estimates[b][name]
            if isinstance(first, Undefined):
                found[name] = first
                continue
            if isinstance(second, Undefined):
                found[name] = second
                continue
            samples = self.samples[b, :, column] - self.samples[a, :, column]
            found[name] = percentile_interval(
                samples, second - first, level=self.level, centred=name in _CENTRED, difference=True
            )
        return found

    def _interval(self, model: int, column: int, name: str) -> Interval | Undefined:
        estimate, samples = self.estimates[model][name], self.samples[model, :, column]
        interval = percentile_interval(samples, estimate, level=self.level, centred=name in _CENTRED)
        if isinstance(interval, Undefined):
            return interval
        if name in _CENTRED:
            return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))
        if interval.low == interval.high and interval.estimate in _BEST_AND_WORST.get(name, (0.0, 1.0)):
            if name in self.n_clusters:
                return exact_interval(
                    interval.estimate, self.n_clusters[name], level=self.level, n_resamples=len(samples)
                )
            return Undefined(f"it is {interval.estimate:g} in every resample, which shows no limit")
        return interval


def resample(
    predictions: Sequence[Judged],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    metrics: Sequence[str] = INTERVAL_METRICS,
    chunk: int | None = None,
) -> Resamples:
    """Draw patients (images, where the patient is unknown) with replacement, and score every model on each draw.

    ``predictions``: one or several models' for the same images, in any order. The draws depend on ``seed`` and the
    names of images and patients; the result is the same for every number of threads and every ``chunk``, the resamples
    that are held in memory at once.

    Raises ``DataError`` where images, true grades or patients are not the same for all models, ``ValueError`` for an
    unknown metric, a level outside (0, 1), or no resample.
    """
    unknown = [name for name in metrics if name not in INTERVAL_METRICS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} has no interval; those that have: {', '.join(INTERVAL_METRICS)}")
    if not 0 < level < 1 or n_resamples < 1:
        raise ValueError(f"level {level} and {n_resamples} resamples: a level lies between 0 and 1, resamples are >= 1")
    orders = [np.argsort(one.image_id, kind="stable") for one in predictions]
    image_id, patient_id = _check_same(predictions, orders)
    codes = cluster_codes(image_id, patient_id)
    models = [ResampledMetrics(one, order, codes, metrics) for one, order in zip(predictions, orders, strict=True)]
    n_clusters = int(codes.max()) + 1
    samples = np.full((len(models), n_resamples, len(metrics)), np.nan)
    start = 0
    for weights in draw_clusters(n_clusters, n_resamples, seed=seed, chunk=chunk):
        for place, model in enumerate(models):
            columns = [metrics.index(name) for name in model.names]
            samples[place, start : start + len(weights), columns] = model(weights).T
        start += len(weights)
    return Resamples(
        names=tuple(metrics),
        estimates=tuple(summarise(one) for one in predictions),
        samples=samples,
        level=level,
        n_clusters=_clusters_with(predictions[0], orders[0], codes),
    )


def bootstrap_intervals(
    predictions: Judged,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    metrics: Sequence[str] = INTERVAL_METRICS,
    chunk: int | None = None,
) -> dict[str, Interval | Undefined]:
    """The confidence interval of every metric, by percentile bootstrap clustered by patient. See ``docs/metrics.md``.

    ``Undefined`` where the metric is, where too many resamples do not define it, and where a perfect (or entirely
    wrong) value other than a share is repeated by every resample. Errors as in ``resample``.
    """
    drawn = resample([predictions], n_resamples=n_resamples, seed=seed, level=level, metrics=metrics, chunk=chunk)
    return drawn.intervals()


def paired_bootstrap(
    a: Judged,
    b: Judged,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    metrics: Sequence[str] = INTERVAL_METRICS,
    chunk: int | None = None,
) -> dict[str, Interval | Undefined]:
    """The difference of every metric, b - a, with its interval and p-value: both are scored on the same resamples.

    Swapping a and b flips the signs exactly. Errors as in ``resample``.
    """
    drawn = resample([a, b], n_resamples=n_resamples, seed=seed, level=level, metrics=metrics, chunk=chunk)
    return drawn.differences()


def _check_same(predictions: Sequence[Judged], orders: Sequence[npt.NDArray[np.int64]]) -> tuple[Texts, Texts]:
    """The images, sorted, and their patients: each from whichever model names it."""
    first, order = predictions[0], orders[0]
    image_id, patient_id = first.image_id[order], first.patient_id[order]
    for other, theirs in zip(predictions[1:], orders[1:], strict=True):
        if len(other.image_id) != len(image_id) or (other.image_id[theirs] != image_id).any():
            raise DataError("These predictions are not for the same images, and cannot be compared.")
        if first.binary or other.binary:
            differs = is_referable(first)[order] != is_referable(other)[theirs]
        else:
            differs = first.grade[order] != other.grade[theirs]
        if differs.any():
            raise DataError(
                f"These predictions disagree on the true grade of {int(differs.sum())} images, the first being "
                f"{str(image_id[differs][0])!r}."
            )
        named = other.patient_id[theirs]
        conflict = (patient_id != "") & (named != "") & (patient_id != named)
        if conflict.any():
            raise DataError(
                f"These predictions name different patients for {int(conflict.sum())} images, the first being "
                f"{str(image_id[conflict][0])!r}."
            )
        patient_id = np.where(patient_id == "", named, patient_id)
    return image_id, patient_id


def _clusters_with(judged: Judged, order: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]) -> dict[str, int]:
    counts = {"accuracy": int(codes.max()) + 1}
    if judged.binary:
        return counts
    grade = judged.grade[order]
    for target, threshold in (("referable", REFERABLE_GRADE), ("vision_threatening", VISION_THREATENING_GRADE)):
        counts[f"{target}_sensitivity"] = len(np.unique(codes[grade >= threshold]))
        counts[f"{target}_specificity"] = len(np.unique(codes[grade < threshold]))
    return counts
