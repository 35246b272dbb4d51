"""``--lr``: a number, or auto, from the command line and from RETINO_LR."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Retino

from retino_cli.config import TrainConfig


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> list[TrainConfig]:
    """The configurations that a training was asked for."""
    found: list[TrainConfig] = []

    def train(config: TrainConfig, **_: object) -> None:
        found.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("retino_cli.training.train.train", train)
    return found


def test_a_number_and_auto_reach_the_training(
    retino: Retino, asked: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    retino("train", "--lr", "2e-3")
    retino("train", "--lr", "auto")
    monkeypatch.setenv("RETINO_LR", "auto")
    retino("train")
    retino("train", "--lr", "0.5")
    assert [(config.lr, config.lr_auto) for config in asked] == [
        (0.002, False),
        (None, True),
        (None, True),
        (0.5, False),
    ]


@pytest.mark.parametrize("value", ["fast", "", "nan", "-1", "1e9"])
def test_anything_else_is_refused_with_what_would_be_right(
    retino: Retino, asked: list[TrainConfig], value: str
) -> None:
    ended = retino("train", f"--lr={value}")
    assert ended.code == 2
    assert "--lr" in ended.err
    assert "Give a number" in ended.err
    assert asked == []
