"""Finding image files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.data.images import IMAGE_EXTENSIONS, find_images, split_extension
from retino_cli.data.tree import FolderTree, split_in_name
from retino_cli.errors import DataError


def place(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def find(root: Path, *names: str, split: str = "train", repeated: bool = False, preferred: str = "") -> list[str]:
    paths = find_images(
        names, [split] * len(names), base=root, tree=FolderTree(), repeated=repeated, preferred=preferred
    )
    return [os.path.relpath(path, root) if path else "" for path in paths]


@settings(deadline=None)  # a busy machine is no failure
@given(
    stem=st.text("aB1._- é", min_size=1, max_size=6).filter(lambda stem: stem.strip(". ") == stem),
    ending=st.sampled_from(IMAGE_EXTENSIONS),
    upper=st.booleans(),
    written=st.sampled_from(["", ".jpg", ".PNG", "same"]),
    folder=st.sampled_from(["", "train", "images", "train_images/train", "b. Training Set", "part 1", "odd name"]),
)
def test_whatever_the_extension_and_its_case(
    tmp_path_factory: pytest.TempPathFactory, stem: str, ending: str, upper: bool, written: str, folder: str
) -> None:
    root = tmp_path_factory.mktemp("images")
    name = stem + (ending.upper() if upper else ending)
    place(root, os.path.join(folder, name), os.path.join(folder, stem + ".txt"), "images/unrelated/zzz.jpg")
    assert find(root, name if written == "same" else stem + written) == [os.path.join(folder, name)]


def test_a_dot_makes_no_extension() -> None:
    assert split_extension("1.2.840.jpg") == ("1.2.840", ".jpg")
    assert split_extension("1.2.840") == ("1.2.840", "")
    assert split_extension(".jpg") == (".jpg", "")


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, "train/a.jpg", "test/b.jpg", "images/c.jpg")
    listed: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    splits = ["train", "val", "test", "test"]
    found = find_images(["a", "b", "c", "d"], splits, base=tmp_path, tree=FolderTree())
    assert [bool(path) for path in found] == [True, True, True, False]
    assert len(listed) == len(set(listed)) == 4


def test_folders_of_the_rows_split_come_first(tmp_path: Path) -> None:
    place(tmp_path, "a.jpg", "train/a.jpg", "test/a.jpg", "test/b.jpg")
    assert find(tmp_path, "a") == ["train/a.jpg"]
    assert find(tmp_path, "a", split="test") == ["test/a.jpg"]
    assert find(tmp_path, "a", split="val") == ["a.jpg"]
    assert find(tmp_path, "b") == ["test/b.jpg"]
    assert find(tmp_path, "b", repeated=True) == [""]


def test_unusual_folders_only_where_the_usual_hold_nothing(tmp_path: Path) -> None:
    place(tmp_path, "camera/a.jpg", "camera/masks/b.png", ".hidden/b.jpg")
    assert find(tmp_path, "a", "b") == ["camera/a.jpg", ""]
    place(tmp_path, "images/b.jpg")
    assert find(tmp_path, "a", "b") == ["", "images/b.jpg"]


def test_names_with_folders(tmp_path: Path) -> None:
    place(tmp_path, "x/a.jpg", "y/a.jpg", "images/c.jpg", "images/d.jpg")
    assert find(tmp_path, "x/a", "y\\a.png", "z/a", "/x/a.jpg", "gone/c.jpg", "one/d", "two/d") == [
        "x/a.jpg",
        "y/a.jpg",
        "",
        "x/a.jpg",
        "images/c.jpg",
        "",
        "",
    ]
    assert find(tmp_path, str(tmp_path / "x" / "a.jpg")) == ["x/a.jpg"]


def test_two_files_of_one_stem(tmp_path: Path) -> None:
    place(tmp_path, "a.jpg", "a.png", "B.jpg", "b.jpg")
    assert find(tmp_path, "a.png", "a.JPG", "b", "B.jpg") == ["a.png", "a.jpg", "b.jpg", "B.jpg"]
    assert find(tmp_path, "a", preferred=".jpg") == ["a.jpg"]
    with pytest.raises(DataError, match=r"two files answer to the image name 'a': .*a\.jpg and .*a\.png") as error:
        find(tmp_path, "a")
    assert "extension" in error.value.hint


def test_one_stem_in_two_folders_alike(tmp_path: Path) -> None:
    place(tmp_path, "size 256/a.jpg", "size 512/a.jpg")
    with pytest.raises(DataError, match=r"size 256/a\.jpg and .*size 512/a\.jpg"):
        find(tmp_path, "a")


def test_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="the folder cannot be read: Permission denied"):
        FolderTree().listing(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_images", "train"), ("a. Training Set", "train"), ("trainLabels", "train"), ("Testing", "test"),
        ("valid", "val"), ("validation", "val"), ("VAL", "val"), ("images", None), ("train_test", None),
        ("values", None),
    ],
)  # fmt: skip
def test_split_in_name(name: str, split: str | None) -> None:
    assert split_in_name(name) == split
