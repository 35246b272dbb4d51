"""``retino compare`` and ``retino confusion`` on runs, on files, and on both."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Retino
from samples import store_run
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, roc_auc_score

from retino_cli.evaluation.metrics import METRIC_NAMES
from retino_cli.evaluation.predictions import Predictions, read_predictions, write_predictions
from retino_cli.tracking import open_store

N = 120


def make_predictions(skill: float, *, seed: int, n: int = N, patients: bool = True) -> Predictions:
    """Of the same ``n`` images for every ``skill`` and ``seed``: more often right the higher ``skill``."""
    grade = np.random.default_rng(7).integers(0, 5, n)
    logits = np.random.default_rng(seed).normal(size=(n, 5)) - skill * (np.arange(5) - grade[:, None]) ** 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        image_id=np.array([f"image {i:03}" for i in range(n)]),
        patient_id=np.array([f"p{i // 2}" if patients else "" for i in range(n)]),
        eye=np.array([("left", "right")[i % 2] if patients else "" for i in range(n)]),
        grade=grade,
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


@pytest.fixture
def three(workplace: Path) -> Path:
    """Runs ``poor``, ``good`` and ``twin`` (as good as ``good``, another seed); the same as poor.csv, good.csv, ..."""
    for name, skill, seed in (("poor", 0.1, 1), ("good", 1.0, 2), ("twin", 1.0, 3)):
        predictions = make_predictions(skill, seed=seed)
        store_run(name, predictions, params={"arch": name})
        write_predictions(predictions, workplace / f"{name}.csv")
    return workplace


def compared(retino: Retino, *arguments: object) -> dict[str, Any]:
    """The JSON of a comparison that must succeed."""
    ended = retino("compare", *arguments, "--json")
    assert ended.code == 0, ended.err

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in the JSON")

    document: dict[str, Any] = json.loads(ended.out, parse_constant=refuse)
    return document


def without_names(document: dict[str, Any]) -> dict[str, Any]:
    """What a comparison says, without who was compared: numbers, not names."""
    kept = {name: document[name] for name in ("n_images", "n_disagreements")}
    kept["runs"] = [{k: v for k, v in run.items() if k not in ("run_id", "name")} for run in document["runs"]]
    kept["pairs"] = [{k: v for k, v in pair.items() if k != "sentence"} for pair in document["pairs"]]
    return kept


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_the_verdict_is_a_sentence_with_the_numbers_in_it(three: Path, retino: Retino) -> None:
    ended = retino("compare", "poor", "good")
    assert ended.code == 0
    document = compared(retino, "poor", "good")
    (pair,), (sentence,) = document["pairs"], document["verdicts"]
    qwk = pair["differences"]["qwk"]
    gain = f"good is better than poor on QWK by {qwk['estimate']:.3f} [{qwk['low']:.3f}, {qwk['high']:.3f}]"
    assert sentence.startswith(gain)
    assert sentence == pair["sentence"]
    assert sentence in ended.out.replace("\n", " ")
    twins = compared(retino, "good", "twin")
    assert "the data cannot tell them apart" in twins["verdicts"][0]
    assert "is better than" not in twins["verdicts"][0]
    for difference in twins["pairs"][0]["differences"].values():
        assert difference["low"] <= difference["estimate"] <= difference["high"]


def test_files_runs_and_mixtures_say_the_same(three: Path, retino: Retino) -> None:
    of_runs, of_files, of_both = (
        compared(retino, *arguments) for arguments in (("poor", "good"), ("poor.csv", "good.csv"), ("poor.csv", "good"))
    )
    assert (of_runs["split"], of_files["split"], of_both["split"]) == ("test", "predictions", "test")
    assert without_names(of_runs) == without_names(of_files) == without_names(of_both)
    assert of_files["verdicts"][0] == of_runs["verdicts"][0].replace("poor", "poor.csv").replace("good", "good.csv")
    assert of_runs["differing_params"] == {"arch": ["poor", "good"]}
    assert of_files["differing_params"] == of_both["differing_params"] == {}
    assert "same parameters" not in retino("compare", "poor.csv", "good").out


def test_swapping_two_runs_flips_every_sign_and_nothing_else(three: Path, retino: Retino) -> None:
    forth, back = compared(retino, "poor", "good"), compared(retino, "good", "poor")
    one, other = forth["pairs"][0], back["pairs"][0]
    assert one["differences"].keys() == other["differences"].keys()
    for name, there in one["differences"].items():
        here = other["differences"][name]
        assert (there["estimate"], there["low"], there["high"]) == (-here["estimate"], -here["high"], -here["low"])
        assert there["p_value"] == here["p_value"]
    assert one["p_values"] == other["p_values"]
    assert one["mcnemar"]["only_a"] == other["mcnemar"]["only_b"]
    assert one["delong"]["difference"] == -other["delong"]["difference"]
    assert forth["verdicts"] == back["verdicts"]  # who is better does not depend on the order
    assert without_names(back)["runs"] == without_names(forth)["runs"][::-1]


def test_three_runs_are_adjusted_by_holm(three: Path, retino: Retino) -> None:
    document = compared(retino, "poor", "good", "twin")
    assert [(pair["a"], pair["b"]) for pair in document["pairs"]] == [(0, 1), (0, 2), (1, 2)]
    assert all(pair["holm_adjusted"] for pair in document["pairs"])
    assert all("Holm-adjusted p" in sentence for sentence in document["verdicts"])
    alone = [compared(retino, *pair)["pairs"][0] for pair in (("poor", "good"), ("poor", "twin"), ("good", "twin"))]
    assert not any(pair["holm_adjusted"] for pair in alone)
    for name in ("qwk", "accuracy", "referable_auc"):
        raw = np.array([pair["p_values"][name] for pair in alone])
        order = np.argsort(raw, kind="stable")
        stepped = np.minimum(np.maximum.accumulate(raw[order] * np.array([3, 2, 1])), 1)
        expected = np.empty(3)
        expected[order] = stepped
        assert [pair["p_values"][name] for pair in document["pairs"]] == pytest.approx(expected.tolist(), abs=1e-12)


def test_a_value_is_marked_better_only_where_the_data_can_tell(
    three: Path, retino: Retino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows = {}
    for pair in (("poor", "good"), ("good", "twin")):
        out = retino("compare", *pair).out
        rows[pair] = next(line for line in out.splitlines() if "quadratic weighted kappa" in line)
    assert "\x1b[1;32m" in rows["poor", "good"]
    assert "32m" not in rows["good", "twin"]
    assert ("*" in rows["poor", "good"], "*" in rows["good", "twin"]) == (True, False)


def test_the_stars_are_those_of_the_verdict_at_every_width(
    three: Path, retino: Retino, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("poor", "good", "twin")
    pairs = compared(retino, *names)["pairs"]
    assert not any(pair["p_values"]["qwk"] <= 0.05 for pair in pairs if {pair["a"], pair["b"]} == {1, 2})
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    for width in (44, 60, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        three_of_them = retino("compare", *names).out
        two = retino("compare", *names[:2]).out
        assert "38;" not in two
        for out, n, starred in ((three_of_them, 3, False), (two, 2, True)):
            plain = re.sub(r"\x1b\[[\d;]*m", "", out)
            table = plain[plain.index("images; *") : plain.index("Brier")]
            assert max(map(len, table.splitlines())) <= width
            row = next(line for line in table.splitlines() if "quadratic" in line)
            values = re.findall(r"\d\.\d{4}(?: \*)?", row)
            assert [value.endswith("*") for value in values] == [False, starred, False][:n]


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patients", [True, False])
def test_every_number_can_be_computed_again_from_the_predictions_files_alone(
    workplace: Path, retino: Retino, patients: bool, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "b", "c")
    for place, name in enumerate(names):
        store_run(name, make_predictions((0.2, 0.3, 0.9)[place], seed=place, patients=patients))
    document = compared(retino, *names)
    store = open_store()
    kept = json.loads(store.download(document["run_id"], "comparison/comparison.json").read_text())
    assert kept == document
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    for name in names:
        shutil.copy(store.download(store.find(name).run_id, "test/predictions.csv"), elsewhere / f"{name}.csv")
    # A store that knows nothing, and the files in another folder.
    shutil.copy(empty_database, elsewhere / "mlflow.db")
    monkeypatch.chdir(elsewhere)
    assert without_names(compared(retino, *(f"{name}.csv" for name in names))) == without_names(document)
    # ... and by other means.
    files = [read_predictions(elsewhere / f"{name}.csv") for name in names]
    for run, one in zip(document["runs"], files, strict=True):
        metrics, said = run["metrics"], one.probabilities.argmax(axis=1)
        assert metrics["accuracy"] == pytest.approx(accuracy_score(one.grade, said), abs=1e-12)
        assert metrics["qwk"] == pytest.approx(cohen_kappa_score(one.grade, said, weights="quadratic"), abs=1e-12)
        area = roc_auc_score(one.grade >= 2, one.probabilities[:, 2:].sum(axis=1))
        assert metrics["referable_auc"] == pytest.approx(area, abs=1e-12)
        np.testing.assert_array_equal(run["confusion_matrix"], confusion_matrix(one.grade, said, labels=range(5)))
        assert metrics.keys() == set(METRIC_NAMES)
    for pair in document["pairs"]:
        a, b = files[pair["a"]], files[pair["b"]]
        right = [one.probabilities.argmax(axis=1) == one.grade for one in (a, b)]
        only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        assert (pair["mcnemar"]["only_a"], pair["mcnemar"]["only_b"]) == (only_a, only_b)
        assert pair["mcnemar"]["p_value"] == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, abs=1e-12)
        assert (pair["mcnemar"]["patient_p_value"] is None) == (not patients)
        for name, difference in pair["differences"].items():
            values = [document["runs"][pair[side]]["metrics"][name] for side in ("a", "b")]
            assert difference["estimate"] == values[1] - values[0]


def test_the_interval_of_a_difference_is_that_of_a_plain_bootstrap_of_patients(three: Path, retino: Retino) -> None:
    """Another generator, another program: the ends agree within what 2,000 draws allow."""
    document = compared(retino, "poor", "good")
    a, b = (read_predictions(Path(f"{name}.csv")) for name in ("poor", "good"))
    rng = np.random.default_rng(11)
    draws = []
    for _ in range(2000):
        patients = rng.integers(0, N // 2, N // 2)
        rows = np.concatenate([2 * patients, 2 * patients + 1])
        draws.append(np.mean(b.predicted[rows] == b.grade[rows]) - np.mean(a.predicted[rows] == a.grade[rows]))
    low, high = np.quantile(draws, [0.025, 0.975])
    found = document["pairs"][0]["differences"]["accuracy"]
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.015)


def test_disagreements_are_listed_widest_first(three: Path, retino: Retino) -> None:
    document = compared(retino, "poor", "good", "twin")
    with open_store().download(document["run_id"], "comparison/disagreements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("poor", "good", "twin")
    files = [read_predictions(Path(f"{name}.csv")) for name in names]
    said = np.stack([one.predicted for one in files], axis=1)
    differ = np.flatnonzero(np.ptp(said, axis=1))
    assert document["n_disagreements"] == len(rows) == len(differ)
    assert {row["image_id"] for row in rows} == set(files[0].image_id[differ])
    where = {str(name): place for place, name in enumerate(files[0].image_id)}
    order = []
    for row in rows:
        place = where[row["image_id"]]
        assert int(row["grade"]) == files[0].grade[place]
        assert [int(row[name]) for name in names] == said[place].tolist()
        expected = [one.expected_grade[place] for one in files]
        assert [float(row[f"{name}, expected grade"]) for name in names] == pytest.approx(expected, abs=5e-5)
        order.append((-int(np.ptp(said[place])), -float(np.ptp(expected)), row["image_id"]))
    assert order == sorted(order)
    out = retino("compare", *names).out
    assert f"They differ on {len(rows)} of {N} images, most on {rows[0]['image_id']}" in out.replace("\n", " ")


def test_the_document_names_everything_that_is_stored(three: Path, retino: Retino) -> None:
    def names(document: object) -> set[str]:
        if isinstance(document, dict):
            return set(document) | set().union(*(names(value) for value in document.values()))
        return set().union(*(names(value) for value in document)) if isinstance(document, list) else set()

    write_predictions(make_predictions(0.5, seed=5, n=60), three / "val.csv")
    Path("val.csv").write_text(Path("val.csv").read_text().replace("image ", "other "))
    flags = ("--validation", "val.csv", "--sensitivity", 0.9, "--pair-eyes", "--json")
    judged = retino("eval", "--predictions", "good.csv", *flags)
    assert judged.code == 0, judged.err
    document = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    per_grade = {f"{kind}_{grade}" for kind in ("precision", "recall") for grade in range(5)}  # "precision_0 .. _4"
    parameters = {"arch"}
    stored = names(json.loads(judged.out)) | names(compared(retino, "poor", "good", "twin", "--group-by", "arch"))
    assert sorted(name for name in stored - per_grade - parameters if f"`{name}`" not in document) == []


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def seeds(workplace: Path) -> list[str]:
    """Five runs: arch small with the seeds 0, 1, 2, arch large with the seeds 0, 1."""
    names = []
    for arch, skill, seed in (
        ("small", 0.2, 0),
        ("small", 0.2, 1),
        ("large", 1, 0),
        ("small", 0.2, 2),
        ("large", 1, 1),
    ):
        names.append(f"{arch}{seed}")
        params = {"arch": arch, "seed": seed, "lr": 0.1}
        store_run(names[-1], make_predictions(skill, seed=10 * seed + len(arch)), params=params)
    return names


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("config", {"arch small": [0, 1, 3], "arch large": [2, 4]}),
        ("arch", {"arch small": [0, 1, 3], "arch large": [2, 4]}),
        ("seed", {"seed 0": [0, 2], "seed 1": [1, 4], "seed 2": [3]}),
        ("arch, lr", {"arch small, lr 0.1": [0, 1, 3], "arch large, lr 0.1": [2, 4]}),
        ("lr", {"lr 0.1": [0, 1, 2, 3, 4]}),
    ],
)
def test_groups_have_numpys_mean_and_deviation(
    seeds: list[str], retino: Retino, group_by: str, groups: dict[str, list[int]]
) -> None:
    document = compared(retino, *seeds, "--group-by", group_by)
    assert {group["label"]: group["members"] for group in document["groups"]} == groups
    for group in document["groups"]:
        for name in METRIC_NAMES:
            values = [document["runs"][place]["metrics"][name] for place in group["members"]]
            assert group["mean"][name] == pytest.approx(np.mean(values), abs=1e-12)
            expected = None if len(values) == 1 else pytest.approx(np.std(values, ddof=1), abs=1e-12)
            assert group["deviation"][name] == expected
    n_pairs = len(groups) * (len(groups) - 1) // 2 if len(groups) > 1 else 10  # one group alone: its runs
    assert len(document["pairs"]) == n_pairs


def test_groups_are_compared_by_their_means(seeds: list[str], retino: Retino) -> None:
    document = compared(retino, *seeds, "--group-by", "config")
    (pair,), (small, large) = document["pairs"], document["groups"]
    for name in ("qwk", "accuracy", "referable_auc"):
        assert pair["differences"][name]["estimate"] == pytest.approx(large["mean"][name] - small["mean"][name])
    assert document["verdicts"][0].startswith("arch large is better than arch small on QWK by")
    out = retino("compare", *seeds, "--group-by", "config").out
    assert "arch small (n = 3)" in out
    assert f"{small['mean']['qwk']:.4f} ± {small['deviation']['qwk']:.4f}" in out


def test_a_file_is_a_group_of_its_own(seeds: list[str], retino: Retino, workplace: Path) -> None:
    for name in ("theirs.csv", "others.csv"):
        write_predictions(make_predictions(0.5, seed=len(name) + 99), workplace / name)
    document = compared(retino, *seeds, "theirs.csv", "others.csv", "--group-by", "config")
    groups = {group["label"]: group["members"] for group in document["groups"]}
    assert groups == {"arch small": [0, 1, 3], "arch large": [2, 4], "theirs.csv": [5], "others.csv": [6]}


def test_unknown_parameters_are_refused_with_those_that_differ(seeds: list[str], retino: Retino) -> None:
    before = len(open_store().latest(100))
    for wrong in ("archh", "arch,colour", " , "):
        ended = retino("compare", *seeds, "--group-by", wrong)
        assert (ended.code, ended.out) == (2, "")
        assert "arch, seed" in ended.err
        assert "'config'" in ended.err
    assert len(open_store().latest(100)) == before


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_other_images_and_grades_are_refused_with_the_difference(three: Path, retino: Retino) -> None:
    rows = Path("good.csv").read_text().splitlines(keepends=True)
    Path("fewer.csv").write_text("".join(rows[:-3]))
    position = rows[0].split(",").index("grade")
    cells = rows[1].split(",")
    cells[position] = str((int(cells[position]) + 1) % 5)
    Path("regraded.csv").write_text("".join([rows[0], ",".join(cells), *rows[2:]]))
    before = len(open_store().latest(100))
    for other, texts in (
        ("fewer.csv", (f"{N} against {N - 3} images", "only in the first: image 117, image 118, image 119")),
        ("regraded.csv", ("disagree on the true grade of 1 images: image 000",)),
    ):
        for first in ("poor.csv", "poor"):
            ended = retino("compare", first, other)
            assert (ended.code, ended.out) == (2, "")
            for text in texts:
                assert text in " ".join(ended.err.split())
    assert len(open_store().latest(100)) == before


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("good.csv",), 2, "two runs or more"),
        (("good.csv", "./good.csv"), 2, "named twice"),
        (("good.csv", "nowhere.csv"), 1, "nowhere.csv"),
        (("good.csv", "goood"), 1, "goood"),
        (("good.csv", "poor.csv", "--group-by", "config"), 2, "no parameters to group by"),
    ],
)
def test_what_cannot_be_compared(three: Path, retino: Retino, arguments: tuple[str, ...], code: int, text: str) -> None:
    ended = retino("compare", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert text in " ".join(ended.err.split())


def test_what_one_file_lacks_is_na_with_the_reason(three: Path, retino: Retino) -> None:
    one = read_predictions(Path("good.csv"))
    lines = [f"{i},{g},{k}" for i, g, k in zip(one.image_id, one.grade, one.predicted, strict=True)]
    Path("grades.csv").write_text("\n".join(["image_id,grade,predicted", *lines]) + "\n")
    document = compared(retino, "poor", "grades.csv")
    run, pair = document["runs"][1], document["pairs"][0]
    assert run["metrics"]["referable_auc"] is None
    assert run["undefined"]["referable_auc"] == "these predictions hold grades only"
    assert pair["differences"]["referable_auc"] == {"undefined": "these predictions hold grades only"}
    assert pair["delong"] is None
    assert pair["differences"]["accuracy"]["estimate"] > 0
    assert "referable_auc" not in document["best"]  # one value alone is not the best of two
    out = retino("compare", "poor", "grades.csv").out
    assert "n/a for grades.csv: these predictions hold grades only." in out


# -- confusion ---------------------------------------------------------------------------------------------------------


def test_confusion_takes_files_and_runs(three: Path, retino: Retino) -> None:
    ended = retino("confusion", "good.csv", "poor", "--out", "pictures", "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert [run["name"] for run in document["runs"]] == ["good.csv", "poor"]
    for run, name in zip(document["runs"], ("good", "poor"), strict=True):
        one = read_predictions(Path(f"{name}.csv"))
        expected = confusion_matrix(one.grade, one.predicted, labels=range(5))
        np.testing.assert_array_equal(run["confusion_matrix"], expected)
    assert len(document["files"]) == 4
    assert all(Path(file).is_file() for file in document["files"])
    out = retino("confusion", "good.csv", "poor").out
    assert "poor, test" in out
    assert "good.csv, test" not in out  # a file does not say which split it is


def test_scores_have_no_confusion_matrix(three: Path, retino: Retino) -> None:
    Path("score.csv").write_text("image,gt,referable_score\na,0,0.1\nb,3,0.9\n")
    ended = retino("confusion", "score.csv")
    assert (ended.code, ended.out) == (2, "")
    assert "score.csv has no predicted grades: these predictions hold a score for referable DR only" in ended.err


@pytest.fixture(autouse=True)
def _few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for what is tested here, but for the test of the interval itself."""
    if "plain_bootstrap" in request.node.name:
        return
    from retino_cli.evaluation import compare as module

    original: Callable[..., Any] = module.resample
    monkeypatch.setattr(module, "resample", lambda judged, **kwargs: original(judged, **{**kwargs, "n_resamples": 400}))
