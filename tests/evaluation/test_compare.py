"""``compare`` and ``draw_confusions``: from stored predictions, never from a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import make_predictions, store_run
from sklearn.metrics import confusion_matrix as reference

from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.compare import Comparison, compare
from retino_cli.evaluation.confusion_report import draw_confusions
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.metrics import METRIC_NAMES, summarise
from retino_cli.tracking import open_store

GRADE = [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]
GOOD = [0, 0, 0, 1, 1, 2, 2, 3, 4, 3]
POOR = [0, 0, 1, 1, 0, 2, 1, 3, 4, 2]
CONSTANT = [0] * 10

StoreRun = Callable[..., str]


@pytest.fixture
def three(workplace: Path) -> list[str]:
    """Names of three stored runs: good, poor (its images in another order), and one that says 0 only."""
    store_run("good", make_predictions(GRADE, GOOD), params={"arch": "resnet50", "lr": 0.1, "data": "/a"})
    back = list(range(10))[::-1]
    store_run(
        "poor",
        make_predictions([GRADE[k] for k in back], [POOR[k] for k in back], ids=[f"image {k}" for k in back]),
        params={"arch": "resnet18", "lr": 0.1, "data": "/b", "weights": "x.pth"},
    )
    store_run("constant", make_predictions(GRADE, CONSTANT), params={"arch": "resnet18", "lr": 0.1, "data": "/a"})
    return ["good", "poor", "constant"]


def test_metrics_are_those_of_each_runs_own_predictions_in_any_order(three: list[str]) -> None:
    comparison = compare(three)
    assert (comparison.split, comparison.n_images) == ("test", 10)
    for run, predicted in zip(comparison.runs, (GOOD, POOR, CONSTANT), strict=True):
        assert run.metrics == summarise(make_predictions(GRADE, predicted))
        np.testing.assert_array_equal(run.confusion, reference(GRADE, predicted, labels=range(5)))
    assert [run.label for run in comparison.runs] == three


def test_the_best_value_of_each_metric_is_marked_where_the_data_tell(three: list[str]) -> None:
    comparison = compare(three)
    assert comparison.best("accuracy") == (0,)
    assert comparison.best("qwk") == (0,)
    assert comparison.best("majority_accuracy") == ()
    assert comparison.best("precision_0") == (0,)
    assert comparison.best("recall_0") == (0, 2)  # both find all of grade 0
    assert comparison.best("precision_1") == (0,)  # undefined for the third: it is never best
    text = comparison.to_markdown()
    assert comparison.told("accuracy") is None  # ten images do not tell 0.9 from 0.6
    assert "| accuracy | 0.9000 | 0.6000 | 0.3000 |" in text
    told = [name for name in METRIC_NAMES if comparison.told(name) is not None]
    assert "qwk" in told
    assert [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "**" in line] == told
    assert "| precision_4 | 1.0000 | 1.0000 | n/a |" in text  # of two equal ones none is best


def test_nothing_is_marked_where_all_are_equal(workplace: Path) -> None:
    for name in ("one", "two"):
        store_run(name, make_predictions(GRADE, GOOD))
    comparison = compare(["one", "two"])
    assert all(comparison.best(name) == () for name in METRIC_NAMES)
    assert comparison.to_dict()["best"] == {}


def test_parameters_that_differ_are_named_but_not_places(three: list[str]) -> None:
    assert compare(three).differing == {
        "arch": ("resnet50", "resnet18", "resnet18"),
        "weights": ("", "x.pth", ""),
    }


def test_a_collapsed_run_is_called_so(three: list[str]) -> None:
    assert [run.collapsed for run in compare(three).runs] == [None, None, 0]


@pytest.mark.figures
def test_the_comparison_is_stored_with_figures_and_valid_json(three: list[str]) -> None:
    comparison = compare(three)
    store = open_store()
    record = store.find(comparison.run_id, kinds=("compare",))
    assert (record.kind, record.status) == ("compare", "FINISHED")
    assert record.params["split"] == "test"
    folder = store.download(comparison.run_id, "comparison")
    assert {path.name for path in folder.iterdir()} >= {
        "comparison.json",
        "comparison.md",
        "accuracy_by_epoch.png",
        "accuracy_by_epoch.svg",
        "confusion_matrices.png",
        "confusion_matrices.svg",
        "confusion_matrices_normalised.png",
    }
    assert all(path.stat().st_size > 100 for path in folder.iterdir())

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in the JSON")

    document = json.loads((folder / "comparison.json").read_text(), parse_constant=refuse)
    assert document == json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert document["runs"][2]["metrics"]["precision_4"] is None
    assert document["best"]["accuracy"] == [comparison.runs[0].run_id]
    assert record.metrics["accuracy/0_good"] == 0.9
    assert not any(name.startswith("precision_4/2_") for name in record.metrics)


def test_names_of_any_kind_do_no_harm(workplace: Path) -> None:
    names = ["a|b [red] 50% @x", "ü" * 100]
    ids = [store_run(name, make_predictions(GRADE, GOOD)) for name in names]
    comparison = compare(ids)
    assert "a\\|b [red] 50% @x" in comparison.to_markdown()
    assert open_store().find(comparison.run_id, kinds=("compare",)).status == "FINISHED"


def test_two_runs_of_one_name_are_told_apart(workplace: Path) -> None:
    ids = [store_run("same", make_predictions(GRADE, predicted)) for predicted in (GOOD, POOR)]
    labels = [run.label for run in compare(ids).runs]
    assert labels == [f"same ({run_id[:8]})" for run_id in ids]


def test_trained_runs_and_evaluations_are_compared_with_their_curves(trained_place: Path) -> None:
    made = evaluate("first", split="test", device="cpu")
    comparison = compare(["first", "second", made.evaluation_run_id])
    assert [len(run.history) for run in comparison.runs] == [2, 1, 2]
    assert comparison.differing["optimizer"][:2] == ("sgd", "adamw")
    store = open_store()
    for name in ("first", "second"):
        record = store.find(name)
        run = next(run for run in comparison.runs if run.label == name)
        numbers = {k: v for k, v in run.metrics.items() if isinstance(v, float)}
        assert (
            numbers.items()
            <= {k.removeprefix("test/"): v for k, v in record.metrics.items() if k.startswith("test/")}.items()
        )
    on_val: Comparison = compare(["first", "second"], split="val")
    assert on_val.split == "val"


def test_no_model_is_loaded(trained_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_args, **_kwargs: pytest.fail("a model ran"))
    compare(["first", "second"])
    draw_confusions(["first"])


@pytest.mark.parametrize(
    ("runs", "message"),
    [([], "two runs or more"), (["good"], "two runs or more"), (["good", "good"], "named twice")],
)
def test_fewer_than_two_runs_are_refused(three: list[str], runs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(runs)
    assert len(open_store().latest(10)) == 3  # no run of kind compare was begun


def test_unknown_runs_and_splits_are_refused(three: list[str]) -> None:
    with pytest.raises(RunNotFoundError, match="goood"):
        compare(["goood", "poor"])
    with pytest.raises(UsageError, match="--split tset is not known"):
        compare(three, split="tset")
    with pytest.raises(RunNotFoundError, match="no predictions on split val. Stored are: good: test; poor: test"):
        compare(three, split="val")


# -- confusion ---------------------------------------------------------------------------------------------------------


def test_confusion_matrices_equal_scikit_learns_and_are_stored(three: list[str]) -> None:
    report = draw_confusions(three[:2])
    for (name, matrix), run, predicted in zip(report.matrices, three[:2], (GOOD, POOR), strict=True):
        assert name == run
        np.testing.assert_array_equal(matrix, reference(GRADE, predicted, labels=range(5)))
    json.dumps(report.to_dict(), allow_nan=False)
    store = open_store()
    assert store.find(report.run_id, kinds=("confusion",)).status == "FINISHED"
    stored = {path.split("/")[-1] for path in store.artifacts(report.run_id, "test")}
    assert stored == {
        "confusion_matrix.png",
        "confusion_matrix.svg",
        "confusion_matrix_normalised.png",
        "confusion_matrix_normalised.svg",
    }


@pytest.mark.figures
def test_confusion_pictures_are_written_where_asked(three: list[str], tmp_path: Path) -> None:
    report = draw_confusions(["good"], out=tmp_path / "new" / "figures")
    assert [path.name for path in report.files] == [
        "confusion_matrix.png",
        "confusion_matrix.svg",
        "confusion_matrix_normalised.png",
        "confusion_matrix_normalised.svg",
    ]
    assert report.files[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in report.files[1].read_text()


def test_runs_of_other_images_may_stand_side_by_side(workplace: Path) -> None:
    store_run("ten", make_predictions(GRADE, GOOD))
    store_run("three", make_predictions([0, 1, 2], [0, 0, 2]))
    assert [int(matrix.sum()) for _, matrix in draw_confusions(["ten", "three"]).matrices] == [10, 3]


def test_a_folder_that_cannot_be_written_fails_the_run(three: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        draw_confusions(["good"], out=tmp_path / "file" / "figures")
    assert open_store().latest(1)[0].status == "FAILED"
