"""The audit finds what is wrong, and only that."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retino_cli.data.audit import Audit, audit_manifest, audit_pictures, find_patient_leaks, write_leaks
from retino_cli.data.manifest import load_manifest
from retino_cli.data.resplit import split_by_patient
from retino_cli.errors import DataError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))


def _write_eyepacs(folder: Path, train: list[tuple[str, int]], test: list[tuple[str, int]]) -> Path:
    """An EyePACS folder with a picture of its own for every name."""
    random = np.random.default_rng(0)
    for split, rows in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        for name, _grade in rows:
            pixels = random.integers(0, 256, (80, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{name}.png")
    (folder / "trainLabels.csv").write_text("image,level\n" + "".join(f"{n},{g}\n" for n, g in train))
    (folder / "retinopathy_solution.csv").write_text(
        "image,level,Usage\n" + "".join(f"{n},{g},Private\n" for n, g in test)
    )
    return folder


def test_patients_in_two_splits_are_counted_and_listed(tmp_path: Path) -> None:
    folder = _write_eyepacs(
        tmp_path / "d",
        [("1_left", 0), ("2_left", 1), ("2_right", 1), ("3_left", 2)],
        [("1_right", 0), ("3_right", 4), ("9_left", 0), ("9_right", 0)],
    )
    manifest = load_manifest(folder, val_fraction=0)
    (leak,) = find_patient_leaks(manifest)
    assert (leak.first, leak.second, leak.patients, leak.images, leak.share) == ("train", "test", 2, 2, 0.5)
    assert leak.image_ids == ("1_right", "3_right")

    audit = audit_manifest(manifest)
    assert audit.leaks == (
        "2 patients are in both train and test: 2 images of test (50.0%) have the same patient in train",
    )
    write_leaks(audit, tmp_path / "leaks.csv")
    with (tmp_path / "leaks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image_id"], row["leaks_from"], row["reason"]) for row in rows] == [
        ("1_right", "train", "patient"),
        ("3_right", "train", "patient"),
    ]
    with pytest.raises(DataError, match="cannot be written"):
        write_leaks(audit, tmp_path / "nowhere" / "leaks.csv")


def test_baselines_by_hand(tmp_path: Path) -> None:
    folder = _write_eyepacs(
        tmp_path / "d",
        [("1_left", 0), ("2_left", 0), ("3_left", 2)],
        [("1_right", 0), ("3_right", 4), ("9_left", 1), ("9_right", 0)],
    )
    train, test = audit_manifest(load_manifest(folder, val_fraction=0)).baselines
    assert (train.split, test.split) == ("train", "test")
    assert test.majority_accuracy == 0.5
    assert test.found == 2
    assert test.fellow_eye_accuracy == 0.5  # 1_right 0 = 0, 3_right 4 != 2, 9_* get the majority 0: one right
    assert train.found == 0


def test_a_validation_cut_is_no_leak(tmp_path: Path) -> None:
    rows = [(f"{patient}_{eye}", patient % 5) for patient in range(40) for eye in ("left", "right")]
    folder = _write_eyepacs(tmp_path / "d", rows[:60], rows[60:])
    manifest = load_manifest(folder, val_fraction=0.3)
    assert (manifest.table["split"] == "val").any()
    assert find_patient_leaks(manifest) == ()
    assert audit_manifest(manifest).leaks == ()


def test_identical_pictures_are_found_also_in_another_file_format(tmp_path: Path) -> None:
    folder = _write_eyepacs(
        tmp_path / "d", [("1_left", 0), ("2_left", 1), ("4_left", 1)], [("7_left", 3), ("8_left", 0)]
    )
    Image.open(folder / "train" / "1_left.png").save(folder / "train" / "2_left.bmp")  # same pixels, other bytes
    (folder / "train" / "2_left.png").unlink()
    shutil.copy(folder / "train" / "4_left.png", folder / "test" / "7_left.png")
    pictures = audit_pictures(load_manifest(folder, val_fraction=0))
    assert [one.image_ids for one in pictures.identical] == [("1_left", "2_left"), ("4_left", "7_left")]
    assert [(one.crosses_splits, one.disagrees) for one in pictures.identical] == [(False, True), (True, True)]
    audit = Audit((), (), pictures)
    assert audit.leaks == ("the same picture is in several splits: 4_left (train, grade 1), 7_left (test, grade 3)",)


def test_pictures_that_differ_in_one_pixel_are_not_identical(tmp_path: Path) -> None:
    """Small, they look the same: one level in one of 400 x 400 pixels is lost when the picture is made small."""
    folder = _write_eyepacs(tmp_path / "d", [("1_left", 0), ("2_left", 0)], [("3_left", 0)])
    pixels = np.full((400, 400, 3), 90, dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "train" / "1_left.png")
    pixels[200, 200, 0] += 1
    Image.fromarray(pixels).save(folder / "train" / "2_left.png")
    assert audit_pictures(load_manifest(folder, val_fraction=0)).identical == ()


def test_black_grey_and_unreadable_pictures(tmp_path: Path) -> None:
    folder = _write_eyepacs(tmp_path / "d", [(f"{i}_left", 0) for i in range(1, 6)], [("9_left", 0)])
    Image.new("RGB", (80, 80), (3, 2, 4)).save(folder / "train" / "1_left.png")
    grey = np.random.default_rng(1).integers(0, 256, (80, 80), dtype=np.uint8)
    Image.fromarray(grey).convert("RGB").save(folder / "train" / "2_left.png")
    (folder / "train" / "3_left.png").write_bytes(b"no picture")
    (folder / "train" / "4_left.png").unlink()
    pictures = audit_pictures(load_manifest(folder, val_fraction=0))
    assert (pictures.black, pictures.grey, pictures.unreadable) == (("1_left",), ("2_left",), ("3_left",))
    assert pictures.images == 4


def test_split_by_patient_mends_the_leak(tmp_path: Path) -> None:
    left = [(f"{patient}_left", patient % 5) for patient in range(50)]
    right = [(f"{patient}_right", patient % 5) for patient in range(50)]
    manifest = load_manifest(_write_eyepacs(tmp_path / "d", left, right), val_fraction=0.1)
    assert find_patient_leaks(manifest)[0].patients == 50
    mended = split_by_patient(manifest, val_fraction=0.1, seed=3)
    assert find_patient_leaks(mended) == ()
    table = mended.table
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert (table["split"] == "test").sum() == 50  # the official share, one half
    assert set(table["grade"][table["split"] == "test"]) == {0, 1, 2, 3, 4}
    assert sorted(table["image_id"]) == sorted(manifest.table["image_id"])
    again = split_by_patient(manifest, val_fraction=0.1, seed=3)
    assert again.split_fingerprint() == mended.split_fingerprint()
    assert split_by_patient(manifest, val_fraction=0.1, seed=4).split_fingerprint() != mended.split_fingerprint()


def test_split_by_patient_needs_patients(tmp_path: Path) -> None:
    folder = _write_eyepacs(tmp_path / "d", [("a", 0), ("b", 1)], [("c", 0)])
    with pytest.raises(DataError, match="no patients are known"):
        split_by_patient(load_manifest(folder, val_fraction=0), val_fraction=0.1, seed=0)


@pytest.mark.real_data
def test_published_figures_of_the_lab(real_data: Path) -> None:
    manifest = load_manifest(real_data / "lab-csv")
    (leak,) = find_patient_leaks(manifest)
    assert (leak.images, round(leak.share, 3)) == (5618, 0.8)
    test = audit_manifest(manifest).baselines[-1]
    assert (test.images, test.found) == (7026, 5618)
    assert test.fellow_eye_accuracy == pytest.approx(0.847, abs=5e-4)
    assert test.fellow_eye_qwk == pytest.approx(0.723, abs=5e-4)
    assert test.majority_accuracy == pytest.approx(5154 / 7026)
    assert find_patient_leaks(split_by_patient(manifest, val_fraction=0.1, seed=0)) == ()


@pytest.mark.real_data
def test_published_figures_of_idrid(real_data: Path) -> None:
    pictures = audit_pictures(load_manifest(real_data / "idrid"))
    assert len(pictures.identical) == 6
    assert sum(one.disagrees for one in pictures.identical) == 3
    crossing = [one for one in pictures.identical if one.crosses_splits]
    assert [one.image_ids for one in crossing] == [("train/IDRiD_118", "test/IDRiD_064")]
    assert crossing[0].grades == (0, 3)
    assert (pictures.unreadable, pictures.black, pictures.grey) == ((), (), ())
