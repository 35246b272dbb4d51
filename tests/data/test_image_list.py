"""Lists of images without grades: what each kind of source means, and what is said about one that cannot be right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retino_cli.data.image_list import IMAGE_COLUMNS, ImageList, NamedImage
from retino_cli.errors import DataError, UsageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with ``photos/`` and some files that are no photographs."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "sub/c.jpeg", "sub.jpg", "notes.txt", ".hidden.png", ".git/d.png", "sub2/e.tif"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(*sources: str, **options: object) -> list[str]:
    return [image.name for image in ImageList(sources, **options)]  # type: ignore[arg-type] # options of ImageList


def test_a_folder_is_walked_in_the_order_of_its_paths(place: Path) -> None:
    expected = ["photos/a.png", "photos/b.JPG", "photos/sub.jpg", "photos/sub/c.jpeg", "photos/sub2/e.tif"]
    assert names("photos") == names("photos/") == names("./photos") == expected == sorted(expected)
    assert names(str(place / "photos")) == [str(place / name) for name in expected]
    assert names(".") == expected
    assert all(image.name == image.source for image in ImageList(["photos"]))


def test_links_are_followed_but_not_in_circles(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "z.png").touch()
    (place / "photos" / "linked").symlink_to(place / "elsewhere")
    (place / "photos" / "sub" / "up").symlink_to(place / "photos")
    assert "photos/linked/z.png" in names("photos")
    assert len(names("photos")) == 6


def test_sources_come_in_their_order_and_as_they_were_written(place: Path) -> None:
    assert names("photos/sub.jpg", "photos/notes.txt", "photos/sub", "./photos/a.png") == [
        "photos/sub.jpg",
        "photos/notes.txt",  # named by hand: tried, whatever its extension
        "photos/sub/c.jpeg",
        "./photos/a.png",
    ]
    assert ImageList(["photos", "photos/a.png"]).count() == 6


def test_a_row_of_an_array(place: Path) -> None:
    (place / "set.npz").touch()
    assert names("set.npz#test/3") == ["set.npz#test/3"]
    with pytest.raises(DataError, match=r"other\.npz#test/3"):
        ImageList(["other.npz#test/3"])


def test_a_csv_names_images_relative_to_itself_or_to_a_folder(place: Path) -> None:
    (place / "lists").mkdir()
    (place / "lists" / "a.csv").write_text("level,Image\n0,x.jpg\n\n3, sub/y.png \n", encoding="utf-8")
    assert list(ImageList([place / "lists" / "a.csv"])) == [
        NamedImage("x.jpg", str(place / "lists" / "x.jpg")),
        NamedImage("sub/y.png", str(place / "lists" / "sub" / "y.png")),
    ]
    assert [image.source for image in ImageList(["lists/a.csv"], images=Path("photos"))] == [
        "photos/x.jpg",
        "photos/sub/y.png",
    ]


def test_a_name_without_extension_is_the_file_that_is_there(place: Path) -> None:
    (place / "photos" / "1.2.840").touch()
    (place / "l.csv").write_text("id_code\na\nb\nsub/c\nmissing\n1.2.840\nsub\\c\n")
    sources = [image.source for image in ImageList(["l.csv"], images=place / "photos")]
    assert [os.path.relpath(source, place / "photos") for source in sources] == [
        "a.png",
        "b.JPG",
        "sub/c.jpeg",
        "missing",
        "1.2.840",
        "sub/c.jpeg",
    ]


@pytest.mark.parametrize("column", IMAGE_COLUMNS)
def test_columns_that_are_recognised(place: Path, column: str) -> None:
    (place / "l.csv").write_text(f"grade;{column.upper()}\n1;a.png\n")
    assert names("l.csv") == ["a.png"]


def test_a_column_that_is_named_wins(place: Path) -> None:
    (place / "l.tsv").write_text("image\tscan\nx\ty\n")
    assert names("l.tsv", image_column="scan") == ["y"]
    assert names("l.tsv") == ["x"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_csv_encodings(place: Path, encoding: str) -> None:
    (place / "l.csv").write_bytes("image,x\nBjörk.png,1\n".encode(encoding))
    assert names("l.csv") == ["Björk.png"]


def test_what_cannot_be_right_is_said_before_anything_is_predicted(place: Path) -> None:
    (place / "empty").mkdir()
    for sources, message, hint in (
        (["nowhere.jpg"], "nowhere.jpg: no such file", "Name an image"),
        (["photos", "nowhere"], "nowhere: no such file or folder", "Name an image"),
        (["empty"], "empty: there is no image", ".jpg"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            ImageList(sources).count()
        assert hint in caught.value.hint
    with pytest.raises(UsageError, match="nothing to predict"):
        ImageList([])
    with pytest.raises(DataError, match="nofolder"):
        ImageList(["photos"], images=Path("nofolder"))
    for flag, options in (("--images", {"images": Path("photos")}), ("--image-column", {"image_column": "a"})):
        with pytest.raises(UsageError, match=flag):
            ImageList(["photos"], **options)  # type: ignore[arg-type] # one of two options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column path or"),
        (b"level,name\n1,a.png\n", "line 1: no column .*'level', 'name'"),
        (b"image\n", "no rows"),
        (b"image,level\na.png,1\n,2\n", "line 3: the image has no name"),
        (b'image,level\n"a\nb.png",1\n\n,2\n', "line 5: the image has no name"),
        (b"image\na.png,1\n", "line 2: 2 cells"),
        (b'image\n"a.png', "line 2: no valid CSV"),
        (b"image\n\x00\x01", "not a text file"),
    ],
)
def test_csv_files_that_cannot_be_right(place: Path, content: bytes, message: str) -> None:
    (place / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        ImageList(["l.csv"]).count()
    assert "l.csv" in caught.value.message
    assert caught.value.hint


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1).filter(
            lambda text: text == text.strip() and not text.isspace()
        ),
        min_size=1,
    )
)
def test_every_name_that_a_csv_can_hold_comes_back(tmp_path: Path, wanted: list[str]) -> None:
    import csv

    with (tmp_path / "l.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["image"], *([name] for name in wanted)])
    assert names(str(tmp_path / "l.csv")) == wanted
