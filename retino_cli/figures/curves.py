"""Learning curves: the epochs of one run, and the accuracy of several runs against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from retino_cli.figures import style

History = Sequence[Mapping[str, float]]
"""One mapping per epoch: "epoch" (1, 2, ...), and "train/loss", "val/qwk", ... where they were measured."""

_PANELS: Final = (("loss", "Loss"), ("accuracy", "Accuracy"), ("qwk", "Quadratic weighted kappa"))
_SPLIT_NAMES: Final = {"train": "train", "val": "validation", "epoch_test": "test"}
_MAX_MARKERS: Final = 12
_MIN_SPAN: Final = 0.1
"""The least height of a value axis: after one epoch a difference of 0.002 would fill the picture."""


def draw_history(history: History, title: str, *, majority: float | None = None) -> Figure:
    """Draw loss, accuracy and QWK of one run by epoch, one line per split.

    ``history``: one mapping per epoch with "epoch" and any of "train/loss", "val/accuracy", "val/qwk", ...; a value
    that is missing or not finite is left out, its neighbours are joined. Train is dashed with open markers.
    ``majority``: the accuracy of the majority baseline on the validation split, a line in the accuracy panel.
    """
    with style.house_style():
        figure = style.new_figure(style.FULL_WIDTH, 2.75)
        figure.suptitle(style.wrap(title, 90, max_lines=2))
        for axes, (metric, label) in zip(figure.subplots(1, 3), _PANELS, strict=True):
            for trace, split in zip(style.TRACES, _SPLIT_NAMES, strict=False):
                _draw_line(axes, history, split, metric, trace)
            if metric == "accuracy" and majority is not None:
                _draw_majority(axes, majority)
            _finish(axes, history, label)
        splits = [
            _handle(split, trace, label=name)
            for trace, (split, name) in zip(style.TRACES, _SPLIT_NAMES.items(), strict=False)
            if any(_points(history, f"{split}/{metric}")[0] for metric, _ in _PANELS)
        ]
        handles = [*splits, *([] if majority is None else [_majority_handle(majority)])]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_comparison(
    runs: Sequence[tuple[str, History]],
    *,
    metric: str = "accuracy",
    majority: float | None = None,
    title: str = "",
) -> Figure:
    """Draw train and test accuracy of several runs by epoch: the comparison figure of the lab report.

    ``runs``: (name, history) per run; one colour and marker each. Solid: test where every run has it by epoch, else
    validation; dashed with open markers: train. ``metric``: the name without the split ("accuracy", "qwk", "loss").
    ``majority``: accuracy of the majority baseline, drawn as a horizontal line. Missing values as in ``draw_history``.

    Raises ``ValueError`` without a run.
    """
    if not runs:
        raise ValueError("there is no run to compare")
    judged = "epoch_test" if all(_points(history, f"epoch_test/{metric}")[0] for _, history in runs) else "val"
    names = [style.wrap(name, 44, max_lines=2) for name, _ in runs]
    columns = 1 if max(len(line) for name in names for line in name.split("\n")) > 18 else 2
    lines = sum(name.count("\n") + 1 for name in names) / columns
    with style.house_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 2.6 + 0.145 * math.ceil(lines) + (0.25 if title else 0.0))
        if title:
            figure.suptitle(style.wrap(title, 46, max_lines=2))
        axes = figure.subplots()
        handles = []
        for index, (name, (_, history)) in enumerate(zip(names, runs, strict=True)):
            trace = style.trace(index)
            _draw_line(axes, history, "train", metric, trace)
            _draw_line(axes, history, judged, metric, trace)
            handles.append(_handle(judged, trace, label=name))
        ink = style.Trace(style.INK, "o")
        kinds = [_handle(split, ink, label=_SPLIT_NAMES[split]) for split in (judged, "train")]
        if majority is not None:
            _draw_majority(axes, majority)
            kinds.append(_majority_handle(majority))
        _finish(axes, [epoch for _, history in runs for epoch in history], dict(_PANELS).get(metric, metric))
        # Above the axes what a line style means, below them what a colour means: neither can cover a curve.
        axes.legend(
            handles=kinds,
            loc="lower left",
            bbox_to_anchor=(-0.1, 1.0),
            ncols=len(kinds),
            borderaxespad=0.2,
            columnspacing=1.0,
            handlelength=1.8,
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), labelspacing=0.35)
    return figure


def _points(history: History, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of ``key`` where it was measured and is finite."""
    points = [(epoch["epoch"], epoch[key]) for epoch in history if math.isfinite(epoch.get(key, math.nan))]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _draw_line(axes: Any, history: History, split: str, metric: str, trace: style.Trace) -> None:
    epochs, values = _points(history, f"{split}/{metric}")
    if epochs:
        every = -(-len(epochs) // _MAX_MARKERS)
        axes.plot(epochs, values, markevery=every, gid=f"{split}/{metric}", **_look(split, trace))


def _look(split: str, trace: style.Trace) -> dict[str, Any]:
    """Line and marker of a split: train dashed and open, what a run is judged on solid and filled."""
    train = split == "train"
    return {
        "color": trace.color,
        "linestyle": "--" if train else "-",
        "linewidth": 1.0 if train else 1.5,
        "marker": trace.marker,
        "markerfacecolor": "white" if train else trace.color,
        "markeredgewidth": 0.8,
        "zorder": 2 if train else 3,
    }


def _handle(split: str, trace: style.Trace, *, label: str) -> Line2D:
    return Line2D([], [], label=label, **_look(split, trace))


def _draw_majority(axes: Any, majority: float) -> None:
    axes.axhline(majority, color=style.MUTED, linestyle=":", linewidth=1.2, zorder=1, gid="majority")


def _majority_handle(majority: float) -> Line2D:
    return Line2D([], [], color=style.MUTED, linestyle=":", label=f"majority baseline ({majority:.3f})")


def _finish(axes: Any, history: History, label: str) -> None:
    """Label the axes, and give them limits that also suit one epoch, or none."""
    axes.set_xlabel("Epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    epochs = [epoch["epoch"] for epoch in history]
    first, last = (min(epochs), max(epochs)) if epochs else (1, 1)
    margin = max(0.5, 0.04 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    if not any(line.get_gid() != "majority" for line in axes.get_lines()):
        axes.set_yticks([])
        axes.text(0.5, 0.4, "not measured", transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
        return
    low, high = axes.get_ylim()
    missing = max(0.0, _MIN_SPAN - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)
