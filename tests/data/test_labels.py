"""Cells and rows: text files, grades, names."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.data.labels import LabelPart, check_labels, parse_grade, patient_and_eye
from retino_cli.data.tables import read_header, read_table
from retino_cli.errors import DataError


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("0", 0), (" 3 ", 3), ("2.0", 2), ("4.", 4), ("No_DR", 0), ("No DR", 0), ("no-apparent-retinopathy", 0),
        ("Normal", 0), ("Mild", 1), ("Mild NPDR", 1), ("moderate", 2), ("Severe_DR", 3), ("Proliferate_DR", 4),
        ("PDR", 4), ("Proliferative DR", 4), ("0_No_DR", 0), ("2 - Moderate", 2), ("grade3", 3), ("class_1", 1),
        ("1.5", None), ("7", None), ("5", None), ("-1", None), ("x", None), ("", None), ("nan", None),
        ("1_No_DR", None), ("DR4", 4), ("10", None), (".5", None), ("mildew", None), ("0.5", None), ("1e0", None),
    ],
)  # fmt: skip
def test_parse_grade(text: str, grade: int | None) -> None:
    assert parse_grade(text) == grade


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=8
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    rows=st.lists(
        st.tuples(cells, st.text("ab,\"\n;'", max_size=5), st.integers(0, 4).map(str)), min_size=1, max_size=12
    ),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.sampled_from(["", "\ufeff"]),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_tables_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], newline: str, bom: str, encoding: str
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("Image", "note", "Level "), *rows])
    file = tmp_path_factory.mktemp("table") / "labels.csv"
    file.write_bytes(((bom if encoding == "utf-8" else "") + stream.getvalue()).encode(encoding))
    table = read_table(file, wanted=("image", "level"), optional=("other", "NOTE"))
    assert table.columns["image"] == [row[0].strip() for row in rows]
    assert table.columns["level"] == [row[2] for row in rows]
    assert table.columns["NOTE"] == [row[1].strip() for row in rows]
    first = 2
    for line, row in zip(table.lines, rows, strict=True):
        assert line == first
        first += 1 + row[1].count("\n")


def test_latin1_names_are_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("image,level\nœil_é,1\n".encode("latin-1", errors="replace"))
    assert read_table(file, wanted=("image",)).columns["image"] == ["?il_é"]


def test_header_of_no_text(tmp_path: Path) -> None:
    file = tmp_path / "picture.csv"
    file.write_bytes(b"\x89PNG\0\0\0\n\0\0")
    assert read_header(file) == ()
    with pytest.raises(DataError, match="not a text file"):
        read_table(file, wanted=("image",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,level\na,1\n\nb,c,2\n", "labels.csv, line 4: 3 cells, but the header names 2 columns"),
        ('image,level\na,1\n"b,2\n', "labels.csv, line 3: no valid CSV"),
        ("image,level\n", "labels.csv: no rows below the header line"),
        ("", "labels.csv, line 1: no column 'image'; its columns: none: the file is empty"),
    ],
)
def test_tables_that_cannot_be_right(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(file, wanted=("image", "level"))


def test_rows_short_blank_and_trailing(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("image,level,,\n\na,1\n  \nb,2,,,,\n,,,\nc\n")
    table = read_table(file, wanted=("image", "level"))
    assert table.columns == {"image": ["a", "b", "c"], "level": ["1", "2", ""]}
    assert table.lines == [3, 5, 7]


def part(name: list[str], grade: list[str], split: str | list[str] = "train", **more: list[bool]) -> LabelPart:
    lines = range(2, len(name) + 2)
    return LabelPart(Path("labels.csv"), name, grade, split, lines, ungradable=more.get("ungradable"))


@pytest.mark.parametrize(
    ("name", "grade", "message"),
    [
        (
            ["a", "b"],
            ["0", "7"],
            r"labels.csv, line 3: the grade of 'b' is '7', which is no grade; grades are 0, 1, 2, 3, 4",
        ),
        (["a", "b"], ["x", "7"], r"line 2: the grade of 'a' is 'x'"),
        (["a", "b"], ["0", "1.5"], r"line 3: the grade of 'b' is '1.5'"),
        (["a", "b"], ["0", ""], r"line 3: the grade of 'b' is empty"),
        (["a", ""], ["0", "1"], r"line 3: the image name is empty"),
        (
            ["a", "b", "a"],
            ["0", "1", "2"],
            r"line 4: 'a' is graded 2, but 0 in labels.csv, line 2; an image has one grade",
        ),
        (["a.jpg", "b", "a"], ["0", "1", "2"], r"line 4: 'a' is graded 2, but 0 in labels.csv, line 2"),
    ],
)
def test_rows_that_cannot_be_right(name: list[str], grade: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_labels([part(name, grade)], one_name_one_image=True)


def test_a_five_is_explained() -> None:
    with pytest.raises(DataError) as error:
        check_labels([part(["a"], ["5"])], one_name_one_image=True)
    assert "ungradable" in error.value.hint


def test_the_same_row_twice_counts_once() -> None:
    checked = check_labels([part(["a", "b", "a", "a"], ["0", "1", "0", "0"])], one_name_one_image=True)
    assert checked.duplicates == 1
    assert checked.table["image_id"].tolist() == ["a", "b"]


def test_two_splits_and_one_name() -> None:
    both = [part(["a", "b"], ["0", "1"]), part(["a"], ["2"], "test")]
    checked = check_labels(both, one_name_one_image=False)
    assert checked.table["image_id"].tolist() == ["train/a", "train/b", "test/a"]
    assert (checked.repeated, checked.duplicates) == (True, 0)
    with pytest.raises(DataError, match=r"'a' is graded 2, but 0"):
        check_labels(both, one_name_one_image=True)


def test_only_the_ungradable() -> None:
    with pytest.raises(DataError, match=r"no gradable row \(1 ungradable ones\)"):
        check_labels([part(["a"], ["5"], ungradable=[True])], one_name_one_image=True)


def test_extensions_stay_where_they_tell_images_apart() -> None:
    checked = check_labels([part(["x/a.jpg", "x\\a.PNG", "./b.tif"], ["0", "1", "2"])], one_name_one_image=True)
    assert checked.table["image_id"].tolist() == ["x/a.jpg", "x/a.PNG", "b.tif"]
    checked = check_labels([part(["1.2.840", "b.JPEG"], ["0", "1"])], one_name_one_image=True)
    assert checked.table["image_id"].tolist() == ["1.2.840", "b"]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.text("abc.", min_size=1, max_size=4), st.integers(0, 4)), min_size=1, max_size=30))
def test_every_good_row_survives(rows: list[tuple[str, int]]) -> None:
    grades = dict(rows)
    names = [name for name, _ in rows]
    checked = check_labels([part(names, [str(grades[name]) for name in names])], one_name_one_image=True)
    assert dict(zip(checked.table["image_id"], checked.table["grade"], strict=True)) == grades
    assert checked.duplicates == sum(names.count(name) > 1 for name in grades)


def test_patient_and_eye() -> None:
    names = ["10_left", "a_b_Right.jpeg", "sub/7_left", "10", "_left", "10_middle"]
    assert patient_and_eye(names) == (["10", "a_b", "7", "", "", ""], ["left", "right", "left", "", "", ""])
