"""The confusion matrix in terminals of any width, with and without colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from retino_cli.cli.matrix import RIGHT, WRONG, ConfusionView
from retino_cli.grades import GRADE_NAMES, SHORT_GRADE_NAMES

MATRIX = np.array(
    [[4854, 100, 150, 30, 20], [300, 100, 80, 5, 3], [400, 80, 500, 70, 32], [10, 5, 60, 80, 20], [0, 0, 0, 0, 0]]
)


def shown(width: int, **how: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, **({"color_system": None} | how))  # type: ignore[arg-type] # any of rich's
    console.print(ConfusionView("one, test", MATRIX))
    return out.getvalue()


@pytest.mark.parametrize("width", [28, 40, 50, 60, 80, 100, 140])
def test_every_count_is_there_and_no_line_is_broken(width: int) -> None:
    lines = shown(width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.strip()][-5:]
    for row, counts in zip(rows, MATRIX, strict=True):
        words = row.split()
        assert words[-1] == str(counts.sum())
        assert [word for word in words[1:-1] if word.isdigit()] == [str(count) for count in counts]


def test_names_are_whole_where_there_is_room_and_short_where_not() -> None:
    assert all(shown(140).count(name) == 2 for name in GRADE_NAMES)
    assert all(name in shown(80) for name in GRADE_NAMES)
    assert "94%" in shown(80)
    narrow = shown(45)
    assert all(name in narrow for name in SHORT_GRADE_NAMES)
    assert "NPDR" not in narrow
    assert "%" not in narrow


def test_cells_are_shaded_by_their_share_of_the_row() -> None:
    def background(colour: str) -> str:
        return "48;2;" + ";".join(str(int(colour[k : k + 2], 16)) for k in (1, 3, 5))

    text = shown(100, force_terminal=True, color_system="truecolor")
    first, second = (next(line for line in text.splitlines() if name in line) for name in GRADE_NAMES[:2])
    assert background(RIGHT[-1]) in first  # 94 % of the row, on the diagonal
    assert background(WRONG[3]) in second  # 61 %, beside it
    assert background(RIGHT[1]) in second  # 20 %
    assert background(WRONG[-1]) not in text


def test_without_colours_it_is_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shown(100)
    assert "\x1b" not in plain
    sixteen = shown(100, force_terminal=True, color_system="standard")
    assert "\x1b[32m" in sixteen
    assert "48;" not in sixteen
    monkeypatch.setenv("NO_COLOR", "1")
    uncoloured = shown(100, force_terminal=True, color_system="truecolor")
    assert "48;" not in uncoloured
    assert "38;" not in uncoloured
    assert "94%" in uncoloured


@pytest.mark.parametrize(("colours", "white_from"), [(RIGHT, 4), (WRONG, 5)])
def test_text_can_be_read_on_every_shade(colours: tuple[str, ...], white_from: int) -> None:
    """WCAG 2: a contrast of 4.5 to 1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for step, colour in enumerate(colours):
        text = 1.0 if step >= white_from else 0.0
        light, dark = sorted((luminance(colour), text), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour
