"""``--figure-format``: which files commands leave, and what is refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Retino
from samples import make_predictions, store_run

from retino_cli.tracking import open_store

pytestmark = pytest.mark.figures

GRADE = [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]


@pytest.fixture
def two(workplace: Path) -> Path:
    store_run("good", make_predictions(GRADE, [0, 0, 0, 1, 1, 2, 2, 3, 4, 3]))
    store_run("poor", make_predictions(GRADE, [0, 0, 1, 1, 0, 2, 1, 3, 4, 2]))
    return workplace


def suffixes(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()}


def test_confusion_writes_what_is_asked_for(two: Path, retino: Retino, monkeypatch: pytest.MonkeyPatch) -> None:
    assert retino("confusion", "good", "--out", "usual").code == 0
    assert suffixes(Path("usual")) == {".png", ".svg"}
    ended = retino("confusion", "good", "--out", "one", "--figure-format", "pdf")
    assert suffixes(Path("one")) == {".pdf"}
    assert "Written: one/confusion_matrix.pdf" in ended.out
    retino("confusion", "good", "--out", "all", "--figure-format", "pdf,png", "--figure-format", "svg")
    assert suffixes(Path("all")) == {".png", ".svg", ".pdf"}
    monkeypatch.setenv("RETINO_FIGURE_FORMAT", "svg,pdf")
    retino("confusion", "good", "--out", "environment")
    assert suffixes(Path("environment")) == {".svg", ".pdf"}
    # Files of an earlier call are not called this one's.
    assert "confusion_matrix.svg" not in retino("confusion", "good", "--out", "usual", "--figure-format", "png").out


def test_compare_draws_a_forest_plot_in_the_format(two: Path, retino: Retino) -> None:
    assert retino("compare", "good", "poor", "--figure-format", "pdf").code == 0
    store = open_store()
    (record,) = store.latest(1, kinds=("compare",))
    names = {path.name for path in store.download(record.run_id, "comparison").iterdir()}
    assert {"differences.pdf", "confusion_matrices.pdf", "accuracy_by_epoch.pdf"} <= names
    assert not [name for name in names if name.endswith((".png", ".svg"))]


@pytest.mark.parametrize(
    "command", [("train",), ("eval", "good"), ("confusion", "good"), ("compare", "good"), ("lab",)]
)
def test_an_unknown_format_is_refused_before_anything_is_done(
    two: Path, retino: Retino, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = retino(*command, "--figure-format", "png,gif")
    assert (ended.code, ended.out) == (2, "")
    assert "'gif'; the formats are png, svg, pdf" in ended.err
    monkeypatch.setenv("RETINO_FIGURE_FORMAT", "gif")
    ended = retino(*command)
    assert (ended.code, ended.out) == (2, "")
    assert "'gif'" in ended.err
    assert len(open_store().latest(10)) == 2
