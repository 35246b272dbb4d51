"""Reliability, and how the training went: charts of a report beside those of the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.probability import reliability
from retino_cli.report.charts import Rule, Series, line_chart
from retino_cli.report.markup import Content, element
from retino_cli.report.page import Section

_PANELS: Final = (("loss", "Loss"), ("accuracy", "Accuracy"), ("qwk", "Quadratic weighted kappa"))
_SPLITS: Final = (("train", "train"), ("val", "validation"), ("epoch_test", "test"))


def reliability_section(predictions: Judged, document: Mapping[str, Any]) -> Section:
    """How often the predicted grade is right, against how sure the model is of it."""
    key, title = "reliability", "Reliability"
    if predictions.probabilities is None:
        return Section(key, title, element("p", f"There are no probabilities to judge: {predictions.lacking}."))
    bins = reliability(predictions.grade, predictions.probabilities)
    filled = [place for place in range(len(bins.count)) if bins.count[place]]
    points = [(float(bins.confidence[place]), float(bins.accuracy[place])) for place in filled]
    intervals = [(float(bins.confidence[p]), float(bins.low[p]), float(bins.high[p])) for p in filled]
    error = bins.calibration_error
    share = bins.count / bins.count.sum()
    edges = [] if bins.edges is None else bins.edges.tolist()
    outline: list[tuple[float, float]] = []
    for place, height in enumerate(share.tolist()):
        outline += [(edges[place], height), (edges[place + 1], height)]
    charts = [
        line_chart(
            [Series(f"this model, ECE {error:.3f}", points, marked=True, intervals=intervals)],
            key="reliability-chart",
            title="Accuracy against confidence",
            description=f"Share of right grades for images of similar confidence. Calibration error (ECE) {error:.3f}. "
            "Below the diagonal the model is surer than it is right.",
            x_label="Confidence (probability of the predicted grade)",
            y_label="Accuracy",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            diagonal="calibrated",
        ),
        line_chart(
            [Series("images", outline)],
            key="confidence-chart",
            title="How sure the model is",
            description="Share of the images by the probability of their predicted grade.",
            x_label="Confidence (probability of the predicted grade)",
            y_label="Share of the images",
            x_range=(0.0, 1.0),
            y_range=(0.0, max(share.tolist()) * 1.08),
        ),
    ]
    return Section(
        key,
        title,
        [
            element("div", charts, class_="charts"),
            element("p", "Vertical lines: 95 % Wilson intervals, images taken as independent.", class_="hint"),
            _tempered(document),
        ],
    )


def training_section(
    history: Sequence[Mapping[str, float]], record_metrics: Mapping[str, float], *, n_seeds: int = 1
) -> Section:
    """Loss, accuracy and QWK by epoch, with the epoch whose checkpoint was kept; of several seeds, where to look."""
    key, title = "training", "Training curves"
    best = record_metrics.get("best_epoch")
    majority = record_metrics.get("val_best/majority_accuracy")
    charts = []
    for metric, label in _PANELS:
        series = []
        for look, (split, name) in enumerate(_SPLITS):
            points = [(row["epoch"], row[f"{split}/{metric}"]) for row in history if f"{split}/{metric}" in row]
            if points:
                series.append(Series(name, points, look=look, marked=True))
        if not series:
            continue
        rules = [Rule(f"kept: epoch {best:g}", "x", best)] if best else []
        if metric == "accuracy" and majority is not None:
            rules.append(Rule(f"majority grade on validation, {majority:.3f}", "y", majority))
        last = "; ".join(f"{one.label} {one.points[-1][1]:.3f}" for one in series)
        charts.append(
            line_chart(
                series,
                key=f"by-epoch-{metric}",
                title=label,
                description=f"{label} by epoch. After the last epoch: {last}.",
                x_label="Epoch",
                y_label=label,
                x_range=_epochs(history),
                rules=rules,
            )
        )
    if n_seeds > 1:
        text = f"Each of the {n_seeds} seeds has curves of its own: make a report of one of them, or look in MLflow."
        return Section(key, title, element("p", text))
    if not charts:
        return Section(key, title, element("p", "No epochs are stored with this run."))
    return Section(key, title, element("div", charts, class_="charts"))


def _epochs(history: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    epochs = [row["epoch"] for row in history]
    return min(epochs) - 0.5, max(epochs) + 0.5


def _tempered(document: Mapping[str, Any]) -> Content:
    fitted, refined = document.get("fitted") or {}, document.get("refined") or {}
    if not fitted.get("temperature") or refined.get("ece_tempered") is None:
        return None
    return element(
        "p",
        f"After the temperature {fitted['temperature']:.2f}, fitted on {fitted['n_images']:,} validation images: "
        f"ECE {refined['ece_tempered']:.4f}, log-loss {refined['nll_tempered']:.4f}.",
    )
