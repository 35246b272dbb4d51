"""``retino data paint``: what it prints, and a training on what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Retino


def test_paint_inspect_train(workplace: Path, retino: Retino, synthetic_data: Path) -> None:
    flags = ("--onto", synthetic_data, "--pictures", 30, "--size", 64, "--workers", 1)
    ended = retino("data", "paint", "painted", *flags, "--json")
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    assert (made["images"], made["painted"], made["data"], made["masks"]) == (30, 30, "synthetic", False)
    assert made["grade_counts"] == [6] * 5
    assert not Path("painted", "masks").exists()
    again = retino("data", "paint", "painted", *flags)
    assert again.code == 0
    assert "30 PAINTED pictures" in again.out
    assert "there already" in again.out
    assert "Next: retino train --data painted --image-size 64" in again.out
    assert json.loads(retino("data", "inspect", "painted", "--json").out)["layout"] == "painted"
    trained = retino(
        *("train", "--data", "painted", "--image-size", 32, "--stem", "7x7", "--epochs", 1, "--lr", 0.01, "--json"),
        *("--recipe", "strong", "--device", "cpu", "--workers", 1, "--batch-size", 16, "--precision", "float32"),
    )
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["history"]


def test_what_is_refused(workplace: Path, retino: Retino, synthetic_data: Path) -> None:
    Path("mine").mkdir()
    Path("mine", "notes.txt").touch()
    for arguments, code, words in (
        (("mine", "--onto", synthetic_data), 1, "holds no painted data set"),
        (("new", "--onto", "nowhere"), 1, "nowhere"),
        (("new", "--onto", synthetic_data, "--pictures", 0), 2, "--pictures 0"),
        (("new", "--onto", synthetic_data, "--grade-distribution", "1,x"), 2, "--grade-distribution"),
        (("new", "--onto", synthetic_data, "--duplicates", "some"), 2, "--duplicates"),
        (("new",), 2, "--onto"),
    ):
        ended = retino("data", "paint", *arguments)
        assert ended.code == code, ended.err
        assert words in ended.err
    assert not Path("new").exists()
