"""ROC and precision-recall curves of one or several models, with an operating point marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from retino_cli.evaluation.curves import Curve
from retino_cli.figures import style

_MAX_POINTS: Final = 2000
"""A curve of 50,000 thresholds is thinned to so many: no picture shows more, and an SVG of all would take megabytes."""


def draw_roc(
    curves: Sequence[tuple[str, Curve]], *, thresholds: Sequence[float | None] = (), title: str = ""
) -> Figure:
    """Draw sensitivity against 1 - specificity, one line per model, and mark its threshold.

    ``curves``: (name, curve) per model; a name may carry its AUC. ``thresholds``: one per model, None where there is
    none: the point of "score >= threshold" is marked. The dotted diagonal is chance.

    Raises ``ValueError`` without a curve, or where the thresholds are not as many as the curves.
    """
    return _draw(
        curves,
        thresholds,
        title=title,
        x="1 - specificity",
        y="Sensitivity",
        points=lambda curve: (1.0 - curve.specificity, curve.sensitivity),
        chance=None,
    )


def draw_precision_recall(
    curves: Sequence[tuple[str, Curve]], *, thresholds: Sequence[float | None] = (), title: str = ""
) -> Figure:
    """Draw precision (PPV) against recall (sensitivity), one line per model, and mark its threshold.

    Precision depends on how frequent positives are among these images: the dotted line is that share, which is chance.
    Lines are steps, as average precision takes them. Arguments and errors as in ``draw_roc``.
    """
    share = curves[0][1].n_positive / (curves[0][1].n_positive + curves[0][1].n_negative) if curves else None
    return _draw(
        curves,
        thresholds,
        title=title,
        x="Recall (sensitivity)",
        y="Precision (PPV among these images)",
        points=lambda curve: (curve.sensitivity, curve.precision),
        chance=share,
    )


def _draw(
    curves: Sequence[tuple[str, Curve]],
    thresholds: Sequence[float | None],
    *,
    title: str,
    x: str,
    y: str,
    points: Any,
    chance: float | None,
) -> Figure:
    if not curves:
        raise ValueError("there is no curve to draw")
    marks = list(thresholds) if thresholds else [None] * len(curves)
    if len(marks) != len(curves):
        raise ValueError(f"{len(marks)} thresholds for {len(curves)} curves")
    names = [style.wrap(name, 44, max_lines=2) for name, _ in curves]
    n_lines = sum(name.count("\n") + 1 for name in names) + sum(2 for mark in marks if mark is not None)
    with style.house_style():
        side = style.COLUMN_WIDTH - 0.3
        figure = style.new_figure(style.COLUMN_WIDTH, side + 0.2 + 0.145 * n_lines + (0.25 if title else 0.0))
        if title:
            figure.suptitle(style.wrap(title, 46, max_lines=2))
        axes = figure.subplots()
        if chance is None:
            axes.plot([0, 1], [0, 1], color=style.MUTED, linestyle=":", linewidth=1.2, gid="chance")
        else:
            axes.axhline(chance, color=style.MUTED, linestyle=":", linewidth=1.2, gid="chance")
        handles = []
        for index, (name, (_, curve), mark) in enumerate(zip(names, curves, marks, strict=True)):
            trace = style.trace(index)
            horizontal, vertical = points(curve)
            kept = _thin(len(horizontal))
            line = axes.plot(
                horizontal[kept],
                vertical[kept],
                color=trace.color,
                drawstyle="default" if chance is None else "steps-pre",
                linewidth=1.2,
                label=name,
                gid=f"curve {index}",
            )[0]
            handles.append(line)
            if mark is not None:
                handles.append(_mark(axes, curve, mark, horizontal, vertical, trace, index))
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        figure.legend(handles=handles, loc="outside lower center", ncols=1, labelspacing=0.35)
    return figure


def _mark(
    axes: Any,
    curve: Curve,
    threshold: float,
    horizontal: npt.NDArray[np.float64],
    vertical: npt.NDArray[np.float64],
    trace: style.Trace,
    index: int,
) -> Any:
    """The point of "score >= threshold": that of the lowest threshold on the curve that is not below it."""
    place = int(np.searchsorted(-curve.threshold, -threshold, side="right")) - 1
    place = max(place, 0)
    label = (
        f"threshold {threshold:.4g}:\nsensitivity {curve.sensitivity[place]:.3f}, "
        f"specificity {curve.specificity[place]:.3f}"
    )
    return axes.plot(
        [horizontal[place]],
        [vertical[place]],
        color=trace.color,
        marker=trace.marker,
        markersize=6,
        markeredgecolor="white",
        linestyle="none",
        label=label,
        gid=f"point {index}",
        zorder=4,
    )[0]


def _thin(n: int) -> npt.NDArray[np.int64]:
    """At most ``_MAX_POINTS`` places of 0..n-1, evenly spread, both ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _MAX_POINTS)).round().astype(np.int64))
