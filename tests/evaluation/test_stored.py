"""Stored predictions: found by split, in any order, refused where they do not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from samples import make_predictions, store_run

from retino_cli.errors import RunNotFoundError, UsageError
from retino_cli.evaluation.compare import compare
from retino_cli.evaluation.predictions import Predictions, write_predictions
from retino_cli.evaluation.stored import read_stored, refuse_unlike
from retino_cli.tracking import open_store


def test_the_first_common_split_is_taken_unasked(workplace: Path) -> None:
    both = store_run("both", make_predictions([0, 1], [0, 1]))
    store = open_store()
    with store.resume_run(both) as run:
        run.write_folder(
            "val", lambda folder: write_predictions(make_predictions([3], [3]), folder / "predictions.csv")
        )
    store_run("val only", make_predictions([3], [2]), split="val")
    (alone,) = read_stored(store, ["both"])
    assert (alone.split, len(alone.predictions)) == ("test", 2)
    pair = read_stored(store, ["both", "val only"])
    assert [one.split for one in pair] == ["val", "val"]
    assert [len(one.predictions) for one in pair] == [1, 1]
    (asked,) = read_stored(store, ["both"], split="val")
    assert asked.split == "val"


def test_runs_without_predictions_are_named_with_what_each_has(workplace: Path) -> None:
    store_run("with", make_predictions([0, 1], [0, 1]))
    store_run("without", None)
    with pytest.raises(RunNotFoundError, match="with: test; without: none") as caught:
        read_stored(open_store(), ["with", "without"])
    assert "retino eval" in caught.value.hint


def test_a_run_named_twice_is_refused_also_under_two_names(workplace: Path) -> None:
    run_id = store_run("one", make_predictions([0, 1], [0, 1]))
    with pytest.raises(UsageError, match="named twice"):
        read_stored(open_store(), ["one", run_id[:8]])


def test_evaluations_are_found_and_comparisons_are_not(workplace: Path) -> None:
    store_run("an evaluation", make_predictions([0, 1], [0, 1]), kind="eval")
    store_run("a comparison", None, kind="compare")
    assert read_stored(open_store(), ["latest"])[0].name == "an evaluation"
    with pytest.raises(RunNotFoundError):
        read_stored(open_store(), ["a comparison"])


def stored(workplace: Path, *predictions: Predictions) -> list[str]:
    return [store_run(f"run {k}", one) for k, one in enumerate(predictions)]


def test_the_order_of_the_images_does_not_matter(workplace: Path) -> None:
    ids = [f"image {k}" for k in range(30)]
    rng = np.random.default_rng(0)
    grade, said = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    orders = [rng.permutation(30) for _ in range(3)]
    runs = stored(
        workplace,
        *(make_predictions(grade[o].tolist(), said[o].tolist(), ids=[ids[i] for i in o]) for o in orders),
    )
    refuse_unlike(read_stored(open_store(), runs))
    comparison = compare(runs, n_resamples=20)
    assert len({json.dumps(run.confusion.tolist()) for run in comparison.runs if run.confusion is not None}) == 1
    assert comparison.disagreements == ()


def test_other_images_are_refused_with_the_difference(workplace: Path) -> None:
    one = make_predictions([0, 1, 2], [0, 1, 2], ids=["a", "b", "c"])
    for other, message in (
        (
            make_predictions([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], ids=["a", "b", "d", "e", "f"]),
            r"3 against 5 images, 2 of them in both; only in the first: c; only in the second: d, e, f",
        ),
        (make_predictions([0, 1], [0, 1], ids=["a", "b"]), r"3 against 2 images, 2 of them in both; only in the first"),
        (make_predictions([0, 1, 2], [0, 1, 2], ids=["a", "b", "x"]), r"3 against 3 images, 2 of them in both"),
    ):
        with pytest.raises(UsageError, match=message):
            refuse_unlike(read_stored(open_store(), stored(workplace, one, other)))


def test_other_grades_are_refused_with_examples(workplace: Path) -> None:
    one = make_predictions([0, 1, 2], [0, 1, 2], ids=["a", "b", "c"])
    other = make_predictions([2, 1, 3], [0, 1, 2], ids=["c", "b", "a"])
    with pytest.raises(UsageError, match="disagree on the true grade of 1 images: a"):
        refuse_unlike(read_stored(open_store(), stored(workplace, one, other)))
