"""``make_report``: the numbers are those that were stored, and what is missing is said."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import make_predictions, store_run

from retino_cli.config import TrainConfig
from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.artifacts import write_evaluation
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.evaluation import judge
from retino_cli.evaluation.judged import Judged, ScoredPredictions
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.report import report as made
from retino_cli.report.origin import repeat_command
from retino_cli.report.report import make_report
from retino_cli.tracking import open_store


def island(page: str) -> dict[str, Any]:
    """What page.js works with."""
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    values: dict[str, Any] = json.loads(found[1])
    return values


def pictures(page: str) -> list[Image.Image]:
    """Every picture in a page."""
    return [
        Image.open(io.BytesIO(base64.b64decode(body)))
        for body in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    ]


def store_judged(predictions: Judged, *, name: str = "r", split: str = "test", **options: Any) -> str:
    """A run with a whole evaluation of ``predictions``, and no data, no checkpoint; its id."""
    run = open_store().start_run(experiment="retino", name=name, kind="eval", params={}, tags={})
    with run:
        evaluation = judge(predictions, split=split, data="made up", run_name=name, n_resamples=50, **options)
        run.write_folder(split, lambda folder: write_evaluation(evaluation, folder))
    return run.run_id


@pytest.fixture(scope="module")
def first_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Filled by the first test that needs it: the page of the training "first"."""
    return {}


@pytest.fixture
def page_of_first(trained_place: Path, first_page: dict[str, Any]) -> dict[str, Any]:
    if not first_page:
        report = make_report("first", out=trained_place / "first.html", device="cpu", workers=1)
        first_page |= {"report": report, "page": (trained_place / "first.html").read_text(encoding="utf-8")}
    return first_page


def test_the_numbers_are_those_of_the_run(page_of_first: dict[str, Any]) -> None:
    page, report = page_of_first["page"], page_of_first["report"]
    store = open_store()
    document = json.loads(store.download(report.run_id, "test/metrics.json").read_text("utf-8"))
    for name in ("qwk", "accuracy", "referable_auc", "macro_f1", "brier"):
        assert f"{document['metrics'][name]:.4f}" in page
    interval = document["intervals"]["accuracy"]
    assert f"[{interval['low']:.3f}, {interval['high']:.3f}]" in page
    assert f"majority grade, no pixel read: {document['metrics']['majority_accuracy']:.3f}" in page
    predictions = read_predictions(store.download(report.run_id, "test/predictions.csv"))
    data = island(page)
    assert data["threshold"]["scores"] == predictions.referable_score.tolist()  # the same float64
    assert data["threshold"]["positive"] == (predictions.grade >= 2).astype(int).tolist()
    counts = {
        f"{true}-{said}": n for true, row in enumerate(document["confusion_matrix"]) for said, n in enumerate(row) if n
    }
    assert {key: cell["count"] for key, cell in data["cells"].items()} == counts
    assert sum(len(cell["images"]) for cell in data["cells"].values()) == len(predictions)


def test_it_is_stored_with_the_run_whose_status_stays(page_of_first: dict[str, Any]) -> None:
    store, report = open_store(), page_of_first["report"]
    assert store.download(report.run_id, "test/report.html").read_text("utf-8") == page_of_first["page"]
    assert store.find(report.run_id).status == "FINISHED"
    assert report.n_bytes == len(page_of_first["page"].encode())


def test_pictures_are_small_and_hold_no_metadata(page_of_first: dict[str, Any]) -> None:
    images, report = pictures(page_of_first["page"]), page_of_first["report"]
    assert report.n_pictures == report.n_images
    assert report.n_heat_maps == page_of_first["page"].count('class="heat"') > 0
    assert len(images) == report.n_pictures + 2 * report.n_heat_maps  # in a cell; as an error, with its heat map
    for image in images:
        assert max(image.size) == 32  # that of the training; never enlarged
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile"} & image.info.keys()


