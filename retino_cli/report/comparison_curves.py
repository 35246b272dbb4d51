"""The curves of several runs over each other: ROC, precision-recall, reliability, and training by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.curves import Curve
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.operating_point import trace_target
from retino_cli.evaluation.probability import reliability
from retino_cli.report.charts import N_STYLES, Rule, Series, line_chart
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section
from retino_cli.report.sides import Side

_MOST_POINTS: Final = 400
"""A curve is thinned to so many points: no screen shows more."""
_COURSES: Final = (
    ("val/qwk", "Quadratic weighted kappa on validation", "QWK"),
    ("val/loss", "Loss on validation", "Loss"),
)

Points = list[tuple[float, float]]


def curves_section(comparison: Comparison, sides: Sequence[Side], judged: Sequence[Judged]) -> Section:
    """The section. Runs of one group have one colour; of more than six sides the first six are drawn."""
    shown = sides[:N_STYLES]
    charts = [*_score_charts(comparison, shown, judged), _reliability(comparison, shown, judged)]
    charts += [_course(comparison, shown, name, title, axis) for name, title, axis in _COURSES]
    drawn = [chart for chart in charts if chart is not None]
    body: list[Content] = []
    if drawn:
        body.append(element("div", drawn, class_="charts"))
    lacking = list(dict.fromkeys(one.lacking for one in judged if one.lacking))
    if lacking:
        body.append(element("p", f"Some curves are missing: {'; '.join(lacking)}.", class_="hint"))
    if not drawn:
        body.append(element("p", "There is no curve to draw."))
    if len(sides) > len(shown):
        body.append(element("p", f"Drawn are the first {len(shown)} of {len(sides)}.", class_="hint"))
    return Section("curves", "Curves over each other", body)


def _lines(
    comparison: Comparison, sides: Sequence[Side], points: Callable[[int], Points], *, metric: str = ""
) -> list[Series]:
    """A line for each run that has points; one entry of the legend for each side, with its ``metric``."""
    found = []
    for side in sides:
        named = False
        for place in side.members:
            line = points(place)
            if not line:
                continue
            label = "" if named else f"{side.letter}  {side.label}{_of(comparison, side, metric)}"
            found.append(Series(label, line, look=side.look))
            named = True
    return found


def _of(comparison: Comparison, side: Side, metric: str) -> str:
    if not metric or len(side.members) > 1:
        return f", {len(side.members)} runs" if len(side.members) > 1 else ""
    value = comparison.runs[side.members[0]].metrics[metric]
    return "" if isinstance(value, Undefined) else f": {value:.3f}"


def _score_charts(comparison: Comparison, sides: Sequence[Side], judged: Sequence[Judged]) -> list[Html | None]:
    curves: dict[int, Curve] = {}
    for side in sides:
        for place in side.members:
            curve = None if judged[place].referable_score is None else trace_target(judged[place])
            if isinstance(curve, Curve):
                curves[place] = curve
    if not curves:
        return []
    any_curve = next(iter(curves.values()))
    share = any_curve.n_positive / (any_curve.n_positive + any_curve.n_negative)

    def roc(place: int) -> Points:
        curve = curves.get(place)
        return [] if curve is None else _pairs(1.0 - curve.specificity, curve.sensitivity)

    def recall(place: int) -> Points:
        """Steps, as average precision takes them: the precision of a threshold holds back to the recall before it."""
        curve = curves.get(place)
        if curve is None:
            return []
        across, up = curve.sensitivity, curve.precision
        kept = _thin(len(across))
        steps: Points = []
        for before, here in zip(kept[:-1], kept[1:], strict=True):
            steps += [(float(across[before]), float(up[here])), (float(across[here]), float(up[here]))]
        return steps

    return [
        line_chart(
            _lines(comparison, sides, roc, metric="referable_auc"),
            key="roc",
            title="Referable DR: ROC, with the AUC",
            description=_described(comparison, sides, "AUC for referable DR", "referable_auc"),
            x_label="1 - specificity",
            y_label="Sensitivity",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            diagonal="chance",
        ),
        line_chart(
            _lines(comparison, sides, recall),
            key="precision-recall",
            title="Referable DR: precision and recall",
            description=f"Chance is the share of referable images, {share:.3f}.",
            x_label="Recall (sensitivity)",
            y_label="Precision (PPV among these images)",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            rules=[Rule(f"chance, {share:.3f}", "y", share)],
        ),
    ]


def _reliability(comparison: Comparison, sides: Sequence[Side], judged: Sequence[Judged]) -> Html | None:
    def points(place: int) -> Points:
        one = judged[place]
        if one.probabilities is None or one.binary:
            return []
        bins = reliability(one.grade, one.probabilities)
        filled = bins.count > 0
        return _pairs(bins.confidence[filled], bins.accuracy[filled])

    series = _lines(comparison, sides, points, metric="ece")
    if not series:
        return None
    return line_chart(
        [Series(one.label, one.points, one.look, marked=True) for one in series],
        key="reliability",
        title="Reliability, with the calibration error",
        description=_described(comparison, sides, "calibration error", "ece"),
        x_label="Confidence (probability of the predicted grade)",
        y_label="Accuracy",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        diagonal="calibrated",
    )


def _course(comparison: Comparison, sides: Sequence[Side], name: str, title: str, axis: str) -> Html | None:
    def points(place: int) -> Points:
        return [(row["epoch"], row[name]) for row in comparison.runs[place].history if name in row]

    series = _lines(comparison, sides, points)
    if not series:
        return None
    epochs = [x for one in series for x, _ in one.points]
    return line_chart(
        [Series(one.label, one.points, one.look, marked=True) for one in series],
        key=f"by-epoch-{name.replace('/', '-')}",
        title=title,
        description=f"{title} by epoch of the training.",
        x_label="Epoch",
        y_label=axis,
        x_range=(min(epochs) - 0.5, max(epochs) + 0.5),
    )


def _described(comparison: Comparison, sides: Sequence[Side], what: str, metric: str) -> str:
    values: Mapping[str, str] = {
        side.label: ", ".join(f"{comparison.runs[place].metrics[metric]:.3f}" for place in side.members)
        for side in sides
    }
    return f"{what[0].upper()}{what[1:]}: " + "; ".join(f"{label} {value}" for label, value in values.items()) + "."


def _pairs(x: np.ndarray, y: np.ndarray) -> Points:
    kept = _thin(len(x))
    return [(float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True)]


def _thin(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(np.int64))
