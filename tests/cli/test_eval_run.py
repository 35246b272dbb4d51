"""``retino eval RUN``: operating points, fitted values and both eyes, each chosen on validation alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Retino
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from retino_cli.config import TrainConfig
from retino_cli.evaluation.fitted import fit
from retino_cli.evaluation.operating_point import choose_threshold
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.tracking import open_store
from retino_cli.training.train import train

CPU = ("--device", "cpu")
Quick = Callable[..., TrainConfig]


def judged(retino: Retino, *arguments: object) -> dict[str, Any]:
    """The JSON of an evaluation that must succeed."""
    ended = retino("eval", *arguments, *CPU, "--json")
    assert ended.code == 0, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    return document


def stored(name: str, split: str) -> Predictions:
    """The predictions that a training has stored."""
    store = open_store()
    return read_predictions(store.download(store.find(name).run_id, f"{split}/predictions.csv"))


def calibration(name: str) -> dict[str, Any]:
    """What the checkpoint of a training holds as fitted."""
    store = open_store()
    return load_checkpoint(store.download(store.find(name).run_id, "checkpoint/best"))[1].calibration


# -- operating point ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["sensitivity", "specificity"])
def test_the_threshold_is_the_one_that_the_stored_validation_predictions_give(
    trained_place: Path, retino: Retino, criterion: str
) -> None:
    one = judged(retino, "first", f"--{criterion}", 0.8, "--prevalence", 0.1)
    validation, test = stored("first", "val"), stored("first", "test")
    point, table = one["operating_point"]["chosen_on_validation"], one["operating_point"]["table"]
    assert point == asdict(choose_threshold(validation, **{criterion: 0.8}))
    # By hand: the highest (lowest) of the scores that still reaches it.
    positive, score = validation.grade >= 2, validation.probabilities[:, 2:].sum(axis=1)
    if criterion == "sensitivity":
        expected = max(s for s in score if (score[positive] >= s).mean() >= 0.8)
    else:
        reaching = [s for s in score if (score[~positive] < s).mean() >= 0.8]
        expected = min(reaching) if reaching else np.nextafter(score.max(), 2)
    assert point["threshold"] == table["threshold"] == expected
    called, referable = test.referable_score >= expected, test.grade >= 2
    s, c = called[referable].mean(), (~called)[~referable].mean()
    assert (table["values"]["sensitivity"], table["values"]["specificity"]) == pytest.approx((s, c), abs=1e-12)
    assert table["values"]["referral_rate"] == pytest.approx(0.1 * s + 0.9 * (1 - c), abs=1e-12)
    assert (table["prevalence"], table["assumed_prevalence"], table["policy"]) == (0.1, True, "exclude")
    for name, value in table["values"].items():
        assert (value is None) == (name in table["undefined"])
    document = open_store().download(one["evaluation_run_id"], "test/metrics.json")
    assert json.loads(document.read_text())["operating_point"] == one["operating_point"]
    record = open_store().find(one["evaluation_run_id"], kinds=("eval",))
    assert record.metrics["test/operating_threshold"] == expected
    assert record.metrics["test/operating_sensitivity"] == s


def test_unreadable_images_are_left_out_or_counted_as_referred(
    trained_place: Path, retino: Retino, synthetic_data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(synthetic_data, tmp_path / "broken"))
    lost = sorted(str(name) for name in stored("first", "test").image_id)[:3]
    for path in [path for path in folder.rglob("*.jp*g") if path.stem in lost]:
        path.write_bytes(b"no picture")
    flags = ("first", "--data", folder, "--skip-unreadable", "--sensitivity", 0.8, "--prevalence", 0.2)
    left_out = judged(retino, *flags)["operating_point"]["table"]
    referred = judged(retino, *flags, "--ungradable", "refer")["operating_point"]["table"]
    assert (left_out["policy"], left_out["ungradable"]) == ("exclude", 3)
    assert (referred["policy"], referred["ungradable"]) == ("refer", 3)
    u, (s, c) = 3 / 12, (left_out["values"][name] for name in ("sensitivity", "specificity"))
    assert referred["values"]["sensitivity"] == pytest.approx((1 - u) * s + u, abs=1e-12)
    assert referred["values"]["specificity"] == pytest.approx((1 - u) * c, abs=1e-12)
    out = retino("eval", *flags, "--ungradable", "refer", *CPU).out
    assert "3 ungradable or unreadable images are counted as referred." in out
    assert "prevalence 20.0% (stated)" in out


def test_images_marked_as_ungradable_are_counted(trained_place: Path, retino: Retino, tmp_path: Path) -> None:
    rows = ["image_id,adjudicated_dr_grade,adjudicated_gradable"]
    for place, (grade, gradable) in enumerate([(0, 1), (2, 1), ("", 0)] * 2 + [(0, 1), (2, 1)] * 6):
        pixels = np.random.default_rng(place).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"im{place}.png")
        rows.append(f"im{place}.png,{grade},{gradable}")
    (tmp_path / "messidor_data.csv").write_text("\n".join(rows) + "\n")
    flags = ("first", "--data", tmp_path, "--split", "all", "--sensitivity", 0.8)
    one = judged(retino, *flags, "--ungradable", "refer")
    assert (one["n_images"], one["operating_point"]["table"]["ungradable"]) == (16, 2)
    # Validation was cut from the official split; nobody can say which of the two are in it.
    part = retino("eval", "first", "--data", tmp_path, "--split", "train", "--sensitivity", 0.8, *CPU)
    assert "2 ungradable images belong to no split of this cut: they are not counted." in part.err
    assert "0 ungradable or unreadable images are left out." in part.out


def test_a_threshold_shown_on_its_own_validation_images_is_warned_of(trained_place: Path, retino: Retino) -> None:
    ended = retino("eval", "first", "--split", "val", "--sensitivity", 0.8, *CPU)
    assert "The threshold was chosen on these very images" in ended.err
    assert "these very images" not in retino("eval", "first", "--sensitivity", 0.8, *CPU).err


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (("--sensitivity", 0.9, "--specificity", 0.9), ("--sensitivity and --specificity", "one of them")),
        (("--sensitivity", 1.01), ("1.01", "out of range")),
        (("--specificity", -0.1), ("-0.1", "out of range")),
        (("--prevalence", 0.1), ("--prevalence", "--sensitivity or --specificity")),
        (("--ungradable", "refer"), ("--ungradable", "--sensitivity or --specificity")),
        (("--sensitivity", 0.9, "--ungradable", "drop"), ("drop", "exclude, refer")),
        (("--sensitivity", 0.9, "--prevalence", 1.5), ("--prevalence 1.5",)),
        (("--score-column", "s"), ("--score-column belongs to --predictions",)),
    ],
)
def test_wrong_combinations_end_with_2_before_anything_runs(
    trained_place: Path, retino: Retino, flags: tuple[object, ...], texts: tuple[str, ...]
) -> None:
    before = len(open_store().latest(1000))
    ended = retino("eval", "first", *flags, *CPU)
    assert (ended.code, ended.out) == (2, "")
    for text in texts:
        assert text in " ".join(ended.err.split())
    assert len(open_store().latest(1000)) == before


def test_without_validation_there_is_no_threshold(workplace: Path, retino: Retino, quick: Quick) -> None:
    train(quick(val_fraction=0.0, run_name="all-in"))
    ended = retino("eval", "all-in", "--sensitivity", 0.9, *CPU)
    assert ended.code == 1
    assert "all-in was trained without" in ended.err
    assert "--val-fraction" in ended.err
    assert calibration("all-in") == {}
    assert "fitted" not in judged(retino, "all-in")


# -- what is fitted ----------------------------------------------------------------------------------------------------


def test_the_three_readings_of_qwk_are_named_and_right(trained_place: Path, retino: Retino) -> None:
    one, test = judged(retino, "first"), stored("first", "test")
    cuts = one["fitted"]["cut_points"]
    readings = {
        "qwk": test.probabilities.argmax(axis=1),
        "qwk_rounded": np.floor(test.expected_grade + 0.5),
        "qwk_cut_points": np.searchsorted(cuts, test.expected_grade, side="right"),
    }
    for name, graded in readings.items():
        expected = cohen_kappa_score(test.grade, graded.astype(int), weights="quadratic", labels=np.arange(5))
        assert (one["metrics"] | one["refined"])[name] == pytest.approx(expected, abs=1e-12), name
    out = retino("eval", "first", *CPU).out
    for text in ("by the most probable grade", "QWK, rounded expected grade", "QWK, fitted cut points"):
        assert text in out
    n_val = len(stored("first", "val"))
    assert f"{', '.join(f'{cut:.2f}' for cut in cuts)}, fitted on {n_val} validation images" in " ".join(out.split())


def test_the_checkpoint_holds_what_validation_gave(trained_place: Path, retino: Retino) -> None:
    held = calibration("first")
    assert held == fit(stored("first", "val")).to_dict() == judged(retino, "first")["fitted"]
    assert held["n_images"] == len(stored("first", "val"))
    assert sorted(held["cut_points"]) == held["cut_points"]
    assert held["eye_weight"] is not None


def test_on_the_images_that_it_was_fitted_or_trained_on_nothing_fitted_is_shown(
    trained_place: Path, retino: Retino
) -> None:
    for split in ("val", "train", "all"):
        one = judged(retino, "first", "--split", split)
        assert "fitted" not in one
        assert "refined" not in one
    assert "fitted" not in retino("eval", "first", "--split", "val", *CPU).out


def test_nothing_that_is_chosen_depends_on_test(
    workplace: Path, retino: Retino, quick: Quick, synthetic_data: Path
) -> None:
    """Poison: other grades and pictures in test. Weights, fitted values and threshold stay as they are."""
    clean, poisoned = (Path(shutil.copytree(synthetic_data, workplace / name)) for name in ("clean", "poisoned"))
    labels = poisoned / "retinopathy_solution.csv"
    header, *rows = labels.read_text().splitlines()
    place = header.split(",").index("level")
    changed = []
    for row in rows:
        cells = row.split(",")
        cells[place] = str(4 - int(cells[place]))
        changed.append(",".join(cells))
    labels.write_text("\n".join([header, *changed]) + "\n")
    for path in sorted((poisoned / "test").glob("*.jp*g")):
        with Image.open(path) as picture:
            turned = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        turned.save(path)
    for folder in (clean, poisoned):
        train(quick(data=folder, run_name=folder.name, epochs=2))
    store = open_store()
    models = [
        load_checkpoint(store.download(store.find(name).run_id, "checkpoint/best")) for name in ("clean", "poisoned")
    ]
    assert models[0][1].epoch == models[1][1].epoch
    for (name, one), other in zip(models[0][0].state_dict().items(), models[1][0].state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert models[0][1].calibration == models[1][1].calibration
    results = [judged(retino, name, "--sensitivity", 0.8) for name in ("clean", "poisoned")]
    assert results[0]["metrics"] != results[1]["metrics"]  # the poison was there
    assert results[0]["fitted"] == results[1]["fitted"]
    chosen = [one["operating_point"]["chosen_on_validation"] for one in results]
    assert chosen[0] == chosen[1]


# -- two eyes ----------------------------------------------------------------------------------------------------------


def test_both_eyes_are_blended_with_the_weight_of_the_checkpoint(trained_place: Path, retino: Retino) -> None:
    one, test = judged(retino, "first", "--pair-eyes"), stored("first", "test")
    eyes = one["two_eyes"]
    assert (eyes["weight"], eyes["weight_fitted"]) == (calibration("first")["eye_weight"], True)
    assert eyes["n_patients"] == len(set(test.patient_id)) == 6
    order = np.lexsort((test.eye, test.patient_id))  # left, right, left, right, ...
    p, grade = test.probabilities[order], test.grade[order]
    other = p.reshape(-1, 2, 5)[:, ::-1].reshape(-1, 5)
    blended = (1 - eyes["weight"]) * p + eyes["weight"] * other
    assert eyes["images"]["accuracy"] == pytest.approx((blended.argmax(axis=1) == grade).mean())
    worst, said = (values.reshape(-1, 2).max(axis=1) for values in (grade, blended.argmax(axis=1)))
    assert eyes["patients"]["accuracy"] == pytest.approx((worst == said).mean())
    assert "fitted on validation); 6 patients" in retino("eval", "first", "--pair-eyes", *CPU).out
    on_val = judged(retino, "first", "--split", "val", "--pair-eyes")["two_eyes"]
    assert (on_val["weight"], on_val["weight_fitted"]) == (0.5, False)


def test_images_without_patients_have_no_pairs(trained_place: Path, retino: Retino, tmp_path: Path) -> None:
    for grade in range(5):
        (tmp_path / "d" / "test" / str(grade)).mkdir(parents=True)
        pixels = np.random.default_rng(grade).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "d" / "test" / str(grade) / f"x{grade}.png")
    before = len(open_store().latest(1000))
    ended = retino("eval", "first", "--data", tmp_path / "d", "--split", "all", "--pair-eyes", *CPU)
    assert ended.code == 1
    assert "no image has the other eye" in ended.err
    assert len(open_store().latest(1000)) == before
