"""From label rows as they are written to rows that are right: grades, names, ungradable rows, duplicates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from retino_cli.data.images import split_extension
from retino_cli.errors import DataError

SPLITS: Final = ("train", "val", "test")
GRADE_CHOICES: Final = "0, 1, 2, 3, 4 (or No_DR, Mild, Moderate, Severe, Proliferate_DR)"

_INVALID = -1
_NUMBER = re.compile(r"([0-4])(?:\.0*)?")
_NUMBERED_NAME = re.compile(r"(?:(?:grade|class|level|label|stage|dr|r)?([0-9]))?([a-z]*)")
_GRADE_WORDS = {
    "nodr": 0, "noapparentdr": 0, "noapparentretinopathy": 0, "noretinopathy": 0, "nodiabeticretinopathy": 0,
    "normal": 0, "healthy": 0, "none": 0, "negative": 0,
    "mild": 1, "moderate": 2, "severe": 3,
    "proliferate": 4, "proliferative": 4, "proliferatedr": 4, "proliferativedr": 4, "pdr": 4,
    "proliferativeretinopathy": 4, "proliferativediabeticretinopathy": 4,
}  # fmt: skip
_NAMED_SUFFIXES = ("", "dr", "npdr", "nonproliferative", "nonproliferativedr", "retinopathy", "diabeticretinopathy")


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a CSV file hold what; ``split`` and ``patient`` only where the file has them."""

    image: str
    label: str
    split: str | None = None
    patient: str | None = None


@dataclass(frozen=True, eq=False)
class LabelPart:
    """The N rows of one label file, as written, not yet checked.

    Args:
        file: the file that the rows come from, for messages.
        name: N image names: with or without extension, with or without folders.
        grade: N grades, as text.
        split: the split of all rows, or N splits.
        lines: N physical lines, from 1 (N row numbers, or positions, where ``unit`` says so).
        patient_id, eye: N values, "" where unknown; None: unknown for all.
        ungradable: (N,) bool, rows to leave out and count.
        path: N image paths where the layout knows them, so that nothing is searched.
        base: the folder below which the images lie; None: they are searched beside the label file.
        unit: what ``lines`` counts: "line", or "row" of an array.
    """

    file: Path
    name: Sequence[str]
    grade: Sequence[str]
    split: str | Sequence[str]
    lines: Sequence[int]
    patient_id: Sequence[str] | None = None
    eye: Sequence[str] | None = None
    ungradable: Sequence[bool] | None = None
    path: Sequence[str] | None = None
    base: Path | None = None
    unit: str = "line"


@dataclass(frozen=True, eq=False)
class CheckedLabels:
    """Label rows that are right.

    ``table`` has one row per gradable image: image_id, name (as written), grade int8, split, patient_id, eye, path (""
    not yet searched), part (position in ``parts``) and line. ``repeated``: names occur in more than one split.
    """

    parts: tuple[LabelPart, ...]
    table: pd.DataFrame
    ungradable: dict[str, int]
    duplicates: int
    repeated: bool

    def place(self, row: int) -> str:
        """Return "FILE, line N" for a row of the table."""
        part = self.parts[self.table["part"].to_numpy()[row]]
        return f"{part.file}, {part.unit} {self.table['line'].to_numpy()[row]}"


def parse_grade(text: str) -> int | None:
    """Return the grade 0..4 that a cell or a folder name stands for, or None.

    Understood are whole numbers ("2", "2.0"), the names of the ICDR scale in the spellings of the usual data sets
    ("No_DR", "Mild", "Proliferate_DR", "Severe NPDR", ...), and a number with its own name ("2_Moderate", "grade 3").
    """
    number = _NUMBER.fullmatch(text.strip())
    if number:
        return int(number[1])
    letters_and_digits = re.sub(r"[^a-z0-9]", "", text.lower())
    parsed = _NUMBERED_NAME.fullmatch(letters_and_digits)
    if parsed is None or not letters_and_digits or letters_and_digits.isdigit():  # "-1" and ".5" are no grades
        return None
    named = _named_grade(parsed[2])
    if parsed[1] is None:
        return named
    grade = int(parsed[1])
    return grade if grade <= 4 and (named == grade or not parsed[2]) else None


def check_labels(parts: Sequence[LabelPart], *, one_name_one_image: bool) -> CheckedLabels:
    """Check label rows and make their image ids.

    An image id is the name with "/" between folders and without its image extension (which stays, for all images, where
    two names differ by nothing else). Where a name occurs in more than one split, every id of the data set begins with
    the split: "train/IDRiD_001".

    Args:
        parts: what the layout's reader found.
        one_name_one_image: a name means the same image in every split (EyePACS), and not only within one (IDRiD).

    Raises:
        DataError: an empty name, a grade that is none, one image with two grades; naming the file and the line.
    """
    table = pd.concat([_part_rows(part, position) for position, part in enumerate(parts)], ignore_index=True)
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    left_out = table["ungradable"].to_numpy(bool)
    ungradable = {split: int((left_out & (table["split"] == split).to_numpy()).sum()) for split in splits}
    table = table[~left_out].drop(columns="ungradable").reset_index(drop=True)
    if table.empty:
        raise DataError(f"{parts[0].file}: no gradable row ({int(left_out.sum())} ungradable ones)")

    table["image_id"] = _names_as_ids(table["name"].tolist())
    if all(part.patient_id is None and part.eye is None for part in parts):
        # EyePACS photographs sorted anew keep their names; only where all are of that kind can the names be trusted.
        patients, eyes = patient_and_eye(table["image_id"].tolist())
        if all(eyes):
            table["patient_id"], table["eye"] = patients, eyes
    scope = ["image_id"] if one_name_one_image else ["split", "image_id"]
    _refuse_two_grades(parts, table, scope)
    again = table.duplicated(["split", "image_id"]).to_numpy()
    duplicates = len(table.loc[again, ["split", "image_id"]].drop_duplicates())
    if duplicates:
        table = table[~again].reset_index(drop=True)
    repeated = bool(table["image_id"].duplicated().any())
    if repeated:
        table["image_id"] = table["split"].str.cat(table["image_id"], sep="/")
    return CheckedLabels(tuple(parts), table, ungradable, duplicates, repeated)


