"""Lesions drawn onto healthy photographs: reproducible, marked, labelled, and never from validation or test."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retino_cli.config import TrainConfig
from retino_cli.data import paint
from retino_cli.data.manifest import load_manifest
from retino_cli.data.paint import PaintedDataset, paint_dataset
from retino_cli.data.paint_folder import SOFTWARE
from retino_cli.data.synth import write_dataset
from retino_cli.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients with grade 0 in train and two in test, and some of grade 2."""
    folder = tmp_path_factory.mktemp("eyes") / "source"
    write_dataset(folder, patients=10, size=160, seed=2, grade_distribution=(2, 0, 1, 0, 0), workers=1)
    return folder


@pytest.fixture(scope="module")
def painted(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETINO_CACHE", str(folder / "cache"))
        draw(folder / "set", eyes)
    return folder / "set"


def draw(folder: Path, data: Path, *, pictures: int = 20, size: int = 160, **changes: object) -> PaintedDataset:
    chosen = {"val_fraction": 0.0, "workers": 1, "seed": 4} | changes
    source = TrainConfig(data=data, **chosen)  # type: ignore[arg-type]  # a test's shorthand
    return paint_dataset(folder, source, pictures=pictures, size=size, masks=True)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "painted.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(data: Path, split: str, **options: float) -> set[str]:
    table = load_manifest(data, **options).table  # type: ignore[arg-type]  # a test's shorthand
    return set(table["image_id"][(table["split"] == split) & (table["grade"] == 0)])


def test_the_same_bytes_with_any_number_of_processes(painted: Path, eyes: Path, tmp_path: Path) -> None:
    draw(tmp_path / "again", eyes, workers=2)
    assert digests(tmp_path / "again") == digests(painted)
    draw(tmp_path / "other", eyes, seed=5)
    mine, theirs = digests(painted), digests(tmp_path / "other")
    assert all(mine[name] != theirs[name] for name in mine if name.endswith(".jpeg"))


def test_grades_are_dealt_and_masks_are_empty_at_grade_0_alone(painted: Path) -> None:
    labels = rows(painted)
    assert [row["image"] for row in labels] == [f"painted-{number:05d}" for number in range(20)]
    assert np.bincount([int(row["grade"]) for row in labels]).tolist() == [4] * 5
    assert [row["grade"] for row in labels] != sorted(row["grade"] for row in labels)
    for row in labels:
        mask = np.asarray(Image.open(painted / "masks" / f"{row['image']}.png"))
        assert mask.shape == (160, 160)
        assert mask.any() == (row["grade"] != "0"), row
        assert row["grade"] != "1" or set(np.unique(mask)) == {0, 1}  # microaneurysms only
        assert mask.max() < 16


def test_only_healthy_training_photographs_are_painted_on(painted: Path, eyes: Path, tmp_path: Path) -> None:
    used = {row["photograph"] for row in rows(painted)}
    assert len(used) > 1
    assert used <= names(eyes, "train", val_fraction=0)
    draw(tmp_path / "less", eyes, val_fraction=0.5)
    fewer = {row["photograph"] for row in rows(tmp_path / "less")}
    assert fewer <= names(eyes, "train", val_fraction=0.5, seed=4) < names(eyes, "train", val_fraction=0)


def test_pictures_of_other_splits_are_not_opened(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(shutil.copytree(eyes, tmp_path / "source"))
    allowed = names(source, "train", val_fraction=0)
    for path in source.rglob("*.jpeg"):
        if path.stem not in allowed:
            path.write_bytes(b"no picture")
    made = draw(tmp_path / "set", source, pictures=5)
    assert (made.photographs, made.unusable) == (len(allowed), ())


def test_validation_is_cut_by_photograph_without_options(painted: Path) -> None:
    manifest = load_manifest(painted)
    assert (manifest.layout, manifest.name, manifest.missing) == ("painted", "painted", 0)
    photograph = {row["image"]: row["photograph"] for row in rows(painted)}
    train, val = (set(manifest.select(split).table["image_id"].map(photograph)) for split in ("train", "val"))
    assert val
    assert not train & val
    assert (
        manifest.table["image_id"]
        .map({row["image"]: int(row["grade"]) for row in rows(painted)})
        .equals(manifest.table["grade"].astype("int64"))
    )


def test_everything_says_that_it_is_painted(painted: Path) -> None:
    for row in rows(painted):
        with Image.open(painted / "images" / f"{row['image']}.jpeg") as picture:
            for note in (picture.getexif()[0x010E], picture.info["comment"].decode()):
                assert note.startswith("PAINTED")
                assert f"on photograph {row['photograph']} of synthetic by {SOFTWARE}, seed 4" in note
                assert "not for clinical use" in note
    readme = (painted / "README.md").read_text(encoding="utf-8")
    for words in ("licence", "not for clinical use", "says anything about patients", "retino data paint DIR --onto"):
        assert words in readme
    marker = json.loads((painted / "painted.json").read_text(encoding="utf-8"))
    assert (marker["painted"], marker["complete"]) == (True, True)
    assert marker["parameters"]["data_fingerprint"]
    assert marker["repeat"] == "retino data paint DIR --onto source --pictures 20 --size 160 --seed 4 --masks"


def test_the_same_set_is_not_painted_twice_and_another_one_replaces_it(eyes: Path, tmp_path: Path) -> None:
    folder, source = tmp_path / "set", Path(shutil.copytree(eyes, tmp_path / "source"))
    assert draw(folder, source, pictures=6).painted == 6
    assert draw(folder, source, pictures=6).painted == 0
    (folder / "images" / "painted-00003.jpeg").unlink()
    assert draw(folder, source, pictures=6).painted == 6
    assert draw(folder, source, pictures=3).painted == 3
    assert len(list((folder / "images").iterdir())) == 3
    used = source / "train" / f"{sorted(names(source, 'train', val_fraction=0))[0]}.jpeg"
    Image.new("RGB", (160, 160), (90, 60, 30)).save(used)  # another picture under the same name
    assert draw(folder, source, pictures=3).painted == 3


def test_an_interrupted_set_is_no_data_set(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    source = TrainConfig(data=eyes, val_fraction=0.0, workers=1)
    with pytest.raises(KeyboardInterrupt):
        paint_dataset(tmp_path / "set", source, pictures=6, size=160, on_paint=stop)
    assert json.loads((tmp_path / "set" / "painted.json").read_text())["complete"] is False
    with pytest.raises(DataError):
        load_manifest(tmp_path / "set")
    assert paint_dataset(tmp_path / "set", source, pictures=6, size=160).painted == 6


def test_a_photograph_that_is_in_test_too_is_left_out(eyes: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(eyes, tmp_path / "source"))
    copied = sorted(names(source, "train", val_fraction=0))[0]
    shutil.copy(source / "train" / f"{copied}.jpeg", next((source / "test").iterdir()))
    kept, dropped = (draw(tmp_path / rule, source, pictures=5, duplicates=rule) for rule in ("keep", "drop"))
    assert kept.left_out == ()
    (sentence,) = dropped.left_out
    assert sentence.startswith(f"{copied} is left out of train: it is the same picture as ")
    assert dropped.photographs == kept.photographs - 1
    assert copied not in {row["photograph"] for row in rows(tmp_path / "drop")}


def test_one_picture_under_two_names_is_one_patient(eyes: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(eyes, tmp_path / "source"))
    first, *_, last = (source / "train" / f"{name}.jpeg" for name in sorted(names(source, "train", val_fraction=0)))
    shutil.copy(first, last)
    draw(tmp_path / "set", source, pictures=60)
    patients = {row["photograph"]: row["patient"] for row in rows(tmp_path / "set")}
    assert patients[first.stem] == patients[last.stem]
    assert len(set(patients.values())) > 1


def test_unreadable_photographs_are_counted(eyes: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(eyes, tmp_path / "source"))
    gone, broken, black, *rest = sorted(names(source, "train", val_fraction=0))
    (source / "train" / f"{gone}.jpeg").unlink()
    (source / "train" / f"{broken}.jpeg").write_bytes(b"no picture")
    Image.new("RGB", (160, 120)).save(source / "train" / f"{black}.jpeg")
    made = draw(tmp_path / "set", source, pictures=5)
    assert (made.unusable, made.photographs) == ((gone, broken, black), len(rest))


def test_enlarged_photographs_are_counted(eyes: Path, tmp_path: Path) -> None:
    small = draw(tmp_path / "small", eyes, pictures=5, size=64)
    large = draw(tmp_path / "large", eyes, pictures=5, size=512)
    assert (small.enlarged, large.enlarged) == (0, large.photographs)


def test_without_healthy_photographs_there_is_nothing_to_paint_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "ill", patients=2, size=64, grade_distribution=(0, 0, 1, 0, 0), workers=1)
    with pytest.raises(DataError, match="no photograph of grade 0 in the training split.* of grade 2") as caught:
        draw(tmp_path / "set", tmp_path / "ill")
    assert "retino data inspect" in caught.value.hint
    assert not (tmp_path / "set").exists()


def test_foreign_folders_and_the_source_are_left_alone(
    painted: Path, eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    monkeypatch.setattr(paint, "prepare", None)  # refused before anything is decoded
    with pytest.raises(DataError, match="is not empty, and holds no painted data set"):
        draw(tmp_path / "mine", eyes)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="is a file"):
        draw(tmp_path / "mine" / "notes.txt", eyes)
    before = digests(painted)
    for folder in (painted, painted.parent):
        with pytest.raises(UsageError, match="holds the data set"):
            draw(folder, painted)
    assert digests(painted) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"pictures": 0}, "--pictures 0"), ({"size": 32}, "--size 32"), ({"size": 5000}, "--size 5000")],
)
def test_impossible_sets_are_refused(arguments: dict[str, int], words: str, eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        draw(tmp_path / "set", eyes, **arguments)
    assert not (tmp_path / "set").exists()


@pytest.mark.real_data
def test_idrid(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tmp_path / "few"  # three healthy photographs and one that is not
    few.mkdir()
    table = load_manifest(real_data / "idrid", val_fraction=0).select("train").table
    chosen = [*table[table["grade"] == 0].head(3).itertuples(), *table[table["grade"] == 3].head(1).itertuples()]
    for row in chosen:
        shutil.copy(str(row.path), few)
    lines = [f"{Path(str(row.path)).stem},{row.grade}" for row in chosen]
    (few / "train.csv").write_text("\n".join(["id_code,diagnosis", *lines]) + "\n")
    made = draw(tmp_path / "set", few, pictures=5, size=448)
    assert (made.data, made.photographs, made.grade_counts) == ("aptos", 3, (1, 1, 1, 1, 1))
    assert load_manifest(tmp_path / "set").missing == 0
