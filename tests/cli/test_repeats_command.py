"""``retino train --repeats`` and ``retino compare REPEATS``: what is printed, stored and refused."""

from __future__ import annotations

import json
import signal
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import Retino, SignalInEpoch
from samples import make_predictions, store_run
from scipy.stats import ttest_ind

from retino_cli.evaluation.predictions import write_predictions
from retino_cli.tracking import open_store
from retino_cli.tracking.repeats import SEED_TAG, SEEDS_TAG

GRADE = np.random.default_rng(0).integers(0, 5, 40).tolist()


def store_repeats(name: str, mistakes: Sequence[int], *, asked: int | None = None, **params: object) -> str:
    """Repeats of which the child with seed k says the wrong grade of ``mistakes[k]`` images; the parent's id."""
    store = open_store()
    seeds = ",".join(map(str, range(asked or len(mistakes))))
    with store.start_run(experiment="retino", name=name, kind="repeats", params={}, tags={SEEDS_TAG: seeds}) as parent:
        for seed, wrong in enumerate(mistakes):
            said = [(grade + 1) % 5 if k < wrong else grade for k, grade in enumerate(GRADE)]
            with store.start_run(
                experiment="retino",
                name=f"{name}-s{seed}",
                kind="train",
                params={"seed": seed, **params},
                tags={SEED_TAG: str(seed)},
                parent=parent.run_id,
            ) as child:

                def write(folder: Path, said: list[int] = said) -> None:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_predictions(make_predictions(GRADE, said), folder / "predictions.csv")

                child.write_folder("test", write)
    return parent.run_id


