"""The page of a comparison: its numbers are those of comparison.json, names do no harm, and it says what it lacks."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_predictions, store_run

from retino_cli.errors import UsageError
from retino_cli.evaluation.compare import compare
from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.predictions import write_predictions
from retino_cli.evaluation.verdict import DISPLAY_NAMES
from retino_cli.tracking import open_store

GRADE = [0, 0, 0, 1, 1, 2, 2, 3, 4, 4] * 4
GOOD = [0, 0, 0, 1, 1, 2, 2, 3, 4, 3] * 4
POOR = [0, 0, 1, 1, 0, 2, 1, 3, 4, 2] * 3 + [0, 4, 1, 1, 0, 3, 1, 3, 4, 4]
OUT = Path("page.html")


@pytest.fixture(autouse=True)
def _plain_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from retino_cli.evaluation import compare as module

    original: Callable[..., Any] = module.resample
    monkeypatch.setattr(module, "resample", lambda judged, **kwargs: original(judged, **{**kwargs, "n_resamples": 200}))


def text_of(page: str) -> str:
    """What a reader sees, without elements."""
    bare = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare)))


def made(runs: list[str], **options: Any) -> tuple[Comparison, dict[str, Any], str, str]:
    """The comparison, its comparison.json, its page, and the text of that."""
    comparison = compare(runs, html=OUT, **options)
    folder = open_store().download(comparison.run_id, "comparison")
    page = OUT.read_text(encoding="utf-8")
    assert (folder / "comparison.html").read_text(encoding="utf-8") == page
    return comparison, json.loads((folder / "comparison.json").read_text()), page, text_of(page)


def two(**names: list[int]) -> list[str]:
    return [store_run(name, make_predictions(GRADE, predicted)) for name, predicted in names.items()]


def test_the_numbers_are_those_of_the_comparison(workplace: Path) -> None:
    comparison, document, page, text = made(two(good=GOOD, poor=POOR))
    for sentence in document["verdicts"]:
        assert sentence in text
    (pair,) = document["pairs"]
    for name in DISPLAY_NAMES:
        difference = pair["differences"][name]
        assert f"{difference['estimate']:+.4f} [{difference['low']:+.3f}, {difference['high']:+.3f}]" in text
        for run in document["runs"]:
            interval = run["intervals"].get(name)
            assert f"{run['metrics'][name]:.4f}" in text
            if interval and "low" in interval:
                assert f"{run['metrics'][name]:.4f} [{interval['low']:.3f}, {interval['high']:.3f}]" in text
    first, second = (np.array(run["confusion_matrix"]) for run in document["runs"])
    cells = [
        [
            int(cell.replace("+", "").replace("−", "-"))
            for cell in re.findall(r"<td[^>]*><strong>([^<]*)</strong>", grid)
        ]
        for grid in re.findall(r'<table class="matrix small-matrix">.*?</table>', page, re.DOTALL)
    ]
    assert cells == [first.ravel().tolist(), second.ravel().tolist(), (second - first).ravel().tolist()]
    assert f"They differ on {len(comparison.disagreements)} of {comparison.n_images} images" in text


def test_better_is_marked_only_where_the_data_can_tell(workplace: Path) -> None:
    comparison, _document, page, _text = made(two(good=GOOD, poor=POOR))
    (table,) = re.findall(r'<div class="scroll metrics".*?</table>', page, re.DOTALL)
    marked = {}
    for name, row in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table, re.DOTALL):
        cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
        marked[name.split(" (lower")[0]] = [place for place, cell in enumerate(cells) if "better" in cell]
    (pair,) = comparison.pairs
    winners = {
        label[0].upper() + label[1:]: [] if (winner := pair.winner(name)) is None else [winner]
        for name, label in DISPLAY_NAMES.items()
    }
    assert marked == {"Accuracy of the majority baseline": []} | winners
    assert [] in winners.values()
    assert [0] in winners.values()
    equal = made(two(one=GOOD, same=GOOD))[2]
    assert 'class="better"' not in equal
    assert "they say the same grade" in equal


def test_disagreements_are_sorted_by_who_is_right(workplace: Path) -> None:
    comparison, _document, page, text = made(two(good=GOOD, poor=POOR))
    parts = {
        "Only A is right": [one for one in comparison.disagreements if one.predicted[0] == one.grade],
        "Only B is right": [one for one in comparison.disagreements if one.predicted[1] == one.grade],
        "Neither is right": [one for one in comparison.disagreements if one.grade not in one.predicted],
    }
    for title, images in parts.items():
        assert f"{title}: {len(images) or 'none'}" in text.replace(" :", ":")
    for one in comparison.disagreements:
        (card,) = re.findall(rf'<article class="case" aria-label="Image {one.image_id}">.*?</article>', page, re.DOTALL)
        assert f"True {one.grade}" in text_of(card)
        said = re.findall(r"says\s+(\d)", text_of(card))
        assert said == [str(grade) for grade in one.predicted]
        shown = re.findall(r'class="bar-value">([\d.]+)<', card)
        assert sorted(shown) == ["0.05"] * 8 + ["0.80"] * 2
    assert "Without photographs" in text


def test_names_are_text(workplace: Path) -> None:
    name = '</script><img src=x onerror=alert(1)> & "quoted"'
    ids = [store_run(f"{name} {k}", make_predictions(GRADE, said)) for k, said in enumerate((GOOD, POOR))]
    page = made(ids)[2]
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert html.escape(f"{name} 0", quote=False) in page


def test_without_images_and_with_files_the_page_says_so(workplace: Path) -> None:
    (run,) = two(good=GOOD)
    assert "left out on demand" in made([run, *two(poor=POOR)], images=False)[3]
    write_predictions(make_predictions(GRADE, POOR), Path("theirs.csv"))
    write_predictions(make_predictions(GRADE, GOOD), Path("ours.csv"))
    text = made(["theirs.csv", "ours.csv"])[3]
    assert "a file of predictions does not say where its images lie" in text
    assert "Loss on validation" not in text
    assert "retino compare theirs.csv ours.csv --html" in text
    lines = [f"{k},{grade},{said / 5}" for k, (grade, said) in enumerate(zip(GRADE, POOR, strict=True))]
    for name in ("one.csv", "two.csv"):
        Path(name).write_text("\n".join(["image_id,grade,referable_score", *lines]) + "\n")
    text = made(["one.csv", "two.csv"])[3]
    assert "these predictions hold a score for referable DR only" in text
    assert "no predicted grades are stored" in text


def test_more_than_two(workplace: Path) -> None:
    worse = [0] * 40
    comparison, document, page, text = made(two(good=GOOD, poor=POOR, constant=worse, again=GOOD))
    assert len(document["pairs"]) == 6
    (table,) = re.findall(r'<div class="scroll pairs".*?</table>', page, re.DOTALL)
    for pair in document["pairs"]:
        for name in ("qwk", "accuracy", "referable_auc"):
            one = pair["differences"][name]
            assert f"{one['estimate']:+.4f} [{one['low']:+.3f}, {one['high']:+.3f}]" in text_of(table)
    assert "Drawn are the pairs with A; all 6 are in the table." in text
    assert "constant has collapsed" in text
    assert "The widest disagreements" in text
    assert len(comparison.disagreements) > 0


def test_groups_show_mean_and_deviation(workplace: Path) -> None:
    ids = [
        store_run(f"{arch}-{seed}", make_predictions(GRADE, said), params={"arch": arch, "seed": seed})
        for arch, answers in (("wide", (GOOD, GRADE)), ("deep", (POOR, GOOD)))
        for seed, said in enumerate(answers)
    ]
    comparison, _document, _page, text = made(ids, group_by="arch")
    for group in comparison.groups:
        assert f"{group.mean['qwk']:.4f} ± {group.deviation['qwk']:.4f}" in text
        assert f"{group.label}, mean of 2 runs" in text
    for run in comparison.runs:
        assert not isinstance(run.metrics["qwk"], Undefined)
        assert f"{run.metrics['qwk']:.4f}" in text


def test_photographs_come_from_the_runs_own_data(trained_place: Path) -> None:
    comparison, _document, page, text = made(["first", "second"])
    assert "Without photographs" not in text
    shown = dict(re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="Photograph ([^"]+)"', page))
    assert set(shown.values()) == {one.image_id for one in comparison.disagreements}
    assert len(page) < 15_000_000


def test_a_folder_and_somebody_elses_file_are_refused_before_anything_is_done(workplace: Path) -> None:
    ids = two(good=GOOD, poor=POOR)
    Path("folder").mkdir()
    Path("theirs.html").write_text("<p>mine")
    for place, message in (("folder", "is a folder"), ("theirs.html", "retino did not make it")):
        with pytest.raises(UsageError, match=message):
            compare(ids, html=Path(place))
    assert Path("theirs.html").read_text() == "<p>mine"
    assert len(open_store().latest(10)) == 2
    made(ids)
    made(ids)  # its own page is written again
