"""``retino report``: what it prints."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Retino


def test_it_says_where_the_page_is(retino: Retino, trained_place: Path) -> None:
    ended = retino("report", "first", "--out", "shown.html", "--device", "cpu", "--workers", 1)
    assert ended.code == 0, ended.err
    assert "Written: shown.html" in ended.out
    assert "Stored in MLflow as test/report.html of run" in ended.out
    assert (trained_place / "shown.html").is_file()


def test_json_alone_is_on_stdout(retino: Retino, trained_place: Path) -> None:
    ended = retino("report", "first", "--split", "val", "--out", "val.html", "--no-images", "--json")
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    assert (made["split"], made["path"], made["n_pictures"]) == ("val", "val.html", 0)
    assert made["n_bytes"] == (trained_place / "val.html").stat().st_size


def test_an_unknown_run_is_an_error_with_a_hint(retino: Retino, trained_place: Path) -> None:
    ended = retino("report", "fisrt")
    assert ended.code == 1
    assert "fisrt" in ended.err
    assert "first" in ended.err
    assert not (trained_place / "report.html").exists()
