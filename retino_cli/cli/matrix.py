"""A confusion matrix in a terminal: as much of it in words and colour as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retino_cli.grades import GRADE_NAMES, GRADES, SHORT_GRADE_NAMES

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

RIGHT = ("#eaf1fb", "#c6dbef", "#92c0e0", "#4a97cb", "#1f6cb0", "#08468b")
WRONG = ("#fdf1e4", "#fdd9b0", "#fdb877", "#f5913d", "#d9660f", "#a04300")
"""Backgrounds by share of the row, lowest to highest: blue on the diagonal, orange beside it; red-green blindness does
not touch the two."""
_WHITE_FROM = {True: 4, False: 5}
"""The first step of each that is dark enough for white text (contrast over 4.5), by whether it is the diagonal's."""


@dataclass(frozen=True)
class _Form:
    """One way to draw it, from the widest to the narrowest."""

    rows: Sequence[str]
    columns: Sequence[str]
    share: bool
    gap: int
    corner: str = "true \\ predicted"


def _numbered(names: Sequence[str]) -> list[str]:
    return [f"{grade} {name}" for grade, name in zip(GRADES, names, strict=True)]


def _forms() -> Iterator[_Form]:
    full, short, digits = _numbered(GRADE_NAMES), _numbered(SHORT_GRADE_NAMES), [str(grade) for grade in GRADES]
    yield _Form(full, full, share=True, gap=2)
    yield _Form(full, short, share=True, gap=2)
    yield _Form(full, digits, share=True, gap=2)
    yield _Form(short, digits, share=True, gap=1, corner="true \\ pred.")
    yield _Form(short, digits, share=False, gap=1, corner="true \\ pred.")
    yield _Form(digits, digits, share=False, gap=1, corner="")


class ConfusionView:
    """``matrix`` (5, 5), rows true grade: counts with the share of the row, on a background that deepens with the
    share. Without colours it is the same table; where there are only 16, the diagonal is green, and misses by two or
    more grades are red. Names, then shares, are shortened until it fits."""

    def __init__(self, name: str, matrix: np.ndarray) -> None:
        self._name, self._matrix = name, matrix

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement
        from rich.text import Text

        shaded = console.color_system in ("256", "truecolor") and not console.no_color
        unbounded = options.update(max_width=10_000)
        tables = [self._table(form, shaded=shaded) for form in _forms()]
        fitting = (one for one in tables if Measurement.get(console, unbounded, one).maximum <= options.max_width)
        yield Text(self._name, style="bold", overflow="fold")
        yield next(fitting, tables[-1])

    def _table(self, form: _Form, *, shaded: bool) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, form.gap - 1, 0, 0))  # the box adds one
        table.add_column(form.corner, justify="left", no_wrap=True)
        for column in (*form.columns, "images"):
            table.add_column(column, justify="right", no_wrap=True)
        for true in GRADES:
            total = int(self._matrix[true].sum())
            cells = [self._cell(true, predicted, total, form=form, shaded=shaded) for predicted in GRADES]
            table.add_row(form.rows[true], *cells, Text(str(total)))
        return table

    def _cell(self, true: int, predicted: int, total: int, *, form: _Form, shaded: bool) -> Text:
        from rich.text import Text

        count = int(self._matrix[true, predicted])
        share = count / total if total else None
        text = str(count)
        if form.share:
            text += " n/a " if share is None else f" {share:4.0%}"
        return Text(f" {text} " if shaded else text, style=_style(true, predicted, share, shaded=shaded))


def _style(true: int, predicted: int, share: float | None, *, shaded: bool) -> str:
    if not share:
        return "dim"
    if not shaded:
        return "green" if true == predicted else "red" if abs(true - predicted) >= 2 else "yellow"
    right = true == predicted
    ramp = RIGHT if right else WRONG
    step = min(int(share * len(ramp)), len(ramp) - 1)
    # Not by name: what a terminal shows for its own "white" and "black" is for its theme to say.
    return f"{'#ffffff' if step >= _WHITE_FROM[right] else '#000000'} on {ramp[step]}"
