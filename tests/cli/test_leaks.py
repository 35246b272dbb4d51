"""What leaks is said by ``retino data inspect``, by ``retino train`` and in the tags; ``--split patient`` mends it, and
``--split likeness`` most of it where no patients are named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Retino
from look_alikes import write_arrays

from retino_cli.data.manifest import load_manifest
from retino_cli.evaluation.predictions import read_predictions
from retino_cli.tracking import open_store

Flags = tuple[object, ...]
SENTENCE = "12 patients are in both train and test: 12 images of test (100.0%) have the same patient in train"


def write_eyepacs(source: Path, folder: Path, in_test: Callable[[str], bool]) -> Path:
    """The photographs of ``source`` in an EyePACS folder, cut into train and test by name."""
    rows: dict[str, list[str]] = {"train": [], "test": []}
    table = load_manifest(source, val_fraction=0).table.iloc[:24]  # 12 patients
    for name, path, grade in zip(table["image_id"], table["path"], table["grade"], strict=True):
        split = "test" if in_test(name) else "train"
        (folder / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / split)
        rows[split].append(f"{name},{grade}" + (",Private" if split == "test" else ""))
    (folder / "trainLabels.csv").write_text("\n".join(["image,level", *rows["train"]]) + "\n")
    (folder / "retinopathy_solution.csv").write_text("\n".join(["image,level,Usage", *rows["test"]]) + "\n")
    return folder


@pytest.fixture
def leaking(workplace: Path, synthetic_data: Path) -> Path:
    """Left eyes in train, right eyes in test: every patient is in both."""
    return write_eyepacs(synthetic_data, workplace / "leaking", lambda name: name.endswith("right"))


@pytest.fixture
def clean(workplace: Path, synthetic_data: Path) -> Path:
    """The same photographs, whole patients in test."""
    names = sorted(load_manifest(synthetic_data, val_fraction=0).table["patient_id"].iloc[:24].unique())
    return write_eyepacs(synthetic_data, workplace / "clean", lambda name: name.rpartition("_")[0] in names[:4])


def inspected(retino: Retino, *arguments: object, code: int = 0) -> dict[str, Any]:
    """The JSON of an inspection that ends with ``code``."""
    ended = retino("data", "inspect", *arguments, "--json")
    assert ended.code == code, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    return document


# -- inspect -----------------------------------------------------------------------------------------------------------


def test_strict_ends_with_1_where_a_split_leaks_and_only_there(leaking: Path, clean: Path, retino: Retino) -> None:
    audit = inspected(retino, leaking, "--strict", code=1)["audit"]
    assert audit["leaks"] == [SENTENCE]
    assert audit["patient_leaks"] == [{"first": "train", "second": "test", "patients": 12, "images": 12, "share": 1.0}]
    assert inspected(retino, leaking)["audit"] == audit  # said all the same
    assert inspected(retino, clean, "--strict")["audit"]["leaks"] == []
    shown = retino("data", "inspect", leaking, "--strict")
    assert shown.code == 1
    assert f"LEAK: {SENTENCE}." in shown.out
    assert "retino train --split patient" in shown.out
    assert "No leak between the splits was found." in retino("data", "inspect", clean).out
    mended = inspected(retino, leaking, "--split", "patient", "--strict")
    assert mended["audit"]["patient_leaks"] == []


def test_identical_pictures_across_splits_are_a_leak_too(clean: Path, retino: Retino) -> None:
    first, other = (sorted((clean / split).iterdir())[0] for split in ("train", "test"))
    shutil.copy(first, other)
    inspected(retino, clean, "--strict", "--quick")  # not to be seen without a look
    audit = inspected(retino, clean, "--strict", "--leaks-to", "leaks.csv", code=1)["audit"]
    (group,) = audit["pictures"]["identical"]
    assert group["image_ids"] == [first.stem, other.stem]
    assert (group["splits"], group["crosses_splits"]) == (["train", "test"], True)
    assert "the same picture is in several splits" in audit["leaks"][0]
    with Path("leaks.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    reason = "identical picture"
    assert rows == [(first.stem, "train", "test", reason), (other.stem, "test", "train", reason)]


def test_quick_looks_at_no_picture(leaking: Path, retino: Retino) -> None:
    for path in sorted(leaking.rglob("*.jp*g"))[1:]:
        path.write_bytes(b"no picture")
    audit = inspected(retino, leaking, "--quick", "--strict", code=1)["audit"]
    assert (audit["pictures"], audit["leaks"]) == (None, [SENTENCE])
    assert len(inspected(retino, leaking)["audit"]["pictures"]["unreadable"]) == 23


def test_unreadable_pictures_are_named(clean: Path, retino: Retino) -> None:
    spoiled = sorted((clean / "test").iterdir())[0]
    spoiled.write_bytes(b"no picture")
    assert inspected(retino, clean)["audit"]["pictures"]["unreadable"] == [spoiled.stem]
    assert f"1 unreadable: {spoiled.stem}" in retino("data", "inspect", clean).out


def test_leaks_are_written_to_a_file(leaking: Path, retino: Retino) -> None:
    inspected(retino, leaking, "--quick", "--leaks-to", "leaks.csv")
    with Path("leaks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == sorted(path.stem for path in (leaking / "test").iterdir())
    assert {(row["split"], row["leaks_from"], row["reason"]) for row in rows} == {("test", "train", "patient")}
    ended = retino("data", "inspect", leaking, "--quick", "--leaks-to", "nowhere/leaks.csv")
    assert (ended.code, ended.out) == (1, "")
    assert "nowhere/leaks.csv: cannot be written" in ended.err


def test_the_baselines_that_read_no_pixel_are_there(leaking: Path, retino: Retino) -> None:
    table = load_manifest(leaking, val_fraction=0).table.pivot(index="patient_id", columns="eye", values="grade")
    test = inspected(retino, leaking, "--quick")["audit"]["baselines"][-1]
    assert (test["split"], test["images"], test["found"]) == ("test", 12, 12)
    assert test["fellow_eye_accuracy"] == pytest.approx((table["left"] == table["right"]).mean())
    assert test["majority_accuracy"] == pytest.approx(table["right"].value_counts().max() / 12)


# -- train -------------------------------------------------------------------------------------------------------------


def with_data(flags: Flags, data: object) -> Flags:
    """``flags`` with another ``--data``."""
    changed = list(flags)
    changed[changed.index("--data") + 1] = data
    return tuple(changed)


def test_a_training_on_a_leaking_split_says_so_in_red_and_in_the_tags(
    leaking: Path, retino: Retino, quick_flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = retino("train", *with_data(quick_flags, leaking), "--quiet")
    assert ended.code == 0, ended.err
    assert f"\x1b[1;31mLEAK: {SENTENCE}." in ended.err
    assert f"retino data inspect {leaking}" in ended.err.replace("\x1b[0m", "")
    assert open_store().find("latest").tags["retino.leaks"] == SENTENCE


def test_split_by_patient_there_is_no_leak_and_eval_uses_the_same_split(
    leaking: Path, retino: Retino, quick_flags: Flags
) -> None:
    flags = (*with_data(quick_flags, leaking), "--split", "patient", "--run-name", "mended", "--json")
    ended = retino("train", *flags)
    assert ended.code == 0, ended.err
    assert "LEAK" not in ended.err
    trained = json.loads(ended.out)
    store = open_store()
    record = store.find("mended")
    assert record.tags["retino.leaks"] == "none found"
    assert record.params["split"] == "patient"
    splits = {
        split: read_predictions(store.download(record.run_id, f"{split}/predictions.csv")) for split in ("val", "test")
    }
    assert not set(splits["val"].patient_id) & set(splits["test"].patient_id)
    assert not all(str(name).endswith("right") for name in splits["test"].image_id)  # not the official one
    moved = shutil.copytree(leaking, leaking.parent / "moved")
    for split, one in splits.items():
        for place in ((), ("--data", moved)):
            again = retino("eval", "mended", "--split", split, *place, "--device", "cpu", "--json")
            assert "leak" not in again.err.lower()
            judged = json.loads(again.out)
            assert judged["metrics"] == trained["evaluations"][split]["metrics"]
            file = store.download(judged["evaluation_run_id"], f"{split}/predictions.csv")
            assert set(read_predictions(file).image_id) == set(one.image_id)


def test_a_training_sees_the_same_picture_in_two_splits(clean: Path, retino: Retino, quick_flags: Flags) -> None:
    first, other = (sorted((clean / split).iterdir())[0] for split in ("train", "test"))
    shutil.copy(first, other)
    ended = retino("train", *with_data(quick_flags, clean))
    assert ended.code == 0, ended.err
    assert "LEAK: the same picture is in several splits" in ended.err
    tag = open_store().find("latest").tags["retino.leaks"]
    assert first.stem in tag
    assert other.stem in tag


def test_a_training_can_leave_shared_pictures_out(clean: Path, retino: Retino, quick_flags: Flags) -> None:
    """Two copies of one test picture, one in train's part and one in validation's: both go, test stays whole."""
    table = load_manifest(clean, seed=0).table
    train, val, test = (table[table["split"] == split] for split in ("train", "val", "test"))
    for part in (train, val):
        shutil.copy(test["path"].iloc[0], part["path"].iloc[0])
    assert "retino train --duplicates drop" in retino("data", "inspect", clean).out
    ended = retino("train", *with_data(quick_flags, clean), "--duplicates", "drop", "--run-name", "mended")
    assert ended.code == 0, ended.err
    assert "LEAK" not in ended.err
    flat = " ".join(ended.err.split())
    for part, split in ((train, "train"), (val, "val")):
        name = part["image_id"].iloc[0]
        assert f"{name} is left out of {split}: it is the same picture as {test['image_id'].iloc[0]} (test)." in flat
    assert f"{len(train) - 1} training images" in flat
    store = open_store()
    record = store.find("mended")
    assert record.params["duplicates"] == "drop"
    assert record.tags["retino.leaky"] == "no"
    for split, part, missing in (("val", val, 1), ("test", test, 0)):
        judged = read_predictions(store.download(record.run_id, f"{split}/predictions.csv"))
        assert len(judged.image_id) == len(part) - missing
    inputs = store._connection.client.get_run(record.run_id).inputs.dataset_inputs
    counted = {one.tags[0].value: json.loads(one.dataset.profile)["images"] for one in inputs}
    assert counted == {"training": len(train) - 1, "validation": len(val) - 1, "testing": len(test)}
    again = json.loads(retino("eval", "mended", "--device", "cpu", "--json").out)
    assert again["n_images"] == len(test)


def test_a_split_by_patient_needs_patients(workplace: Path, retino: Retino, synthetic_data: Path) -> None:
    for grade, path in enumerate(load_manifest(synthetic_data).table["path"].iloc[:5]):
        (workplace / "d" / str(grade)).mkdir(parents=True)
        shutil.copy(path, workplace / "d" / str(grade) / f"x{grade}.jpeg")
    for arguments in (("data", "inspect", "d"), ("train", "--data", "d")):
        ended = retino(*arguments, "--split", "patient")
        assert (ended.code, ended.out) == (1, "")
        assert "no patients are known" in ended.err
        assert "--split official" in ended.err
    ended = retino("data", "inspect", "d", "--split", "eye")
    assert ended.code == 2
    assert "official" in ended.err


# -- collapse, from training to comparison -----------------------------------------------------------------------------


def test_a_collapsed_run_is_called_so_by_every_command(
    workplace: Path, retino: Retino, quick_flags: Flags, tmp_path: Path
) -> None:
    import torch

    from retino_cli.models.factory import build_model

    model = build_model("resnet18", head="linear", stem="7x7")
    with torch.no_grad():
        model.fc.bias[0] = 100.0
    torch.save(model.state_dict(), tmp_path / "one-sided.pth")
    flags = (*quick_flags[: quick_flags.index("--lr") + 1], 1e-12, *quick_flags[quick_flags.index("--lr") + 2 :])
    trained = retino("train", *flags, "--weights", tmp_path / "one-sided.pth", "--run-name", "flat", "--quiet")
    assert trained.code == 0, trained.err
    assert "COLLAPSED: 100.0% of the predictions on test are grade 0 (No DR)" in trained.err
    store = open_store()
    assert store.find("flat").tags["retino.collapsed"] == "grade 0"
    for split in ("val", "test"):
        ended = retino("eval", "flat", "--split", split, "--device", "cpu", "--json")
        assert f"COLLAPSED: 100.0% of the predictions on {split} are grade 0" in ended.err
        judged = json.loads(ended.out)
        assert judged["collapsed"] == 0
        assert store.find(judged["evaluation_run_id"], kinds=("eval",)).tags["retino.collapsed"] == "grade 0"
    file = store.download(store.find("flat").run_id, "test/predictions.csv")
    ended = retino("eval", "--predictions", file)
    assert "COLLAPSED: 100.0% of the predictions on predictions" in ended.err
    shutil.copy(file, "theirs.csv")
    compared = retino("compare", "flat", "theirs.csv", "--json")
    assert "COLLAPSED: flat predicts (almost) only grade 0" in compared.err
    assert "COLLAPSED: theirs.csv predicts (almost) only grade 0" in compared.err
    assert [run["collapsed"] for run in json.loads(compared.out)["runs"]] == [0, 0]
    shown = retino("runs").out
    assert shown.count("collapsed") >= 4  # the training and its evaluations


# -- real data ---------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_published_figures_of_the_labs_files(real_data: Path, workplace: Path, retino: Retino) -> None:
    audit = inspected(retino, real_data / "lab-csv", "--strict", code=1)["audit"]
    (leak,) = audit["patient_leaks"]
    assert (leak["images"], round(leak["share"], 3)) == (5618, 0.8)
    test = audit["baselines"][-1]
    assert (test["images"], test["found"]) == (7026, 5618)
    assert (round(test["fellow_eye_accuracy"], 3), round(test["fellow_eye_qwk"], 3)) == (0.847, 0.723)
    out = retino("data", "inspect", real_data / "lab-csv", "--leaks-to", "leaks.csv").out
    for text in ("5618 images of test (80.0%)", "5618 of 7026 (80.0%)", "84.7%", "0.723"):
        assert text in out
    assert len(Path("leaks.csv").read_text().splitlines()) == 1 + 5618


@pytest.mark.real_data
@pytest.mark.slow
def test_the_identical_pictures_of_idrid(real_data: Path, workplace: Path, retino: Retino) -> None:
    pictures = inspected(retino, real_data / "idrid", "--strict", code=1)["audit"]["pictures"]
    assert len(pictures["identical"]) == 6
    assert sum(one["disagrees"] for one in pictures["identical"]) == 3
    (crossing,) = [one for one in pictures["identical"] if one["crosses_splits"]]
    assert crossing["image_ids"] == ["train/IDRiD_118", "test/IDRiD_064"]
    out = retino("data", "inspect", real_data / "idrid").out
    assert "6 groups of identical ones, 3 with different grades, 1 across splits" in out
    assert "LEAK: the same picture is in several splits: train/IDRiD_118 (train, grade 0), test/IDRiD_064" in out


# -- no patients named -------------------------------------------------------------------------------------------------


def test_look_alikes_in_train_are_told_where_no_patients_are_named(workplace: Path, retino: Retino) -> None:
    path = write_arrays(workplace / "discs.npz", val=60)
    audit = inspected(retino, path)["audit"]
    assert not audit["patients_known"]
    shows = {one["split"]: one["shows_patients"] for one in audit["pictures"]["likeness"]}
    assert shows == {"train": True, "val": True, "test": False}
    for one in audit["pictures"]["likeness"]:
        assert one["excess"] == pytest.approx(one["nearest"] - one["farther"])
    shown = " ".join(retino("data", "inspect", path).out.split())
    assert "LIKELY LEAK: pictures of val" in shown
    assert "LIKELY LEAK: pictures of test" not in shown
    assert "retino train --split likeness" in shown
    assert "Patients are not named: one in two splits would not be noticed." in shown


def test_named_patients_need_no_likeness(clean: Path, retino: Retino) -> None:
    shown = retino("data", "inspect", clean).out
    assert "Patients are not named" not in shown
    ended = retino("train", "--data", clean, "--split", "likeness")
    assert (ended.code, ended.out) == (1, "")
    assert "names its patients" in ended.err
    assert "--split patient" in ended.err


def test_split_by_likeness_leaves_test_alone_and_eval_uses_the_same_split(
    workplace: Path, retino: Retino, quick_flags: Flags
) -> None:
    path = write_arrays(workplace / "discs.npz", val=60)
    flags = (*with_data(quick_flags, path), "--split", "likeness", "--run-name", "likeness", "--json")
    ended = retino("train", *flags)
    assert ended.code == 0, ended.err
    trained = json.loads(ended.out)
    store = open_store()
    record = store.find("likeness")
    assert record.params["split"] == "likeness"
    official = load_manifest(path).table.set_index("image_id")["split"]
    judged = {
        split: read_predictions(store.download(record.run_id, f"{split}/predictions.csv")) for split in ("val", "test")
    }
    assert {official[name] for name in judged["test"].image_id} == {"test"}
    assert {official[name] for name in judged["val"].image_id} == {"train", "val"}  # cut anew from both
    again = retino("eval", "likeness", "--split", "val", "--device", "cpu", "--json")
    assert "leak" not in again.err.lower()
    assert json.loads(again.out)["metrics"] == trained["evaluations"]["val"]["metrics"]
    made = retino("report", "likeness", "--no-images", "--out", "report.html", "--device", "cpu")
    assert made.code == 0, made.err
    told = "found no patient and no picture in more than one split. Patients are not named"
    assert told in Path("report.html").read_text("utf-8")