def test_json_is_one_object_and_the_table_has_a_row_for_each_seed(
    workplace: Path, retino: Retino, quick_flags: tuple[object, ...]
) -> None:
    ended = retino("train", *quick_flags, "--repeats", 2, "--run-name", "mine", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert (document["run_name"], document["seeds"], document["split"]) == ("mine", [0, 1], "test")
    assert [run["run_name"] for run in document["runs"]] == ["mine-s0", "mine-s1"]
    values = [run["metrics"]["nll"] for run in document["runs"]]
    assert document["mean"]["nll"] == pytest.approx(statistics.mean(values))
    assert document["deviation"]["nll"] == pytest.approx(statistics.stdev(values))

    shown = retino("train", *quick_flags, "--repeats", 2)  # under whatever name: the same settings, nothing to train
    assert shown.err.count("not trained again") == 2
    first = document["runs"][0]["metrics"]
    assert f"{first['accuracy']:.4f}" in shown.out
    assert f"{document['mean']['macro_auc']:.4f} ± {document['deviation']['macro_auc']:.4f}" in shown.out
    (majority,) = [line.split() for line in shown.out.splitlines() if line.startswith(" majority grade")]
    assert majority[-2:] == [f"{first['majority_accuracy']:.4f}", "0.0000"]
    assert f"retino compare {document['run_id'][:8]} RUN" in shown.out
    for run in document["runs"]:
        assert run["run_id"][:8] in shown.out
        assert (f"COLLAPSED: seed {run['seed']} " in shown.err) == (run["collapsed"] is not None)

    listed = json.loads(retino("runs", "--kind", "repeats", "--json").out)["runs"]
    assert [run["run_id"] for run in listed] == [document["run_id"]]
    assert listed[0]["accuracy"] == pytest.approx(document["mean"]["accuracy"])


def test_ctrl_c_says_how_to_go_on(
    retino: Retino, signal_in_epoch: SignalInEpoch, workplace: Path, quick_flags: tuple[object, ...]
) -> None:
    signal_in_epoch(signal.SIGINT, 2)
    ended = retino("train", *quick_flags, "--epochs", 1000, "--repeats", 2)
    assert (ended.code, ended.out) == (130, "")
    assert "The same command goes on" in ended.err
    assert "Traceback" not in ended.err
    assert {record.kind: record.status for record in open_store().latest(10)} == {
        "repeats": "KILLED",
        "train": "KILLED",
    }


def test_resume_and_numbers_out_of_range_are_refused(workplace: Path, retino: Retino) -> None:
    refused = retino("train", "--resume", "latest", "--repeats", 2)
    assert refused.code == 2
    assert "--repeats and --resume" in refused.err
    for number in (0, 101):
        assert retino("train", "--repeats", number).code == 2
    assert open_store().latest(10) == []


def test_repeats_are_compared_as_groups(workplace: Path, retino: Retino) -> None:
    store_repeats("good", [2, 4, 6, 8], arch="resnet50")
    store_repeats("poor", [20, 24, 28], arch="resnet18")
    document = json.loads(retino("compare", "good", "poor", "--json").out)
    assert [group["label"] for group in document["groups"]] == ["good", "poor"]
    assert [group["members"] for group in document["groups"]] == [[0, 1, 2, 3], [4, 5, 6]]
    for group, accuracies in zip(document["groups"], ([0.95, 0.9, 0.85, 0.8], [0.5, 0.4, 0.3]), strict=True):
        assert group["mean"]["accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert group["deviation"]["accuracy"] == pytest.approx(statistics.stdev(accuracies))
    assert document["verdicts"][0].startswith("good is better than poor on QWK")
    by_arch = json.loads(retino("compare", "good", "poor", "--group-by", "arch", "--json").out)
    assert [group["label"] for group in by_arch["groups"]] == ["arch resnet50", "arch resnet18"]
    assert [group["mean"] for group in by_arch["groups"]] == [group["mean"] for group in document["groups"]]

    ended = retino("compare", "good", "poor")
    lines = ended.out.splitlines()
    (title,) = [line for line in lines if "(n = " in line]
    assert "good (n = 4)" in title
    assert "poor (n = 3)" in title
    for group in document["groups"]:
        for name in ("accuracy", "qwk", "macro_auc", "referable_auc"):
            assert f"{group['mean'][name]:.4f} ± {group['deviation'][name]:.4f}" in ended.out
    assert any(line.split()[0:1] == ["seed"] and "0, 1, 2, 3" in line for line in lines)  # one column for a group
    assert "accuracy of the majority baseline" in ended.out
    record = open_store().latest(1, kinds=("compare",))[0]
    text = open_store().download(record.run_id, "comparison/comparison.md").read_text()
    assert "| metric | good (n = 4) | poor (n = 3) |" in text
    assert "| accuracy | **0.8750 ± 0.0645** | 0.4000 ± 0.1000 |" in text  # better, as the data can tell


def test_better_by_the_images_but_not_by_the_seeds_is_said(workplace: Path, retino: Retino) -> None:
    mistakes = ([2, 4, 6, 30], [20, 24, 28, 12])
    for name, wrong in zip(("one", "other"), mistakes, strict=True):
        store_repeats(name, wrong)
    document = json.loads(retino("compare", "one", "other", "--json").out)
    assert document["pairs"][0]["differences"]["accuracy"]["high"] < 0
    expected = ttest_ind(*([1 - wrong / 40 for wrong in group] for group in mistakes), equal_var=False).pvalue
    (caution,) = [text for text in document["cautions"] if "accuracy" in text]
    assert f"(Welch's t-test, p = {expected:.2f})" in caution
    assert caution in retino("compare", "one", "other").out
    store_repeats("steady", [2, 3, 4])
    assert json.loads(retino("compare", "steady", "other", "--json").out)["cautions"] == []


def test_repeats_stand_beside_runs_files_and_namesakes(workplace: Path, retino: Retino) -> None:
    ids = [store_repeats("same", [2, 4]), store_repeats("same", [6, 8])]
    store_run("alone", make_predictions(GRADE, GRADE))
    write_predictions(make_predictions(GRADE, [0] * 40), workplace / "theirs.csv")
    document = json.loads(retino("compare", *ids, "alone", "theirs.csv", "--json").out)
    labels = [group["label"] for group in document["groups"]]
    assert labels == [f"same ({ids[0][:8]})", f"same ({ids[1][:8]})", "alone", "theirs.csv"]
    assert [len(group["members"]) for group in document["groups"]] == [2, 2, 1, 1]
    assert document["groups"][2]["deviation"]["accuracy"] is None
    assert "theirs.csv (n = 1, 1 collapsed)" in retino("compare", ids[0], "theirs.csv").out
    assert retino("compare", ids[0], "same-s0").code == 1  # two answer to that name
    twice = retino("compare", ids[0], ids[0][:8])
    assert twice.code == 2
    assert "named twice" in twice.err


def test_incomplete_repeats_are_refused_with_what_is_there(workplace: Path, retino: Retino) -> None:
    run_id = store_repeats("half", [2, 4], asked=3)
    ended = retino("compare", run_id)
    assert ended.code == 1
    assert "seed 2 is not finished" in ended.err
    finished = [record.run_id[:8] for record in open_store().latest(10, kinds=("train",))]
    assert f"name its finished runs: {' '.join(reversed(finished))}" in ended.err
    assert retino("compare", *finished).code == 0
