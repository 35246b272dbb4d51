"""The course of the validation QWK as blocks: in terminals that have them, and nowhere else."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from retino_cli.cli.display import Display
from retino_cli.cli.sparkline import BLOCKS, draw_sparkline, summarise_course
from retino_cli.training.events import EpochDone, StepDone


class Ascii(io.StringIO):
    encoding = "ascii"


def terminal(width: int = 80, *, file: io.StringIO | None = None, is_terminal: bool = True) -> Console:
    return Console(file=file or io.StringIO(), width=width, force_terminal=is_terminal, color_system=None)


def test_the_lowest_value_is_the_lowest_block_and_the_highest_the_full_one() -> None:
    assert draw_sparkline([k / 7 for k in range(8)], 80) == BLOCKS
    assert draw_sparkline([0.5, -0.5, None, 0.0], 80) == "█▁·▅"
    assert draw_sparkline([0.3, 0.3], 80) == "▄▄"
    assert draw_sparkline([None, None], 80) == "··"
    assert (draw_sparkline([], 80), draw_sparkline([0.1], 0)) == ("", "")


def test_more_values_than_room_are_averaged() -> None:
    assert draw_sparkline([0, 0, 1, 1, None, 0.5, 0.0, 1.0], 4) == "▁█▅▅"
    assert len(draw_sparkline([k % 7 for k in range(1000)], 33)) == 33


def test_a_line_says_in_numbers_what_the_blocks_show() -> None:
    values = [0.1, 0.5, None, 0.4]
    line = summarise_course(values, "Validation QWK", terminal())
    assert line == "Validation QWK ▁█·▇ 0.100 to 0.400, highest 0.500 after epoch 2"
    numbers = "Validation QWK 0.100 to 0.400, highest 0.500 after epoch 2"
    assert summarise_course(values, "Validation QWK", terminal(is_terminal=False)) == numbers
    assert summarise_course(values, "Validation QWK", terminal(file=Ascii())) == numbers
    assert summarise_course([None], "Validation QWK", terminal()) == ""
    for width in (30, 44, 60):
        lines = summarise_course(values * 50, "Validation QWK", terminal(width)).splitlines()
        assert len(lines[0]) <= width


def follow(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, width: int = 110) -> tuple[str, list[str]]:
    """What a training of four epochs leaves on the console, and the texts of its live line."""
    out = io.StringIO()
    console = terminal(width, file=out, is_terminal=is_terminal)
    monkeypatch.setattr("retino_cli.cli.display.notes_console", lambda: console)
    live: list[str] = []
    display = Display()
    if display._status is not None:
        monkeypatch.setattr(display._status, "update", live.append)
    for epoch in range(1, 5):
        display(StepDone(epoch=epoch, epochs=4, images=10, n_images=20, loss=1.0, seconds=1.0))
        metrics: dict[str, Any] = {"train/loss": 1.0, "train/accuracy": 0.5, "val/loss": 1.0, "val/accuracy": 0.5}
        display(EpochDone(epoch, 4, metrics | {"val/qwk": epoch / 10}, seconds=2.0, images_per_second=10.0))
    return out.getvalue(), live


def test_the_live_line_of_a_terminal_draws_the_course_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    _out, live = follow(monkeypatch, is_terminal=True)
    assert "val QWK" not in live[0]
    assert live[-1].endswith("val QWK ▁▅█ 0.300")
    _out, narrow = follow(monkeypatch, is_terminal=True, width=60)
    assert all(len(text) + 3 <= 60 for text in narrow)


def test_a_log_has_plain_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    out, live = follow(monkeypatch, is_terminal=False)
    assert live == []
    assert out.isascii()
    assert len(out.splitlines()) == 4
