"""The first part of a report: what was reached, beside what no pixel was read for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from retino_cli.grades import GRADE_NAMES, GRADES
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section, notice, table, with_interval
from retino_cli.report.row_charts import IntervalRow, interval_plot

NAMES: Final = (
    ("qwk", "Quadratic weighted kappa (QWK)"),
    ("qwk_rounded", "QWK of the rounded expected grade"),
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy"),
    ("macro_f1", "Macro F1"),
    ("macro_auc", "Macro AUC, one grade against the rest"),
    ("referable_auc", "Referable DR: AUC"),
    ("referable_sensitivity", "Referable DR: sensitivity of the predicted grade"),
    ("referable_specificity", "Referable DR: specificity of the predicted grade"),
    ("vision_threatening_auc", "Vision-threatening DR: AUC"),
    ("vision_threatening_sensitivity", "Vision-threatening DR: sensitivity of the predicted grade"),
    ("vision_threatening_specificity", "Vision-threatening DR: specificity of the predicted grade"),
)
"""Metrics between 0 and 1 (kappa may be negative), higher being better."""
LOSSES: Final = (
    ("nll", "Log-loss, in nats"),
    ("brier", "Brier score"),
    ("ece", "Calibration error (ECE), bins of equal width"),
    ("ece_equal_mass", "Calibration error, bins of equal mass"),
)
"""Lower is better."""
_CHANCE: Final = {"macro_auc": 0.5, "referable_auc": 0.5, "vision_threatening_auc": 0.5, "qwk": 0.0, "qwk_rounded": 0.0}
_TILES: Final = (("qwk", "Quadratic weighted kappa"), ("accuracy", "Accuracy"), ("referable_auc", "Referable DR, AUC"))


def headline_section(document: Mapping[str, Any], *, warning: str | None) -> Section:
    """The section, from the content of metrics.json. ``warning``: the sentence of a collapsed model."""
    body: list[Content] = [notice(warning, kind="warning")] if warning else []
    body.append(element("div", [_tile(document, name, label) for name, label in _TILES], class_="tiles"))
    body.append(_sentence(document))
    rows = [_row(document, name, label) for name, label in NAMES if name in document["metrics"]]
    body.append(
        interval_plot(
            rows,
            caption="Metrics with their 95 % bootstrap intervals. Diamonds: baselines that read no pixel, or chance.",
        )
    )
    losses = [[label, _value(document, name)] for name, label in LOSSES if document["metrics"].get(name) is not None]
    if losses:
        body.append(table(["Metric", "Value, 95 % interval"], losses, caption="Of the probabilities; lower is better."))
    if any(document["metrics"].get(f"recall_{grade}") is not None for grade in GRADES):
        body.append(_grade_table(document))
    reasons = sorted({*document.get("undefined", {}).values()})
    if reasons:
        body.append(element("p", f"n/a: {'; '.join(reasons)}.", class_="hint"))
    return Section("metrics", "What was reached", body, "Result")


def _tile(document: Mapping[str, Any], name: str, label: str) -> Html:
    baselines = _baselines(document, name)
    interval = _interval(document, name)
    return element(
        "div",
        element("p", label, class_="tile-name"),
        element("p", _number(document, name), class_="tile-value"),
        element("p", f"95 % interval {interval}" if interval else "no interval", class_="tile-interval"),
        element("ul", [element("li", f"{what}: {value:.3f}") for what, value in baselines]) if baselines else None,
        class_="tile",
    )


def _baselines(document: Mapping[str, Any], name: str) -> list[tuple[str, float]]:
    """What ``name`` is without a look at a picture, in words and as a number."""
    metrics, fellow = document["metrics"], document.get("baselines", {})
    found: list[tuple[str, float]] = []
    if name == "accuracy" and metrics.get("majority_accuracy") is not None:
        found.append(("majority grade, no pixel read", metrics["majority_accuracy"]))
    if name == "qwk":
        found.append(("majority grade, no pixel read", 0.0))
    if f"fellow_eye_{name}" in fellow:
        found.append(("fellow eye's grade, no pixel read", fellow[f"fellow_eye_{name}"]))
    if name.endswith("auc"):
        found.append(("chance", 0.5))
    return found


def _sentence(document: Mapping[str, Any]) -> Html | None:
    """Whether the accuracy can be told from that of the baselines."""
    interval = (document.get("intervals") or {}).get("accuracy")
    baselines = _baselines(document, "accuracy")
    if not interval or not baselines:
        return None
    what, best = max(baselines, key=lambda pair: pair[1])
    if interval["low"] > best:
        text = f"The interval of the accuracy lies above the best baseline ({what}: {best:.3f})."
    elif interval["high"] < best:
        text = f"The interval of the accuracy lies below the best baseline ({what}: {best:.3f})."
    else:
        text = (
            f"The interval of the accuracy holds the best baseline ({what}: {best:.3f}): accuracy alone says nothing."
        )
    return element("p", text)


def _row(document: Mapping[str, Any], name: str, label: str) -> IntervalRow:
    value = document["metrics"][name]
    interval = (document.get("intervals") or {}).get(name)
    marks = [baseline for _what, baseline in _baselines(document, name)]
    return IntervalRow(
        label=label,
        estimate=value,
        low=None if interval is None else interval["low"],
        high=None if interval is None else interval["high"],
        marks=marks or ([_CHANCE[name]] if name in _CHANCE else []),
    )


def _number(document: Mapping[str, Any], name: str) -> str:
    value = document["metrics"].get(name)
    return "n/a" if value is None else f"{value:.4f}"


def _value(document: Mapping[str, Any], name: str) -> Content:
    interval = (document.get("intervals") or {}).get(name) or {}
    return with_interval(_number(document, name), interval.get("low"), interval.get("high"))


def _interval(document: Mapping[str, Any], name: str) -> str:
    interval = (document.get("intervals") or {}).get(name)
    return "" if interval is None else f"[{interval['low']:z.3f}, {interval['high']:z.3f}]"


def _grade_table(document: Mapping[str, Any]) -> Html:
    matrix = document.get("confusion_matrix")
    rows = [
        [
            f"{grade} {GRADE_NAMES[grade]}",
            f"{sum(matrix[grade]):,}" if matrix else "",
            _value(document, f"recall_{grade}"),
            _value(document, f"precision_{grade}"),
        ]
        for grade in GRADES
    ]
    return table(["Grade", "Images", "Recall", "Precision"], rows, caption="By grade.")


def collapse_warning(document: Mapping[str, Any]) -> str | None:
    """The sentence for a model that says (almost) one grade only, else None."""
    grade, matrix = document.get("collapsed"), document.get("confusion_matrix")
    if grade is None or not matrix:
        return None
    total = sum(sum(row) for row in matrix)
    share = sum(row[grade] for row in matrix) / total
    return (
        f"this model has collapsed. {share:.1%} of its predictions are grade {grade} ({GRADE_NAMES[grade]}): it tells "
        "no pictures apart, and its accuracy is the share of that grade."
    )
