"""The differences of a comparison, in the order and under the names in which figures and pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.figure import Figure

from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.metrics import LOWER_IS_BETTER, Undefined
from retino_cli.evaluation.pairs import HEADLINE, Pair
from retino_cli.evaluation.resampling import Interval
from retino_cli.evaluation.verdict import DISPLAY_NAMES
from retino_cli.figures.forest import ForestPanel, ForestRow, draw_forest

HIGHER: Final = tuple(name for name in DISPLAY_NAMES if name not in LOWER_IS_BETTER)
LOWER: Final = tuple(name for name in DISPLAY_NAMES if name in LOWER_IS_BETTER and name != "nll")
KINDS: Final = (
    ("Higher is better", HIGHER, False),
    ("Lower is better", LOWER, True),
    ("Log-loss, lower is better", ("nll",), True),
)
"""(title, metrics, whether lower is better): what shares an axis. Log-loss has no upper end: it has its own."""
_MOST_PAIRS: Final = 3


@dataclass(frozen=True)
class Difference:
    """``interval`` of B - A on ``metric``; ``better``: "a" or "b", where the data can tell, else None."""

    metric: str
    label: str
    interval: Interval
    better: str | None
    p_value: float | None


def list_differences(pair: Pair, metrics: Sequence[str]) -> tuple[Difference, ...]:
    """Those of ``metrics`` that the pair has a difference on."""
    found = []
    for name in metrics:
        interval = pair.differences.get(name)
        if interval is None or isinstance(interval, Undefined):
            continue
        label = DISPLAY_NAMES[name]
        better = {pair.a: "a", pair.b: "b", None: None}[pair.winner(name)]
        found.append(Difference(name, label[0].upper() + label[1:], interval, better, pair.p_values.get(name)))
    return tuple(found)


def names_of(comparison: Comparison) -> tuple[str, ...]:
    """What the places of pairs name: the groups where there are several, else the runs."""
    if len(comparison.groups) > 1:
        return tuple(group.label for group in comparison.groups)
    return tuple(run.label for run in comparison.runs)


def choose_pairs(comparison: Comparison, *, most: int = _MOST_PAIRS) -> tuple[Pair, ...]:
    """All pairs where they are few, else those with the first run or group."""
    if len(comparison.pairs) <= most:
        return comparison.pairs
    return tuple(pair for pair in comparison.pairs if pair.a == 0)


def draw_differences(comparison: Comparison) -> Figure | None:
    """The forest plot of a comparison; None where no difference is defined.

    Of two: every metric, in a panel for each of ``KINDS``. Of several: the headline metrics, a panel each.
    """
    names = names_of(comparison)
    pairs = choose_pairs(comparison)
    where = f"{comparison.split}, {comparison.n_images} images, 95 % intervals"
    if len(comparison.pairs) == 1:
        pair = pairs[0]
        panels = [
            ForestPanel(title, [_row(one.label, one) for one in list_differences(pair, metrics)], lower_is_better=lower)
            for title, metrics, lower in KINDS
        ]
        a, b = names[pair.a], names[pair.b]
        title, better = f"{b} minus {a}: {where}", (f"{a} is better", f"{b} is better")
    else:
        panels = [
            ForestPanel(
                DISPLAY_NAMES[name][0].upper() + DISPLAY_NAMES[name][1:],
                [
                    _row(f"{names[pair.b]} minus {names[pair.a]}", one)
                    for pair in pairs
                    for one in list_differences(pair, (name,))
                ],
            )
            for name in HEADLINE
        ]
        title, better = f"Differences: {where}", ("the second named is better", "the first named is better")
    panels = [panel for panel in panels if panel.rows]
    if not panels:
        return None
    return draw_forest(panels, better=better, title=title)


def _row(label: str, one: Difference) -> ForestRow:
    return ForestRow(label, one.interval.estimate, one.interval.low, one.interval.high, one.better is not None)
