"""The threshold for referable DR: a slider whose numbers page.js counts, and the points fitted on validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from retino_cli.errors import DataError
from retino_cli.evaluation.curves import Curve
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.operating_point import (
    OperatingPoint,
    OperatingTable,
    choose_threshold,
    labels_and_scores,
    operating_table,
    trace_target,
)
from retino_cli.evaluation.resampling import Interval
from retino_cli.report.charts import Mark, Rule, Series, line_chart
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section, notice, table, with_interval

WANTED: Final = (
    ("sensitivity", 0.95),
    ("sensitivity", 0.90),
    ("sensitivity", 0.85),
    ("specificity", 0.90),
    ("specificity", 0.95),
)
"""Operating points that are fitted where validation predictions are there."""
UNFITTED: Final = 0.5
"""Where the slider stands without a fitted point."""
_ROWS: Final = (
    ("sensitivity", "Sensitivity", "of those with referable DR, found"),
    ("specificity", "Specificity", "of those without, not referred"),
    ("ppv", "PPV", "of those referred, have referable DR"),
    ("npv", "NPV", "of those not referred, have none"),
    ("referral_rate", "Referral rate", "of all screened, referred"),
)
_COUNTS: Final = (
    ("true_positives", "found"),
    ("false_negatives", "missed"),
    ("true_negatives", "rightly not referred"),
    ("false_positives", "referred without need"),
)


@dataclass(frozen=True, eq=False)
class FittedPoint:
    """A threshold that validation chose, and what it does to the images of the report."""

    point: OperatingPoint
    table: OperatingTable


def fit_points(
    predictions: Judged, validation: Judged | None, *, stored: Mapping[str, Any] | None = None
) -> list[FittedPoint]:
    """The points of ``WANTED``, chosen on ``validation``; first the one that the evaluation asked for (``stored``: the
    field operating_point of metrics.json), at its own prevalence."""
    wanted: list[tuple[OperatingPoint, float | None]] = []
    if stored:
        shown = stored["table"]
        wanted.append(
            (
                OperatingPoint(**stored["chosen_on_validation"]),
                shown["prevalence"] if shown["assumed_prevalence"] else None,
            )
        )
    asked = {(point.criterion, point.wanted) for point, _prevalence in wanted}
    if validation is not None:
        for criterion, value in WANTED:
            try:
                point = choose_threshold(validation, **{criterion: value})  # type: ignore[arg-type] # one of two names
            except DataError:
                break  # validation has no positive or no negative image
            if (point.criterion, point.wanted) not in asked:
                wanted.append((point, wanted[0][1] if wanted else None))
    return [
        FittedPoint(point, operating_table(predictions, point.threshold, prevalence=prevalence))
        for point, prevalence in wanted
    ]


def threshold_section(
    predictions: Judged, points: list[FittedPoint], *, on_validation: bool
) -> tuple[Section, dict[str, Any]]:
    """The section, and what page.js counts with. ``on_validation``: the report shows the images that the points were
    fitted on."""
    key, title, short = "threshold", "Threshold for referable DR", "Threshold"
    if predictions.referable_score is None:
        return Section(key, title, element("p", f"There is no score to put a threshold on: {predictions.lacking}.")), {}
    curve = trace_target(predictions)
    if isinstance(curve, Undefined):
        return Section(key, title, element("p", f"Nothing can be counted: {curve.reason}.")), {}
    positive, scores = labels_and_scores(predictions)
    start = points[0].point.threshold if points else UNFITTED
    shown = points[0].table if points else operating_table(predictions, start, n_resamples=2)
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    body: list[Content] = [
        element(
            "p",
            "An image is called referable (moderate NPDR or worse) where its score, the sum of the probabilities of "
            "grades 2, 3 and 4, is at least the threshold."
            if predictions.probabilities is not None
            else "An image is called referable where its score is at least the threshold.",
        ),
        element("div", _controls(start, shown.prevalence, low, high), _readout(shown), class_="threshold"),
        _fitted_table(points) if points else notice("No threshold was fitted: there are no validation predictions."),
    ]
    if points and on_validation:
        body.append(notice("These thresholds were chosen on these very images: what they do here is no estimate."))
    body.append(element("div", _roc(curve, start), _precision_recall(curve, start), class_="charts"))
    data = {
        "scores": scores.tolist(),
        "positive": positive.astype(int).tolist(),
        "prevalence": shown.prevalence,
        "own_prevalence": float(positive.mean()),
        "start": start,
    }
    return Section(key, title, body, short), {"threshold": data}


def _controls(start: float, prevalence: float, low: float, high: float) -> Html:
    return element(
        "div",
        element("label", "Threshold", for_="threshold-value"),
        element("input", type="number", id="threshold-value", step="any", value=repr(start)),
        element(
            "input",
            type="range",
            id="threshold-slider",
            min=repr(low),
            max=repr(high),
            step=repr((high - low) / 1000),
            value=repr(start),
            aria_label="Threshold, as a slider",
        ),
        element("label", "Prevalence of referable DR among those screened, in %", for_="prevalence"),
        element("input", type="number", id="prevalence", min=0, max=100, step="any", value=f"{100 * prevalence:.4g}"),
        element("button", "As among these images", type="button", id="own-prevalence"),
        class_="controls",
    )


def _readout(shown: OperatingTable) -> Html:
    lines = [
        element(
            "div",
            element("dt", name, " ", element("span", what, class_="hint")),
            element("dd", element("output", f"{shown.values[key]:.4f}", id=f"out-{key}")),
        )
        for key, name, what in _ROWS
    ]
    counts = [
        element("li", element("output", f"{shown.counts[key]:,}", id=f"out-{key}"), f" {what}") for key, what in _COUNTS
    ]
    return element("div", element("dl", lines), element("ul", counts, class_="counts"), class_="readout")


def _fitted_table(points: list[FittedPoint]) -> Html:
    rows = []
    for one in points:
        point = one.point
        button = element(
            "button", f"{point.threshold:.4f}", type="button", data_threshold=repr(point.threshold),
            aria_label=f"Use the threshold {point.threshold:.4f} for {point.criterion} {point.wanted:g}",
        )  # fmt: skip
        name = f"{point.criterion} {point.wanted:g}"
        rows.append(
            [
                name,
                button,
                *(_with_interval(one.table, key) for key in ("sensitivity", "specificity", "ppv", "referral_rate")),
            ]
        )
    n = points[0].point.n_images
    prevalence = points[0].table.prevalence
    return table(
        [
            "Reached on validation",
            "Threshold",
            "Sensitivity here",
            "Specificity here",
            "PPV here",
            "Referral rate here",
        ],
        rows,
        caption=f"Thresholds fitted on {n:,} validation images, and what they do to these images, with 95 % intervals; "
        f"PPV and referral rate at a prevalence of {prevalence:.1%}.",
        class_="fitted",
    )


def _with_interval(shown: OperatingTable, key: str) -> Content:
    value, interval = shown.values[key], shown.intervals[key]
    if isinstance(value, Undefined):
        return "n/a"
    ends = (interval.low, interval.high) if isinstance(interval, Interval) else (None, None)
    return with_interval(f"{value:.4f}", *ends)


def _at(curve: Curve, threshold: float) -> int:
    """The place of the curve that score >= ``threshold`` stands at."""
    return int((curve.threshold >= threshold).sum()) - 1


def _roc(curve: Curve, threshold: float) -> Html:
    place = max(_at(curve, threshold), 0)
    x, y = (1.0 - curve.specificity).tolist(), curve.sensitivity.tolist()
    return line_chart(
        [Series("this model", list(zip(x, y, strict=True)))],
        key="roc",
        title="ROC",
        description="Sensitivity against 1 - specificity for every threshold. The ring is the chosen threshold.",
        x_label="1 - specificity",
        y_label="Sensitivity",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal="chance",
        marks=[Mark("chosen threshold", x[place], y[place], key="roc")],
    )


def _precision_recall(curve: Curve, threshold: float) -> Html:
    place = max(_at(curve, threshold), 0)
    x, y = curve.sensitivity.tolist(), curve.precision.tolist()
    steps: list[tuple[float, float]] = []
    for before, recall, precision in zip([0.0, *x[1:-1]], x[1:], y[1:], strict=True):
        steps += [(before, precision), (recall, precision)]
    share = curve.n_positive / (curve.n_positive + curve.n_negative)
    area = curve.average_precision
    return line_chart(
        [Series(f"this model, average precision {area:.3f}", steps)],
        key="precision-recall",
        title="Precision and recall",
        description=f"Precision against recall for every threshold. Average precision {area:.3f}, chance {share:.3f}. "
        "The ring is the chosen threshold.",
        x_label="Recall (sensitivity)",
        y_label="Precision (PPV among these images)",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        rules=[Rule(f"chance, {share:.3f}", "y", share)],
        marks=[Mark("chosen threshold", x[place], y[place] if math.isfinite(y[place]) else 1.0, key="pr")],
    )