def test_the_origin_is_told(page_of_first: dict[str, Any]) -> None:
    page, record = page_of_first["page"], open_store().find("first")
    for tag in ("retino.data_fingerprint", "retino.split_fingerprint", "retino.preprocess", "retino.version"):
        assert record.tags[tag] in page
    assert "retino train --data" in page
    assert "Patients are not named" not in page
    for name in TrainConfig().to_dict():
        assert f'<th scope="row">{name}</th>' in page


def test_no_images_leaves_all_pictures_out(trained_place: Path) -> None:
    report = make_report("first", out=trained_place / "bare.html", images=False)
    page = (trained_place / "bare.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert "--no-images" in page
    assert (report.n_pictures, report.n_heat_maps, report.notes) == (0, 0, ())
    assert all(image[3] == -1 for cell in island(page)["cells"].values() for image in cell["images"])


def test_lost_photographs_are_told(trained_place: Path, synthetic_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = synthetic_data.with_name("hidden")
    synthetic_data.rename(hidden)
    try:
        report = make_report("first", out=trained_place / "lost.html", device="cpu")
    finally:
        hidden.rename(synthetic_data)
    page = (trained_place / "lost.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert "Without photographs" in page
    assert len(report.notes) == 1
    assert str(synthetic_data) in report.notes[0]


def test_other_images_of_the_same_name_are_not_shown(
    trained_place: Path, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(synthetic_data, changed)
    labels = next(changed.glob("*.csv"))
    lines = labels.read_text("utf-8").splitlines()
    labels.write_text("\n".join([*lines[:-1]]) + "\n", encoding="utf-8")
    monkeypatch.setattr(
        "retino_cli.report.photographs.data_config", lambda source: TrainConfig(data=changed, val_fraction=0.25)
    )
    report = make_report("first", out=trained_place / "other.html", device="cpu")
    assert "no longer holds" in report.notes[0]
    assert report.n_pictures == 0


def test_bytes_are_bounded_and_what_is_left_out_is_counted(
    trained_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_PICTURE_BYTES", 4_000)
    report = make_report("first", out=trained_place / "bounded.html", device="cpu", workers=1)
    page = (trained_place / "bounded.html").read_text(encoding="utf-8")
    assert sum(map(len, re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", page))) <= 4_000
    assert 0 < report.n_pictures < report.n_images


def test_an_evaluation_has_its_own_report_with_the_point_that_was_asked_for(trained_place: Path) -> None:
    evaluation = evaluate("first", split="val", sensitivity=0.7, prevalence=0.1, device="cpu", workers=1)
    report = make_report(evaluation.evaluation_run_id, out=trained_place / "eval.html", device="cpu", workers=1)
    page = (trained_place / "eval.html").read_text(encoding="utf-8")
    assert evaluation.point is not None
    assert (report.split, report.run_id) == ("val", evaluation.evaluation_run_id)
    data = island(page)["threshold"]
    assert data["start"] == evaluation.point.threshold
    assert data["prevalence"] == 0.1
    assert "on these very images" in page
    assert report.n_pictures == report.n_images


def test_a_collapsed_run_is_called_so(workplace: Path) -> None:
    run_id = store_judged(make_predictions([0, 0, 1, 2, 3, 4] * 4, [0] * 24))
    make_report(run_id, out=workplace / "r.html")
    page = (workplace / "r.html").read_text(encoding="utf-8")
    assert "collapsed" in page
    assert "100.0% of its predictions are grade 0" in page
    assert "No threshold was fitted" in page  # there is no validation


def test_perfect_predictions_have_no_errors(workplace: Path) -> None:
    run_id = store_judged(make_predictions([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]))
    make_report(run_id, out=workplace / "r.html")
    assert "Every one of the 5 images is graded right" in (workplace / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("grade", [0, 4])
def test_images_of_one_kind_leave_nothing_to_count(workplace: Path, grade: int) -> None:
    run_id = store_judged(make_predictions([grade] * 6, [0, 1, 2, 3, 4, 0]))
    make_report(run_id, out=workplace / "r.html")
    page = (workplace / "r.html").read_text(encoding="utf-8")
    assert "Nothing can be counted" in page
    assert "threshold" not in island(page)


def test_binary_scores_of_somebody_else(workplace: Path) -> None:
    names = np.array([f"i{k}" for k in range(8)])
    empty = np.array([""] * 8)
    scores = np.array([-3.0, 0.1, 5.0, 2.0, 7.5, -1.0, 2.5, 0.0])
    run_id = store_judged(
        ScoredPredictions(names, empty, empty, np.array([0, 0, 1, 1, 1, 0, 0, 1]), scores, binary=True),
        split="predictions",
    )
    report = make_report(run_id, out=workplace / "r.html")
    page = (workplace / "r.html").read_text(encoding="utf-8")
    assert island(page)["threshold"]["scores"] == scores.tolist()
    assert 'min="-3.0" max="7.5"' in page
    assert "There is no confusion matrix" in page
    assert (report.split, report.artifact) == ("", "predictions/report.html")


def test_names_are_escaped(workplace: Path) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    predictions = make_predictions([0, 4, 2, 1], [4, 0, 2, 1], ids=[nasty, "b&b", "c", '"d"'])
    named = Predictions(
        predictions.image_id, np.array([nasty] * 4), predictions.eye, predictions.grade, predictions.probabilities
    )
    run_id = store_judged(named, name=nasty)
    make_report(run_id, out=workplace / "r.html")
    page = (workplace / "r.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert "b&amp;b" in page


def test_the_command_repeats_the_configuration(
    trained_place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from retino_cli.cli import app

    stored = TrainConfig.from_dict(
        json.loads(open_store().download(open_store().find("second").run_id, "config.json").read_text("utf-8"))
    )
    seen: list[TrainConfig] = []

    def catch(config: TrainConfig, **_options: Any) -> None:
        seen.append(config)
        raise UsageError("caught")

    monkeypatch.setattr("retino_cli.training.train.train", catch)
    configs = (stored, replace(stored, tta=False, deterministic=True, data=Path("a folder"), lr=1e-5))
    for config in configs:
        monkeypatch.setattr(sys, "argv", shlex.split(repeat_command(config)))
        with pytest.raises(SystemExit):
            app.main()
        assert "caught" in capsys.readouterr().err
    elsewhere = {"nesterov", "test_every_epoch", "run_name", "workers"}  # a recipe's own, and where the run lies
    for config, parsed in zip(configs, seen, strict=True):
        wanted, got = config.to_dict(), parsed.to_dict()
        assert {k: v for k, v in got.items() if k not in elsewhere} == {
            k: v for k, v in wanted.items() if k not in elsewhere
        }


def test_files_of_others_are_not_overwritten(workplace: Path) -> None:
    run_id = store_judged(make_predictions([0, 1, 2], [0, 1, 1]))
    (workplace / "report.html").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="retino did not make it"):
        make_report(run_id)
    assert (workplace / "report.html").read_text("utf-8") == "mine"
    with pytest.raises(UsageError, match="is a folder"):
        make_report(run_id, out=workplace)
    make_report(run_id, out=workplace / "r.html")
    make_report(run_id, out=workplace / "r.html")  # its own are


def test_a_split_that_is_not_there_is_refused(workplace: Path) -> None:
    store_run("bare", None, kind="train")
    with pytest.raises(RunNotFoundError, match="no predictions"):
        make_report("bare", out=workplace / "r.html")
    run_id = store_judged(make_predictions([0, 1, 2], [0, 1, 1]))
    with pytest.raises(RunNotFoundError, match="split val"):
        make_report(run_id, split="val", out=workplace / "r.html")
