"""Reliability diagrams: how often a model is right, against how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from retino_cli.evaluation.probability import Reliability
from retino_cli.figures import style

_MAX_PANELS: Final = 4


def draw_reliability(runs: Sequence[tuple[str, Reliability]], *, title: str = "") -> Figure:
    """Draw one reliability diagram per run, side by side: accuracy against mean confidence, one point per bin.

    ``runs``: (name, bins) per run, one to four. Points on the diagonal are calibrated, points below it overconfident.
    Vertical bars are 95 % Wilson intervals (images taken as independent); the histogram below shows how many images
    each bin holds. The ECE stands in the panel.

    Raises ``ValueError`` without a run, or for more than four.
    """
    if not 1 <= len(runs) <= _MAX_PANELS:
        raise ValueError(f"{len(runs)} runs to draw; there is room for one to {_MAX_PANELS}")
    with style.house_style():
        width = style.COLUMN_WIDTH if len(runs) == 1 else style.FULL_WIDTH
        figure = style.new_figure(width, 3.4 + (0.25 if title else 0.0))
        if title:
            figure.suptitle(style.wrap(title, round(14 * width), max_lines=2))
        panels = figure.subplots(2, len(runs), sharex=True, squeeze=False, height_ratios=(3, 1))
        for index, (name, bins) in enumerate(runs):
            top, bottom = panels[:, index]
            _draw_points(top, bins, style.trace(index))
            top.set_title(style.wrap(name, 44 if len(runs) == 1 else 80 // len(runs)), pad=5)
            _draw_histogram(bottom, bins, style.trace(index))
            bottom.set_xlabel("Confidence")
            if index == 0:
                top.set_ylabel("Accuracy")
                bottom.set_ylabel("% of images")
    return figure


def _draw_points(axes: Any, bins: Reliability, trace: style.Trace) -> None:
    filled = bins.count > 0
    confidence, accuracy = bins.confidence[filled], bins.accuracy[filled]
    axes.plot([0, 1], [0, 1], color=style.MUTED, linestyle=":", linewidth=1.2, gid="diagonal", zorder=1)
    bars = np.stack([accuracy - bins.low[filled], bins.high[filled] - accuracy])
    # A bar never points inwards: at 0 and 1 Wilson's interval ends a rounding away from the share.
    axes.errorbar(
        confidence, accuracy, yerr=np.maximum(bars, 0.0), fmt="none", ecolor=trace.color, elinewidth=0.8, zorder=2
    )
    axes.plot(confidence, accuracy, color=trace.color, marker=trace.marker, linewidth=1.2, gid="reliability", zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)  # points at 0 and 1 are drawn whole
    text = f"ECE {bins.calibration_error:.3f}\n{int(bins.count.sum()):,} images"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=style.SMALLEST)


def _draw_histogram(axes: Any, bins: Reliability, trace: style.Trace) -> None:
    share = 100.0 * bins.count / bins.count.sum()
    if bins.edges is not None:
        axes.bar(bins.edges[:-1], share, np.diff(bins.edges), align="edge", color=trace.color, alpha=0.55, linewidth=0)
    else:  # equal-mass bins have no edges of their own: a line where each bin's mean lies
        axes.vlines(bins.confidence[bins.count > 0], 0, share[bins.count > 0], color=trace.color, linewidth=2.0)
    axes.set_ylim(bottom=0)
