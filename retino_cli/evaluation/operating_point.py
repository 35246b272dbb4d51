"""Operating points: a threshold chosen on validation, and what it does to patients at a stated prevalence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from retino_cli.errors import DataError
from retino_cli.evaluation.curves import Curve, trace_curve
from retino_cli.evaluation.judged import Judged, is_referable, is_vision_threatening
from retino_cli.evaluation.metrics import Undefined, absence_reasons
from retino_cli.evaluation.resampling import (
    LEVEL,
    N_RESAMPLES,
    Interval,
    cluster_codes,
    exact_interval,
    percentile_interval,
    resample_sums,
    sum_by_cluster,
)

Array = npt.NDArray[np.float64]
Target = Literal["referable", "vision_threatening"]
Ungradable = Literal["exclude", "refer"]

ROWS: Final = ("sensitivity", "specificity", "ppv", "npv", "referral_rate")
"""The rows of an operating table."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold: an image is called positive where its score >= ``threshold``.

    ``criterion`` ("sensitivity" or "specificity") reached ``wanted`` on the ``n_images`` of validation; ``sensitivity``
    and ``specificity`` are the values there.
    """

    target: Target
    criterion: Literal["sensitivity", "specificity"]
    wanted: float
    threshold: float
    sensitivity: float
    specificity: float
    n_images: int


@dataclass(frozen=True)
class OperatingTable:
    """What a threshold does at ``prevalence``: ``values`` and their ``intervals``, both by name (``ROWS``).

    ``assumed_prevalence``: it was stated; else it is the share of positives among these images. ``ungradable`` images
    were ``policy``: left out of everything ("exclude"), or counted as referred ("refer"). ``counts`` among the gradable
    images: true_positives, false_negatives, true_negatives, false_positives.
    """

    target: Target
    threshold: float
    prevalence: float
    assumed_prevalence: bool
    values: dict[str, float | Undefined]
    intervals: dict[str, Interval | Undefined]
    counts: dict[str, int]
    ungradable: int
    policy: Ungradable


def labels_and_scores(predictions: Judged, target: Target = "referable") -> tuple[npt.NDArray[np.bool_], Array]:
    """(N,) bool which images are positive, and (N,) their scores.

    ``DataError`` where the predictions have no score for ``target``.
    """
    score = predictions.referable_score if target == "referable" else predictions.vision_threatening_score
    if score is None or (predictions.binary and target != "referable"):
        raise DataError(
            f"There is no score for {_shown(target)} DR: {predictions.lacking}.",
            "An operating point needs five probabilities, or a score.",
        )
    return is_referable(predictions) if target == "referable" else is_vision_threatening(predictions), score


def trace_target(predictions: Judged, target: Target = "referable") -> Curve | Undefined:
    """The ROC and precision-recall curve of ``target``; ``Undefined`` where all images have it, or none."""
    positive, score = labels_and_scores(predictions, target)
    if positive.all() or not positive.any():
        return Undefined(absence_reasons(target)[int(positive.all())])
    return trace_curve(positive, score)


def choose_threshold(
    validation: Judged,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    target: Target = "referable",
) -> OperatingPoint:
    """The threshold that reaches the wanted sensitivity, or specificity, on ``validation``.

    ``sensitivity``: the highest threshold whose sensitivity is at least the wanted one (the most specific such point);
    ``specificity``: the lowest one among the scores that occur whose specificity is at least the wanted one (where none
    is, the next number above the highest score). Exactly one of them, in (0, 1].

    Raises ``ValueError`` for both or neither, or one out of range; ``DataError`` where validation has no positive or no
    negative image, or the predictions no score.
    """
    if (sensitivity is None) == (specificity is None):
        raise ValueError("either a sensitivity or a specificity is wanted")
    wanted = sensitivity if sensitivity is not None else specificity
    if wanted is None or not 0 < wanted <= 1:
        raise ValueError(f"the wanted value is {wanted}, not above 0 and at most 1")
    curve = trace_target(validation, target)
    if isinstance(curve, Undefined):
        raise DataError(
            f"No threshold can be chosen on validation: {curve.reason}.", "Choose it on a split that has both."
        )
    if sensitivity is not None:  # rises along the curve: the first point that reaches it
        place = int(np.argmax(_reaches(curve.true_positives, curve.n_positive, wanted)))
    else:  # falls along the curve: the last point that still reaches it
        kept = curve.n_negative - curve.false_positives
        place = int(np.flatnonzero(_reaches(kept, curve.n_negative, wanted))[-1])
    threshold = float(curve.threshold[place] if place > 0 else np.nextafter(curve.threshold[1], np.inf))
    return OperatingPoint(
        target=target,
        criterion="sensitivity" if sensitivity is not None else "specificity",
        wanted=wanted,
        threshold=threshold,
        sensitivity=float(curve.sensitivity[place]),
        specificity=float(curve.specificity[place]),
        n_images=curve.n_positive + curve.n_negative,
    )


def operating_table(
    predictions: Judged,
    threshold: float,
    *,
    prevalence: float | None = None,
    ungradable: int = 0,
    policy: Ungradable = "exclude",
    target: Target = "referable",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> OperatingTable:
    """Sensitivity, specificity, PPV, NPV and referral rate of score >= ``threshold``, with bootstrap intervals.

    With s the sensitivity and c the specificity on ``predictions``, pi the ``prevalence`` (default: the share of
    positives among these images) and u the share of ungradable images among all (0 for "exclude"):
    s' = (1 - u) s + u, c' = (1 - u) c; referral rate r = pi s' + (1 - pi)(1 - c'); PPV = pi s' / r;
    NPV = (1 - pi) c' / (1 - r). For "refer" this takes ungradable images to be positive as often as the others.
    pi and u are held fixed in the resamples: the intervals do not tell how well they are known.

    Raises ``ValueError`` for a prevalence outside [0, 1] or a negative count; ``DataError`` as ``labels_and_scores``.
    """
    if prevalence is not None and not 0 <= prevalence <= 1:
        raise ValueError(f"the prevalence is {prevalence}, not between 0 and 1")
    if ungradable < 0:
        raise ValueError(f"{ungradable} ungradable images")
    positive, score = labels_and_scores(predictions, target)
    called = score >= threshold
    cells = np.stack([positive & called, positive & ~called, ~positive & ~called, ~positive & called], axis=1)
    codes = cluster_codes(predictions.image_id, predictions.patient_id)
    n_clusters = int(codes.max()) + 1
    pi = float(positive.mean()) if prevalence is None else prevalence
    u = ungradable / (ungradable + len(positive)) if policy == "refer" else 0.0

    def statistic(sums: Array) -> Array:
        return _rates(sums, pi=pi, u=u)

    sums = sum_by_cluster(cells, codes, n_clusters)
    estimates = statistic(sums.sum(axis=0, keepdims=True))[0]
    samples = resample_sums(sums, statistic, n_resamples=n_resamples, seed=seed)
    none, all_of_them = absence_reasons(target)
    values: dict[str, float | Undefined] = {}
    intervals: dict[str, Interval | Undefined] = {}
    for column, name in enumerate(ROWS):
        value = float(estimates[column])
        if not math.isfinite(value):
            reason = Undefined(_why(name, positive, called, none=none, all_of_them=all_of_them))
            values[name] = intervals[name] = reason
            continue
        values[name] = value
        row = percentile_interval(samples[:, column], value, level=level)
        if isinstance(row, Interval) and row.low == row.high:
            if name in ("sensitivity", "specificity"):
                members = positive if name == "sensitivity" else ~positive
                share = float((called == positive)[members].mean())
                exact = exact_interval(share, len(np.unique(codes[members])), level=level, n_resamples=n_resamples)
                shift = u if name == "sensitivity" else 0.0
                low, high = ((1.0 - u) * end + shift for end in (exact.low, exact.high))
                row = replace(exact, estimate=value, low=low, high=high)
            else:
                row = Undefined(f"it is {value:g} in every resample, which shows no limit")
        intervals[name] = row
    counts = cells.sum(axis=0).tolist()
    names = ("true_positives", "false_negatives", "true_negatives", "false_positives")
    return OperatingTable(
        target=target,
        threshold=threshold,
        prevalence=pi,
        assumed_prevalence=prevalence is not None,
        values=values,
        intervals=intervals,
        counts=dict(zip(names, counts, strict=True)),
        ungradable=ungradable,
        policy=policy,
    )


def _rates(sums: Array, *, pi: float, u: float) -> Array:
    """(B, 4) true positives, false negatives, true negatives, false positives -> (B, 5) the rows, NaN for 0/0."""
    tp, fn, tn, fp = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        s = np.minimum((1.0 - u) * (tp / (tp + fn)) + u, 1.0)  # (1 - u) + u may be a rounding above 1
        c = (1.0 - u) * (tn / (tn + fp))
        # A class that has no weight need not occur: 0 * NaN would spoil the rest.
        found = pi * s if pi > 0 else np.zeros_like(s)
        cleared = (1.0 - pi) * c if pi < 1 else np.zeros_like(c)
        alarms = (1.0 - pi) - cleared
        missed = pi - found
        return np.stack([s, c, found / (found + alarms), cleared / (cleared + missed), found + alarms], axis=1)


def _why(
    name: str, positive: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_], *, none: str, all_of_them: str
) -> str:
    if name != "specificity" and not positive.any():
        return none
    if name != "sensitivity" and positive.all():
        return all_of_them
    return "no image is called positive" if name == "ppv" and not called.any() else "no image is called negative"


def _reaches(count: npt.NDArray[np.int64], total: int, wanted: float) -> npt.NDArray[np.bool_]:
    """count / total >= wanted, without a share such as 19/20 missing 0.95 by a rounding."""
    return np.asarray(count >= wanted * total - 1e-9 * total)


def _shown(target: Target) -> str:
    return target.replace("_", "-")
