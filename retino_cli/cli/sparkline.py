"""A row of numbers as a row of blocks, for terminals that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = "·"
"""Where there is no number."""


def draw_sparkline(values: Sequence[float | None], width: int) -> str:
    """At most ``width`` blocks, the lowest value the lowest block, the highest the full one; equal values half-high.

    Of more values than that, each block is the mean of its share of them; undefined ones (None) are left out.
    """
    if width < 1 or not values:
        return ""
    n = min(width, len(values))
    edges = [k * len(values) // n for k in range(n + 1)]
    means: list[float | None] = []
    for start, stop in zip(edges, edges[1:], strict=False):
        known = [value for value in values[start:stop] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    numbers = [mean for mean in means if mean is not None]
    if not numbers:
        return GAP * n
    low, high = min(numbers), max(numbers)

    def block(mean: float | None) -> str:
        if mean is None:
            return GAP
        return BLOCKS[3] if high == low else BLOCKS[min(int((mean - low) / (high - low) * 8), 7)]

    return "".join(map(block, means))


def can_draw(console: Console) -> bool:
    """Whether ``console`` is a terminal whose encoding has the blocks."""
    if not console.is_terminal:
        return False
    try:
        (BLOCKS + GAP).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def summarise_course(values: Sequence[float | None], name: str, console: Console) -> str:
    """One line on how ``name`` went over the epochs, with a sparkline where ``console`` can draw it; "" without values.

    "Validation QWK ▁▃▅▇█▇ 0.102 to 0.587, highest 0.612 after epoch 5"
    """
    known = [(value, epoch) for epoch, value in enumerate(values, start=1) if value is not None]
    if not known:
        return ""
    best, epoch = max(known, key=lambda one: one[0])
    text = f"{known[0][0]:.3f} to {known[-1][0]:.3f}, highest {best:.3f} after epoch {epoch}"
    if len(known) < 2 or not can_draw(console):
        return f"{name} {text}"
    room = console.width - len(name) - len(text) - 2
    if room < 8:  # a line of its own
        return f"{name} {draw_sparkline(values, console.width - len(name) - 1)}\n{text}"
    return f"{name} {draw_sparkline(values, room)} {text}"