def patient_and_eye(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return patient ids and eyes from names such as ``10_left`` (EyePACS); "" where a name is no such one."""
    patients, eyes = [], []
    for name in names:
        stem = split_extension(name)[0]
        patient, _, eye = stem.rpartition("_")
        eye = eye.lower()
        known = bool(patient) and eye in ("left", "right")
        patients.append(patient.replace("\\", "/").rpartition("/")[2] if known else "")
        eyes.append(eye if known else "")
    return patients, eyes


_CORRECT: Final = "correct the grade, or delete the row"
_UNGRADABLE: Final = "a 5 for ungradable images is known in DDR and DeepDRiD only: delete these rows"


def _part_rows(part: LabelPart, position: int) -> pd.DataFrame:
    """Return the rows of a part with grades as numbers, or raise for the first row that cannot be right."""
    n = len(part.name)
    left_out = np.zeros(n, bool) if part.ungradable is None else np.asarray(part.ungradable, bool)
    parsed = {text: parse_grade(text) for text in set(part.grade)}
    codes = {text: _INVALID if grade is None else grade for text, grade in parsed.items()}
    grade = np.fromiter((codes[text] for text in part.grade), np.int8, count=n)
    wrong = (grade == _INVALID) & ~left_out
    nameless = np.fromiter((not name for name in part.name), bool, count=n)
    for row in np.flatnonzero(wrong | nameless)[:1]:
        place = f"{part.file}, {part.unit} {part.lines[row]}"
        if nameless[row]:
            raise DataError(f"{place}: the image name is empty", hint="write the name, or delete the row")
        text = part.grade[row]
        what = f"is {text!r}, which is no grade" if text else "is empty"
        hint = _UNGRADABLE if text == "5" else _CORRECT
        raise DataError(f"{place}: the grade of {part.name[row]!r} {what}; grades are {GRADE_CHOICES}", hint=hint)
    blank = [""] * n
    columns: dict[str, pd.Series] = {
        "name": pd.Series(part.name, dtype=str),
        "split": pd.Series([part.split] * n if isinstance(part.split, str) else part.split, dtype=str),
        "patient_id": pd.Series(blank if part.patient_id is None else part.patient_id, dtype=str),
        "eye": pd.Series(blank if part.eye is None else part.eye, dtype=str),
        "path": pd.Series(blank if part.path is None else part.path, dtype=str),
        "grade": pd.Series(grade),
        "ungradable": pd.Series(left_out),
        "part": pd.Series(np.full(n, position, np.int16)),
        "line": pd.Series(np.asarray(part.lines, np.int64)),
    }
    return pd.DataFrame(columns)


def _names_as_ids(names: list[str]) -> list[str]:
    clean = [name.replace("\\", "/").removeprefix("./") for name in names]
    pairs = [split_extension(name) for name in clean]
    endings: dict[str, str] = {}
    for stem, extension in pairs:
        lower = extension.lower()
        if lower and endings.setdefault(stem, lower) != lower:
            return clean  # a.jpg and a.png are two images here
    return [stem for stem, _ in pairs]


def _refuse_two_grades(parts: Sequence[LabelPart], table: pd.DataFrame, scope: list[str]) -> None:
    suspects = table[table.duplicated(scope, keep=False)]
    graded = suspects.groupby(scope, sort=False)["grade"].nunique()
    conflicts = graded[graded > 1]
    if conflicts.empty:
        return
    key = conflicts.index[0]
    wanted = key if isinstance(key, tuple) else (key,)
    same = np.logical_and.reduce([suspects[column] == value for column, value in zip(scope, wanted, strict=True)])
    rows = suspects[same].drop_duplicates("grade").head(2)
    origin = [parts[position] for position in rows["part"].to_numpy()]
    first, second = (f"{part.file}, {part.unit} {line}" for part, line in zip(origin, rows["line"], strict=True))
    grades = rows["grade"].tolist()
    raise DataError(
        f"{second}: {rows['name'].iloc[1]!r} is graded {grades[1]}, but {grades[0]} in {first}; "
        f"an image has one grade ({len(conflicts)} such image{'s' if len(conflicts) > 1 else ''})",
        hint="correct or delete one of the two rows",
    )


def _named_grade(word: str) -> int | None:
    if word in _GRADE_WORDS:
        return _GRADE_WORDS[word]
    for stem in ("mild", "moderate", "severe"):
        if word.startswith(stem) and word.removeprefix(stem) in _NAMED_SUFFIXES:
            return _GRADE_WORDS[stem]
    return None
