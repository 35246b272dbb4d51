"""``retino eval --predictions``: somebody else's predictions, of every kind, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Ended, Retino
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from retino_cli.evaluation.calibration import fit_cut_points, fit_temperature
from retino_cli.evaluation.foreign import read_foreign
from retino_cli.evaluation.metrics import METRIC_NAMES, summarise
from retino_cli.evaluation.operating_point import choose_threshold
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.tracking import open_store

PICTURES = ("confusion_matrix", "confusion_matrix_normalised", "precision_recall", "reliability", "roc")


def make_table(n: int, *, seed: int, pairs: bool = False) -> pd.DataFrame:
    """A table as others write it: file, five probabilities, truth; with ``pairs`` patient and eye."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 5)) - 0.5 * (np.arange(5) - truth[:, None]) ** 2
    table = pd.DataFrame(softmax(logits, axis=1), columns=[f"dr{k}" for k in range(5)])
    table.insert(0, "image", [f"s{seed}-{i}" for i in range(n)])
    table["gt"] = truth
    if pairs:
        table["patient"], table["eye"] = [f"s{seed}-p{i // 2}" for i in range(n)], ["L", "R"] * (n // 2)
    return table


@pytest.fixture
def files(workplace: Path) -> Path:
    """five.csv, five.parquet, own.csv (other column names), score.csv, grades.csv, constant.csv: the same 80 images."""
    table = make_table(80, seed=1)
    table.to_csv("five.csv", index=False)
    table.to_parquet("five.parquet")
    p = table[[f"dr{k}" for k in range(5)]].to_numpy()
    table.rename(columns={"image": "what", "gt": "wahr"} | {f"dr{k}": f"q{k}" for k in range(5)}).to_csv(
        "own.csv", index=False
    )
    known = table[["image", "gt"]]
    known.assign(risk=p[:, 2:].sum(axis=1)).to_csv("score.csv", index=False)
    known.assign(said=p.argmax(axis=1)).to_csv("grades.csv", index=False)
    known.assign(said=0).to_csv("constant.csv", index=False)
    make_table(60, seed=2).to_csv("other.csv", index=False)
    table[::2].to_csv("part.csv", index=False)
    return workplace


def judged(retino: Retino, *arguments: object) -> dict[str, Any]:
    """The JSON of an evaluation that must succeed."""
    ended = retino("eval", "--predictions", *arguments, "--json")
    assert ended.code == 0, ended.err

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in the JSON")

    document: dict[str, Any] = json.loads(ended.out, parse_constant=refuse)
    return document


def assert_refused(ended: Ended, code: int, *texts: str) -> None:
    """A message that holds ``texts``, a next step, nothing on stdout, and no run left behind."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    for text in texts:
        assert text in " ".join(ended.err.split())
    assert len([line for line in ended.err.splitlines() if line.strip()]) >= 2, f"no next step: {ended.err}"
    assert open_store().latest(10) == []


# -- what is computed --------------------------------------------------------------------------------------------------


def test_five_probabilities_in_any_form_give_scikit_learns_numbers(files: Path, retino: Retino) -> None:
    table = pd.read_csv("five.csv")
    p, truth = table[[f"dr{k}" for k in range(5)]].to_numpy(), table["gt"].to_numpy()
    one = judged(retino, "five.csv")
    metrics = one["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, p.argmax(axis=1)), abs=1e-12)
    rounded = np.floor(p @ np.arange(5) + 0.5).astype(int)
    for name, graded in (("qwk", p.argmax(axis=1)), ("qwk_rounded", rounded)):
        expected = cohen_kappa_score(truth, graded, weights="quadratic", labels=np.arange(5))
        assert metrics[name] == pytest.approx(expected, abs=1e-12)
    assert metrics["referable_auc"] == pytest.approx(roc_auc_score(truth >= 2, p[:, 2:].sum(axis=1)), abs=1e-12)
    assert (one["n_images"], one["undefined"], one["undefined_intervals"]) == (80, {}, {})
    for name, interval in one["intervals"].items():
        assert interval["low"] <= interval["estimate"] <= interval["high"], name
        assert interval["estimate"] == metrics[name]
    flags = ("--probability-columns", "q0,q1,q2,q3,q4", "--label-column", "wahr", "--id-column", "what")
    for arguments in (("five.parquet",), ("own.csv", *flags)):
        other = judged(retino, *arguments)
        assert other["metrics"] == metrics
        assert other["intervals"] == one["intervals"]


def test_a_score_gives_an_area_and_the_rest_is_null_with_the_reason(files: Path, retino: Retino) -> None:
    table = pd.read_csv("score.csv")
    one = judged(retino, "score.csv", "--score-column", "risk")
    metrics, undefined = one["metrics"], one["undefined"]
    assert metrics.keys() == set(METRIC_NAMES)
    assert metrics["referable_auc"] == pytest.approx(roc_auc_score(table["gt"] >= 2, table["risk"]), abs=1e-12)
    assert metrics["majority_accuracy"] == table["gt"].value_counts().max() / 80
    assert {name for name, value in metrics.items() if value is not None} == {"referable_auc", "majority_accuracy"}
    assert undefined == {name: undefined["qwk"] for name, value in metrics.items() if value is None}
    assert undefined["qwk"] == "these predictions hold a score for referable DR only"
    assert (one["confusion_matrix"], one["collapsed"]) == (None, None)
    shown = retino("eval", "--predictions", "score.csv", "--score-column", "risk").out
    row = next(line for line in shown.splitlines() if line.strip().startswith("accuracy"))
    assert row.strip().split(maxsplit=3)[1:] == ["n/a", "n/a", "these predictions hold a score for referable DR only"]


def test_grades_give_what_follows_from_a_confusion_matrix(files: Path, retino: Retino) -> None:
    whole, one = judged(retino, "five.csv"), judged(retino, "grades.csv", "--grade-column", "said")
    metrics, expected = one["metrics"], whole["metrics"]
    held = {name for name, value in metrics.items() if value is not None}
    assert {name: metrics[name] for name in held} == {name: expected[name] for name in held}
    lacking = {"qwk_rounded", "macro_auc", "referable_auc", "vision_threatening_auc"}
    lacking |= {"brier", "nll", "ece", "ece_equal_mass"}
    assert set(METRIC_NAMES) - held == lacking == set(one["undefined"])
    assert one["confusion_matrix"] == whole["confusion_matrix"]


def test_binary_labels_give_the_area_alone(files: Path, retino: Retino) -> None:
    table = pd.read_csv("score.csv")
    table["gt"] = (table["gt"] >= 2).astype(int)
    table.to_csv("binary.csv", index=False)
    one = judged(retino, "binary.csv", "--score-column", "risk")
    expected = roc_auc_score(table["gt"], table["risk"])
    assert one["metrics"]["referable_auc"] == pytest.approx(expected, abs=1e-12)
    assert "no grade" in one["undefined"]["accuracy"]
    assert retino("eval", "--predictions", "binary.csv", "--score-column", "risk").code == 0


def test_a_collapse_is_said_and_tagged(files: Path, retino: Retino) -> None:
    for flags in ((), ("--json",)):
        ended = retino("eval", "--predictions", "constant.csv", "--grade-column", "said", *flags)
        assert ended.code == 0
        assert "COLLAPSED: 100.0% of the predictions on constant are grade 0 (No DR)" in ended.err
    assert json.loads(ended.out)["collapsed"] == 0
    assert "-0.000" not in retino("eval", "--predictions", "constant.csv", "--grade-column", "said").out
    assert {record.tags["retino.collapsed"] for record in open_store().latest(5)} == {"grade 0"}
    assert "collapsed" in retino("runs").out


# -- what is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.figures
def test_everything_is_stored_and_can_be_opened(files: Path, retino: Retino) -> None:
    one = judged(retino, "five.csv", "--validation", "other.csv", "--sensitivity", 0.9)
    store = open_store()
    record = store.find(str(one["evaluation_run_id"]), kinds=("eval",))
    assert (record.status, record.tags["retino.data"], record.tags["retino.collapsed"]) == ("FINISHED", "five", "no")
    assert record.metrics["predictions/qwk"] == one["metrics"]["qwk"]
    folder = store.download(record.run_id, "predictions")
    assert json.loads((folder / "metrics.json").read_text()) == one
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "predictions.csv"} | {
        f"{name}.{suffix}" for name in PICTURES for suffix in ("png", "svg")
    }
    for name in PICTURES:
        with Image.open(folder / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 200
        assert "<svg" in (folder / f"{name}.svg").read_text()
    again = summarise(read_predictions(folder / "predictions.csv"))
    assert {name: again[name] for name in METRIC_NAMES} == one["metrics"]


@pytest.mark.parametrize(
    ("file", "flags"), [("score.csv", ("--score-column", "risk")), ("grades.csv", ("--grade-column", "said"))]
)
def test_other_kinds_are_stored_so_that_they_can_be_read_again(
    files: Path, retino: Retino, file: str, flags: tuple[str, ...]
) -> None:
    one = judged(retino, file, *flags)
    stored = open_store().download(str(one["evaluation_run_id"]), "predictions/predictions.csv")
    again = judged(retino, stored)
    assert again["metrics"] == one["metrics"]
    assert again["intervals"] == one["intervals"]
    compared = retino("compare", str(one["evaluation_run_id"])[:8], "five.csv", "--json")
    assert compared.code == 0, compared.err
    assert json.loads(compared.out)["runs"][0]["metrics"] == one["metrics"]


# -- validation --------------------------------------------------------------------------------------------------------


def test_what_is_fitted_comes_from_the_validation_file_alone(files: Path, retino: Retino) -> None:
    one = judged(retino, "five.csv", "--validation", "other.csv", "--specificity", 0.8, "--prevalence", 0.1)
    validation, mine = read_foreign(Path("other.csv")), read_foreign(Path("five.csv"))
    assert isinstance(validation, Predictions)
    fitted = one["fitted"]
    assert fitted["cut_points"] == list(getattr(fit_cut_points(validation), "values", ()))
    assert fitted["temperature"] == fit_temperature(validation).value
    graded = np.searchsorted(fitted["cut_points"], mine.expected_grade, side="right")
    expected = cohen_kappa_score(mine.grade, graded, weights="quadratic", labels=np.arange(5))
    assert one["refined"]["qwk_cut_points"] == pytest.approx(expected, abs=1e-12)
    point = one["operating_point"]
    threshold = point["chosen_on_validation"]["threshold"]
    assert threshold == choose_threshold(validation, specificity=0.8).threshold == point["table"]["threshold"]
    called, positive = mine.referable_score >= threshold, mine.grade >= 2
    s, c = called[positive].mean(), (~called)[~positive].mean()
    values = point["table"]["values"]
    assert (values["sensitivity"], values["specificity"]) == pytest.approx((s, c), abs=1e-12)
    assert values["ppv"] == pytest.approx(0.1 * s / (0.1 * s + 0.9 * (1 - c)), abs=1e-12)
    assert values["npv"] == pytest.approx(0.9 * c / (0.9 * c + 0.1 * (1 - s)), abs=1e-12)
    assert values["referral_rate"] == pytest.approx(0.1 * s + 0.9 * (1 - c), abs=1e-12)
    assert point["table"]["prevalence"] == 0.1


def test_the_three_readings_of_qwk_are_named(files: Path, retino: Retino) -> None:
    out = retino("eval", "--predictions", "five.csv", "--validation", "other.csv", "--sensitivity", 0.9).out
    for text in ("by the most probable grade", "QWK, rounded expected grade", "QWK, fitted cut points"):
        assert text in out
    assert "fitted on 60 validation images" in out
    assert "The threshold reaches sensitivity 0.9 on 60 validation images" in out
    assert "0 ungradable or unreadable images are left out." in out
    alone = retino("eval", "--predictions", "five.csv").out
    assert "fitted cut points" not in alone
    assert "threshold" not in alone


def test_a_score_has_an_operating_point_too(files: Path, retino: Retino) -> None:
    table = make_table(40, seed=3)
    table["risk"] = table[["dr2", "dr3", "dr4"]].sum(axis=1)
    table[["image", "gt", "risk"]].to_csv("other-score.csv", index=False)
    flags = ("--score-column", "risk", "--validation", "other-score.csv", "--sensitivity", 0.9)
    one = judged(retino, "score.csv", *flags)
    threshold = one["operating_point"]["table"]["threshold"]
    positive = table["gt"] >= 2
    assert (table["risk"][positive] >= threshold).mean() >= 0.9
    higher = table["risk"][positive & (table["risk"] > threshold)]
    assert len(higher) / positive.sum() < 0.9  # no higher threshold does


def test_two_eyes_are_blended_with_the_weight_of_validation(files: Path, retino: Retino) -> None:
    make_table(60, seed=4, pairs=True).to_csv("eyes.csv", index=False)
    make_table(80, seed=5, pairs=True).to_csv("eyes-val.csv", index=False)
    alone = judged(retino, "eyes.csv", "--pair-eyes")
    assert (alone["two_eyes"]["weight"], alone["two_eyes"]["weight_fitted"]) == (0.5, False)
    one = judged(retino, "eyes.csv", "--pair-eyes", "--validation", "eyes-val.csv")
    eyes = one["two_eyes"]
    assert (eyes["n_patients"], eyes["weight_fitted"]) == (30, True)
    assert eyes["weight"] == one["fitted"]["eye_weight"]
    table = pd.read_csv("eyes.csv")
    p = table[[f"dr{k}" for k in range(5)]].to_numpy()
    p = p / p.sum(axis=1, keepdims=True)
    other = p.reshape(30, 2, 5)[:, ::-1].reshape(60, 5)
    blended = (1 - eyes["weight"]) * p + eyes["weight"] * other
    assert eyes["images"]["accuracy"] == pytest.approx(accuracy_score(table["gt"], blended.argmax(axis=1)))
    worst, said = (values.reshape(30, 2).max(axis=1) for values in (table["gt"].to_numpy(), blended.argmax(axis=1)))
    assert eyes["patients"]["accuracy"] == pytest.approx(accuracy_score(worst, said))
    assert eyes["patients"]["brier"] is None
    assert "only those of two eyes" in eyes["undefined"]["patients"]["brier"]
    out = retino("eval", "--predictions", "eyes.csv", "--pair-eyes").out
    assert "one half: none was fitted on validation" in out
    assert "n/a by patient: a patient has no probabilities" in out


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("--sensitivity", 0.9), ("chosen on validation", "--validation FILE")),
        (("--specificity", 0.9), ("chosen on validation", "--validation FILE")),
        (("--validation", "five.csv"), ("five.csv", "the same images")),
        (("--validation", "five.parquet", "--sensitivity", 0.9), ("the same images",)),
        (("--validation", "part.csv", "--sensitivity", 0.9), ("the same images",)),
        (("--validation", "other.csv", "--sensitivity", 0.9, "--specificity", 0.9), ("--specificity", "one of them")),
        (("--validation", "other.csv", "--sensitivity", 1.5), ("1.5", "out of range")),
        (("--validation", "other.csv", "--sensitivity", 0), ("out of range",)),
        (("--prevalence", 0.1), ("--prevalence", "--sensitivity or --specificity")),
        (("--validation", "other.csv", "--sensitivity", 0.9, "--prevalence", 2), ("--prevalence 2",)),
        (("--validation", "other.csv", "--sensitivity", 0.9, "--ungradable", "refer"), ("--ungradable refer",)),
        (("--ungradable", "perhaps"), ("perhaps", "exclude, refer")),
        (("--split", "val"), ("--split", "a run")),
        (("--data", "folder"), ("--data", "a run")),
        (("--format", "idrid"), ("--format", "a run")),
        (("--skip-unreadable",), ("--skip-unreadable", "a run")),
    ],
)
def test_wrong_combinations_end_with_2_and_the_next_step(
    files: Path, retino: Retino, arguments: tuple[object, ...], texts: tuple[str, ...]
) -> None:
    assert_refused(retino("eval", "--predictions", "five.csv", *arguments), 2, *texts)


def test_a_run_and_a_file_or_neither(files: Path, retino: Retino) -> None:
    assert_refused(retino("eval"), 2, "Nothing was given", "retino eval --predictions FILE")
    assert_refused(retino("eval", "latest", "--predictions", "five.csv"), 2, "Both a run and --predictions")
    assert_refused(retino("eval", "latest", "--label-column", "gt"), 2, "--label-column belongs to --predictions")
    assert_refused(retino("eval", "latest", "--validation", "other.csv"), 2, "--validation belongs to --predictions")


@pytest.mark.parametrize(
    ("file", "flags", "texts"),
    [
        ("nowhere.csv", (), ("nowhere.csv", "No such file")),
        ("five.csv", ("--label-column", "nothing"), ("five.csv", "'nothing'", "'dr0'", "'gt'")),
        ("five.csv", ("--probability-columns", "dr0,dr1"), ("five.csv", "2 probability columns", "not 5")),
        ("grades.csv", (), ("grades.csv", "'said'", "--grade-column")),
        ("own.csv", (), ("own.csv", "true grades", "'wahr'", "--label-column")),
        ("broken.csv", (), ("broken.csv, line 4", "gt", "'7'")),
        ("sums.csv", (), ("sums.csv, line 3", "sum to")),
        ("twice.csv", (), ("twice.csv, line 82", "more than once")),
        ("five.csv", ("--pair-eyes",), ("no image has the other eye", "--pair-eyes")),
        ("grades.csv", ("--grade-column", "said", "--pair-eyes"), ("hold grades only", "--pair-eyes")),
    ],
)
def test_errors_name_file_line_and_columns(
    files: Path, retino: Retino, file: str, flags: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    table = pd.read_csv("five.csv")
    table.assign(gt=table["gt"].mask(table.index == 2, 7)).to_csv("broken.csv", index=False)
    table.assign(dr0=table["dr0"].mask(table.index == 1, 0.999)).to_csv("sums.csv", index=False)
    pd.concat([table, table[:1]]).to_csv("twice.csv", index=False)
    ended = retino("eval", "--predictions", file, *flags)
    assert ended.code == 1, ended.err
    for text in texts:
        assert text in " ".join(ended.err.split())
    assert open_store().latest(10) == []


# -- real predictions --------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_published_predictions_on_messidor_2(real_data: Path, workplace: Path, retino: Retino) -> None:
    file = real_data / "golden" / "messidor2_resnext50.csv"
    one = judged(retino, file)
    expected = {"qwk": 0.7976, "accuracy": 0.7265, "referable_auc": 0.9484, "qwk_rounded": 0.8149}
    metrics = one["metrics"]
    assert {name: round(metrics[name], 4) for name in expected} == expected
    assert one["n_images"] == 1744
    out = retino("eval", "--predictions", file).out
    for value in expected.values():
        assert f" {value:.4f} " in out
