"""Forest plots: the differences between models, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from retino_cli.figures import style

_ROW: Final = 0.17
"""Inches a line of text takes."""
_MAX_PER_FIGURE: Final = 60


class ForestRow(NamedTuple):
    """A difference B - A with its interval. ``told``: whether the data tell the two apart (filled marker)."""

    label: str
    estimate: float
    low: float
    high: float
    told: bool


class ForestPanel(NamedTuple):
    """Rows with one axis. ``lower_is_better`` turns the axis round: right of 0 is always better for B."""

    title: str
    rows: Sequence[ForestRow]
    lower_is_better: bool = False


def draw_forest(panels: Sequence[ForestPanel], *, better: tuple[str, str], title: str = "") -> Figure:
    """Draw differences B - A with their intervals: one panel above the other, each with an axis of its own.

    ``better``: what lies left and right of 0 ("A better", "B better"). A filled marker: the data tell the two apart; an
    open one: they do not. Values are drawn as they are; where lower is better the axis runs from right to left.

    Raises ``ValueError`` without a row, or for more than 60.
    """
    n_rows = sum(len(panel.rows) for panel in panels)
    if not 1 <= n_rows <= _MAX_PER_FIGURE:
        raise ValueError(f"{n_rows} differences to draw; there is room for one to {_MAX_PER_FIGURE}")
    labels = [style.wrap(row.label, 26, max_lines=3) for panel in panels for row in panel.rows]
    numbers = [f"{row.estimate:+.3f}  [{row.low:+.3f}, {row.high:+.3f}]" for panel in panels for row in panel.rows]
    lines = [label.count("\n") + 1 for label in labels]
    width = style.FULL_WIDTH
    ends = [style.wrap(text, 44, max_lines=2) for text in better]
    title_text = style.wrap(title, 100, max_lines=2)
    top = 0.1 + (0.15 * (title_text.count("\n") + 1) if title else 0.0)
    above, below = 0.3, 0.32
    heights, start = [], 0
    for panel in panels:
        own = lines[start : start + len(panel.rows)]
        heights.append(_ROW * sum(own) + 0.06 * len(own))
        start += len(panel.rows)
    foot = 0.2 + 0.15 * max(end.count("\n") + 1 for end in ends) + 0.2
    height = top + sum(heights) + (above + below) * len(panels) + foot
    left, right = 1.85, width - 1.75
    with style.house_style():
        figure = style.new_figure(width, height, layout=None)
        if title:
            figure.text(0.5, 1 - 0.08 / height, title_text, ha="center", va="top", fontsize=8.5)
        y, start = height - top, 0
        for panel, tall in zip(panels, heights, strict=True):
            y -= above + tall
            axes = figure.add_axes((left / width, y / height, (right - left) / width, tall / height))
            own_lines = lines[start : start + len(panel.rows)]
            _draw_panel(axes, panel, own_lines, labels[start:], numbers[start:])
            y -= below
            start += len(panel.rows)
        marks = [
            Line2D([], [], color=style.INK, marker="o", label="the data tell them apart"),
            Line2D([], [], color=style.MUTED, marker="o", markerfacecolor="white", label="they do not"),
        ]
        middle = (left + right) / 2 / width
        for text, x, align in ((f"← {ends[0]}", middle - 0.01, "right"), (f"{ends[1]} →", middle + 0.01, "left")):
            figure.text(x, (foot - 0.03) / height, text, ha=align, va="top", fontsize=style.SMALLEST)
        figure.legend(handles=marks, loc="lower center", ncols=2, bbox_to_anchor=(middle, 0.0), borderaxespad=0.1)
    return figure


def _draw_panel(
    axes: Any, panel: ForestPanel, lines: Sequence[int], labels: Sequence[str], numbers: Sequence[str]
) -> None:
    heights = np.array(lines) * _ROW + 0.06
    places = np.cumsum(heights) - heights / 2
    axes.axvline(0.0, color=style.MUTED, linewidth=0.9, gid="no difference", zorder=1)
    for place, row in zip(places, panel.rows, strict=True):
        color = style.INK if row.told else style.MUTED
        axes.plot([row.low, row.high], [place, place], color=color, linewidth=1.4, gid="interval", zorder=2)
        axes.plot(
            [row.estimate],
            [place],
            color=color,
            marker="o",
            markersize=4.5,
            markerfacecolor=color if row.told else "white",
            linestyle="none",
            gid="estimate",
            zorder=3,
        )
    reach = max((max(abs(row.low), abs(row.high)) for row in panel.rows), default=0.0) or 0.01
    axes.set_xlim(*((1.06 * reach, -1.06 * reach) if panel.lower_is_better else (-1.06 * reach, 1.06 * reach)))
    axes.set_ylim(float(heights.sum()), 0.0)
    axes.set_yticks(places, labels[: len(lines)])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], symmetric=True))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(panel.title, loc="left", fontsize=7.5)
    for place, text in zip(places, numbers, strict=False):
        axes.text(
            1.02,
            place,
            text,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=style.SMALLEST,
            color=style.INK,
        )
