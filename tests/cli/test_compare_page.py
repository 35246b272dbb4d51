"""``retino compare --html``: where the page goes, and flags that would do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Retino
from samples import make_predictions, store_run

GRADE = [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]


@pytest.fixture
def two(workplace: Path) -> Path:
    store_run("good", make_predictions(GRADE, [0, 0, 0, 1, 1, 2, 2, 3, 4, 3]))
    store_run("poor", make_predictions(GRADE, [0, 0, 1, 1, 0, 2, 1, 3, 4, 2]))
    return workplace


def test_html_alone_writes_beside_and_out_names_the_file(two: Path, retino: Retino) -> None:
    ended = retino("compare", "good", "poor", "--html")
    assert (ended.code, "Written: comparison.html" in ended.out) == (0, True)
    assert Path("comparison.html").read_text().startswith("<!DOCTYPE html>")
    ended = retino("compare", "good", "poor", "--out", "new/page.html", "--no-images", "--json")
    assert ended.code == 0
    assert ended.out.startswith("{")
    assert "left out on demand" in Path("new/page.html").read_text()


def test_no_page_is_made_unasked_and_no_images_alone_is_refused(two: Path, retino: Retino) -> None:
    assert retino("compare", "good", "poor").code == 0
    assert not list(two.glob("*.html"))
    ended = retino("compare", "good", "poor", "--no-images")
    assert (ended.code, ended.out) == (2, "")
    assert "--no-images is about the page" in ended.err
    Path("notes.html").write_text("mine")
    ended = retino("compare", "good", "poor", "--out", "notes.html")
    assert (ended.code, ended.out) == (2, "")
    assert "retino did not make it" in ended.err
