"""The manifest and its inspection, on made and on real data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retino_cli.data.inspect import inspect_manifest
from retino_cli.data.manifest import COLUMNS, LAYOUTS, Manifest, load_manifest
from retino_cli.errors import DataError, UsageError


@pytest.fixture
def eyepacs(tmp_path: Path) -> Path:
    rows = [(f"{patient}_{eye}", (patient // 4) % 5) for patient in range(60) for eye in ("left", "right")]
    (tmp_path / "trainLabels.csv").write_text("image,level\n" + "".join(f"{name},{grade}\n" for name, grade in rows))
    (tmp_path / "train").mkdir()
    for name, _ in rows[:-3]:
        (tmp_path / "train" / f"{name}.jpeg").touch()
    return tmp_path


def test_layout_names_are_one_tuple() -> None:
    known = ("lab", "eyepacs", "aptos", "idrid", "messidor2", "deepdrid", "ddr", "medmnist", "painted")
    assert (*known, "folders", "csv") == LAYOUTS


def test_table(eyepacs: Path) -> None:
    manifest = load_manifest(eyepacs, seed=3)
    table = manifest.table
    assert tuple(table.columns) == COLUMNS
    assert table["grade"].dtype == np.int8
    assert table["image_id"].is_unique
    assert table.index.equals(pd.RangeIndex(120))
    assert manifest.validation == "cut from train (10 %, seed 3)"
    assert set(manifest.official_split) == {"train"}
    assert manifest.root == eyepacs.resolve()
    val, train = (set(manifest.select(split).table["patient_id"]) for split in ("val", "train"))
    assert len(val) == 5  # 12 patients a grade: one of each is nearest to 10 %
    assert not val & train
    assert load_manifest(eyepacs, val_fraction=0.125).validation == "cut from train (12.5 %, seed 0)"
    assert load_manifest(eyepacs, val_fraction=0).validation == "none"
    with pytest.raises(UsageError):
        load_manifest(eyepacs, val_fraction=1)


def test_select(eyepacs: Path) -> None:
    manifest = load_manifest(eyepacs)
    val = manifest.select("val")
    assert set(val.table["split"]) == {"val"}
    assert val.table.index.equals(pd.RangeIndex(10))
    assert val.official_split.tolist() == ["train"] * 10
    assert manifest.select("all") is manifest
    with pytest.raises(
        DataError, match=r"no images in split 'test'; there are train \(110 images\), val \(10 images\)"
    ):
        manifest.select("test")
    with pytest.raises(DataError, match="no split 'tset'"):
        manifest.select("tset")


def test_grade_counts(eyepacs: Path) -> None:
    manifest = load_manifest(eyepacs)
    total = manifest.grade_counts("all")
    assert total.dtype == np.int64
    assert total.tolist() == [24, 24, 24, 24, 24]
    assert (manifest.grade_counts("train") + manifest.grade_counts("val")).tolist() == total.tolist()
    assert manifest.grade_counts("test").tolist() == [0] * 5
    with pytest.raises(DataError, match="no split"):
        manifest.grade_counts("dev")


def test_fingerprints(eyepacs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    manifest = load_manifest(eyepacs)
    moved = tmp_path_factory.mktemp("moved")
    header, *lines = (eyepacs / "trainLabels.csv").read_text().splitlines()
    (moved / "trainLabels.csv").write_text("\n".join([header, *reversed(lines)]))
    other = load_manifest(moved)
    assert len(manifest.fingerprint()) == 12
    assert other.fingerprint() == manifest.fingerprint()
    assert other.split_fingerprint() == manifest.split_fingerprint()
    reseeded = load_manifest(eyepacs, seed=1)
    assert reseeded.fingerprint() == manifest.fingerprint()
    assert reseeded.split_fingerprint() != manifest.split_fingerprint()
    (moved / "trainLabels.csv").write_text("\n".join([header, *lines]).replace("0_left,0", "0_left,1", 1))
    assert load_manifest(moved).fingerprint() != manifest.fingerprint()


def test_inspection(eyepacs: Path) -> None:
    inspection = inspect_manifest(load_manifest(eyepacs))
    (official,) = inspection.official
    assert (official.split, official.images, official.grades, official.found) == ("train", 120, (24,) * 5, 117)
    assert (official.missing, official.ungradable, official.patients, official.without_patient) == (3, 0, 60, 0)
    assert (official.left, official.right, official.majority_grade) == (60, 60, 0)
    assert official.majority_share == pytest.approx(0.2)
    assert [(one.split, one.images) for one in inspection.splits] == [("train", 110), ("val", 10)]
    assert inspection.is_cut
    assert inspection.missing_names == ("58_right", "59_left", "59_right")
    plain = json.loads(json.dumps(inspection.to_dict()))
    assert plain["official"]["train"]["grades"] == [24] * 5
    assert plain["splits"]["val"]["images"] == 10
    assert plain["total"]["missing"] == 3
    assert plain["validation"] == "cut from train (10 %, seed 0)"


def test_inspection_counts_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0\na.jpg 0\nb.jpg 5\n")
    (tmp_path / "valid.txt").write_text("c.jpg 1\n")
    (tmp_path / "test.txt").write_text("d.jpg 5\n")
    inspection = inspect_manifest(load_manifest(tmp_path))
    assert [(one.split, one.images, one.ungradable) for one in inspection.official] == [
        ("train", 1, 1),
        ("val", 1, 0),
        ("test", 0, 1),
    ]
    assert (inspection.duplicates, inspection.total.ungradable) == (1, 2)
    assert not inspection.is_cut


def counts(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    return {one.split: one.grades for one in inspect_manifest(manifest).official}


@pytest.mark.real_data
def test_idrid_as_it_is_published(real_data: Path) -> None:
    manifest = load_manifest(real_data / "idrid")
    assert counts(manifest) == {"train": (134, 20, 136, 74, 49), "test": (34, 5, 32, 19, 13)}
    assert (manifest.layout, manifest.name, manifest.missing, manifest.duplicates) == ("idrid", "idrid", 0, 0)
    by_id = manifest.table.set_index("image_id")
    assert by_id.loc["train/IDRiD_118", "grade"] == 0
    assert by_id.loc["test/IDRiD_064", "grade"] == 3
    path = Path(str(by_id.loc["test/IDRiD_064", "path"]))
    assert (path.parent.name, path.name) == ("b. Testing Set", "IDRiD_064.jpg")
    assert manifest.select("val").table.shape[0] == 41


@pytest.mark.real_data
def test_lab_files_as_they_are_published(real_data: Path) -> None:
    manifest = load_manifest(real_data / "lab-csv")
    assert counts(manifest) == {"train": (20656, 1955, 4210, 698, 581), "test": (5154, 488, 1082, 175, 127)}
    assert manifest.missing == 35126
    assert set(manifest.table["eye"]) == {"left", "right"}
    train, test = (
        set(manifest.table.loc[manifest.official_split == split, "patient_id"]) for split in ("train", "test")
    )
    shared = manifest.select("test").table["patient_id"].isin(train)
    assert int(shared.sum()) == 5618
    assert len(test) == 6322
    val, rest = (manifest.select(split) for split in ("val", "train"))
    assert not set(val.table["patient_id"]) & set(rest.table["patient_id"])
    shares = val.grade_counts("all") / len(val.table)
    np.testing.assert_allclose(shares, np.array([20656, 1955, 4210, 698, 581]) / 28100, atol=0.01)


@pytest.mark.real_data
def test_retinamnist_as_it_is_published(real_data: Path) -> None:
    manifest = load_manifest(real_data / "retinamnist" / "retinamnist.npz")
    assert counts(manifest) == {
        "train": (486, 128, 206, 194, 66),
        "val": (54, 12, 28, 20, 6),
        "test": (174, 46, 92, 68, 20),
    }
    assert (manifest.validation, manifest.name, manifest.missing) == ("official", "retinamnist", 0)
