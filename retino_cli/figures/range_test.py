"""The curve of a learning-rate range test."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from retino_cli.figures import style

_ROOM: Final = 0.1
"""Below and above what is shown, in its height."""


def draw_range_test(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, *, chosen: float | None, edge: float | None, title: str
) -> Figure:
    """Draw the loss against the learning rate, on a logarithmic axis: each step (K,), and the moving average.

    ``edge``: the learning rate from which on the loss rises again; ``chosen``: the one to train with. Each is a line
    where it is not None. The value axis shows the losses of the first half and those below them; what lies higher only
    says that the training diverges.
    """
    with style.house_style():
        figure = style.new_figure(style.COLUMN_WIDTH, 2.6)
        figure.suptitle(style.wrap(title, 46, max_lines=2))
        axes = figure.subplots()
        blue, red = style.TRACES[0], style.TRACES[1]
        axes.plot(rates, losses, linestyle="none", marker=".", color=style.MUTED, alpha=0.5, label="loss", gid="loss")
        axes.plot(rates, smoothed, color=blue.color, label="moving average", gid="smoothed")
        if edge is not None:
            label = f"rises from {edge:.2g} on"
            axes.axvline(edge, color=style.MUTED, linestyle=":", linewidth=1.2, label=label, gid="edge")
        if chosen is not None:
            axes.axvline(chosen, color=red.color, linewidth=1.4, label=f"chosen: {chosen:.2g}", gid="chosen")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda rate, _: "1" if rate == 1 else f"{rate:.0e}".replace("e-0", "e-"))
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        first, last = (float(rates[0]), float(rates[-1])) if len(rates) else (1e-6, 1.0)
        axes.set_xlim(first / 2, last * 2)
        axes.set_xlabel("Learning rate")
        axes.set_ylabel("Training loss")
        if len(losses):
            half = losses[: max(1, len(losses) // 2)]
            low = float(min(np.quantile(losses, 0.02), smoothed.min()))
            high = float(max(np.quantile(half, 0.98), smoothed[: len(half)].max()))
            span = max(high - low, 0.1 * abs(high), 1e-6)
            axes.set_ylim(low - _ROOM * span, high + _ROOM * span)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
