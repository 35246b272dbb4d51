"""Predictions: one row per image, and the CSV file that every evaluation, figure and comparison starts from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from retino_cli.errors import DataError
from retino_cli.grades import GRADES, N_GRADES, REFERABLE_GRADE, VISION_THREATENING_GRADE
from retino_cli.whole import whole_file

PROBABILITY_COLUMNS: Final = ("p0", "p1", "p2", "p3", "p4")
COLUMNS: Final = ("image_id", "patient_id", "eye", "grade", *PROBABILITY_COLUMNS, "score")
REQUIRED_COLUMNS: Final = ("image_id", "grade", *PROBABILITY_COLUMNS)
EYES: Final = ("left", "right", "")

SUM_TOLERANCE: Final = 1e-4
"""How far the probabilities of one image may sum from 1: room for a float32 softmax and for five printed digits."""

_EXACT_SUM: Final = 1e-12
# A row whose sum is this close to 1 is kept as it is. Dividing it again would move its last bit on every write and
# read; a row that was divided once sums to 1 within about 1e-15, so that reading back changes nothing.


class PredictionRowError(DataError):
    """A row that cannot be right. ``row`` counts from 0, ``problem`` is the message without the place."""

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"predictions, row {row + 1}: {problem}")
        self.row = row
        self.problem = problem


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one model for N >= 1 images with known grades.

    All arrays have N rows, in the same order, and are read-only copies of what was given.

    - ``image_id`` (N,) str: unique, not empty, without line breaks.
    - ``patient_id`` (N,) str: ``""`` where unknown.
    - ``eye`` (N,) str: ``"left"``, ``"right"`` or ``""``.
    - ``grade`` (N,) int64: the true grade, 0..4.
    - ``probabilities`` (N, 5) float64: finite, in [0, 1]; each row sums to 1 within 1e-4 and is divided by its sum.

    Raises ``DataError`` where a shape does not fit, and ``PredictionRowError`` (a ``DataError``) for the first row that
    breaks a rule.
    """

    image_id: npt.NDArray[np.str_]
    patient_id: npt.NDArray[np.str_]
    eye: npt.NDArray[np.str_]
    grade: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.image_id)
        if n == 0:
            raise DataError("predictions: there is no image in them", "Predict at least one image.")
        grade = np.asarray(self.grade)
        if grade.shape == (n,) and not np.issubdtype(grade.dtype, np.integer):
            raise DataError(f"predictions: the grades are {grade.dtype}, not integers")
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "image_id": np.array(self.image_id, dtype=np.str_),
            "patient_id": np.array(self.patient_id, dtype=np.str_),
            "eye": np.array(self.eye, dtype=np.str_),
            "grade": grade.astype(np.int64),
            "probabilities": np.array(self.probabilities, dtype=np.float64, order="C"),
        }
        for name, array in arrays.items():
            expected = (n, N_GRADES) if name == "probabilities" else (n,)
            if array.shape != expected:
                raise DataError(f"predictions: {name} has the shape {array.shape}, not {expected}")
            object.__setattr__(self, name, array)
        _check_rows(self)
        total = self.probabilities.sum(axis=1, keepdims=True)
        inexact = np.abs(total[:, 0] - 1.0) > _EXACT_SUM
        self.probabilities[inexact] /= total[inexact]
        for array in arrays.values():
            array.setflags(write=False)

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.image_id)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(N,) int64: the most probable grade; the lower one of two that are equally probable."""
        return np.asarray(np.argmax(self.probabilities, axis=1), dtype=np.int64)

    @property
    def expected_grade(self) -> npt.NDArray[np.float64]:
        """(N,) float64 in [0, 4]: sum over k of k * p_k."""
        # Not a matrix product: BLAS may round differently with the number of rows or threads.
        return np.asarray((self.probabilities * np.asarray(GRADES, dtype=np.float64)).sum(axis=1))

    @property
    def referable_score(self) -> npt.NDArray[np.float64]:
        """(N,) float64 in [0, 1]: the probability of referable DR, p2 + p3 + p4."""
        return np.asarray(self.probabilities[:, REFERABLE_GRADE:].sum(axis=1))

    @property
    def vision_threatening_score(self) -> npt.NDArray[np.float64]:
        """(N,) float64 in [0, 1]: the probability of vision-threatening DR, p3 + p4."""
        return np.asarray(self.probabilities[:, VISION_THREATENING_GRADE:].sum(axis=1))

    @property
    def binary(self) -> bool:
        """False: ``grade`` is on the scale 0..4 (see ``judged.Judged``)."""
        return False

    @property
    def lacking(self) -> str:
        """Empty: every metric can be computed from five probabilities (see ``judged.Judged``)."""
        return ""


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write ``predictions`` as CSV: image_id, patient_id, eye, grade, p0..p4, score (the expected grade).

    Numbers are written with as many digits as it takes to read the same float64 back: ``read_predictions`` returns
    exactly what was written. The file appears whole or not at all; missing folders are made. Raises ``DataError``
    where the file cannot be written.
    """
    columns = (
        predictions.image_id.tolist(),
        predictions.patient_id.tolist(),
        predictions.eye.tolist(),
        predictions.grade.tolist(),
        *predictions.probabilities.T.tolist(),
        predictions.expected_grade.tolist(),
    )
    write_rows(Path(path), COLUMNS, columns)


def write_rows(path: Path, header: Sequence[str], columns: Sequence[Sequence[object]]) -> None:
    """Write ``columns`` as CSV, whole or not at all; errors as in ``write_predictions``."""
    try:
        with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(zip(*columns, strict=True))
    except OSError as error:
        raise DataError(f"{path}: the predictions cannot be written: {error.strerror}") from error


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file (CSV with a header row, UTF-8).

    The columns image_id, grade and p0..p4 must be there, in any order; patient_id and eye may be missing (unknown);
    others are ignored. ``score`` is among these: it follows from the probabilities. Blank lines are skipped.

    Raises ``DataError`` naming file and line where the file cannot be read or a row cannot be right.
    """
    path = Path(path)
    header, rows, lines = read_rows(path)
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        found = ", ".join(repr(name) for name in header)
        raise DataError(
            f"{path}, line 1: no column {', '.join(missing)}; the columns found are {found}",
            f"A predictions file has the columns {', '.join(COLUMNS)}.",
        )
    repeated = sorted({name for name in header if name in COLUMNS and header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}, line 1: the column {repeated[0]} occurs {header.count(repeated[0])} times")
    if not rows:
        raise DataError(f"{path}: the file has a header but no row")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    unknown = ("",) * len(rows)
    try:
        return Predictions(
            image_id=np.array(columns["image_id"], dtype=np.str_),
            patient_id=np.array(columns.get("patient_id", unknown), dtype=np.str_),
            eye=np.array(columns.get("eye", unknown), dtype=np.str_),
            grade=np.array(_integers(columns["grade"], "grade"), dtype=np.int64),
            probabilities=np.array([_floats(columns[name], name) for name in PROBABILITY_COLUMNS]).T,
        )
    except PredictionRowError as error:
        raise DataError(f"{path}, line {lines[error.row]}: {error.problem}") from error


def read_rows(path: Path, *, delimiter: str = ",") -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows and the line each row ends on, of a CSV file in UTF-8; blank lines are skipped.

    Raises ``DataError`` naming file and line. (Python's csv keeps the lines; pandas would lose them.)
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            try:
                header = [name.strip() for name in next(reader, [])]
                for row in reader:
                    line = reader.line_num
                    if not row:
                        continue
                    if len(row) != len(header):
                        raise DataError(f"{path}, line {line}: {len(row)} values for {len(header)} columns")
                    rows.append(row)
                    lines.append(line)
            except csv.Error as error:
                raise DataError(f"{path}, line {reader.line_num}: not a CSV file: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {line}: not a text file in UTF-8") from error
    except OSError as error:
        raise DataError(
            f"{path}: the predictions cannot be read: {error.strerror}",
            "`retino eval RUN` writes a predictions file.",
        ) from error
    return header, rows, lines


def _floats(texts: Sequence[str], column: str) -> list[float]:
    try:
        return list(map(float, texts))
    except ValueError:
        row = next(i for i, text in enumerate(texts) if not _parses(text, float))
        raise PredictionRowError(row, f"{column} is {texts[row]!r}, not a number") from None


def _integers(texts: Sequence[str], column: str) -> list[int]:
    allowed = {str(grade): grade for grade in GRADES}
    try:
        return [allowed[text.strip()] for text in texts]
    except KeyError:
        row = next(i for i, text in enumerate(texts) if text.strip() not in allowed)
        raise PredictionRowError(row, f"{column} is {texts[row]!r}, not one of 0, 1, 2, 3, 4") from None


def _parses(text: str, kind: type[float]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _check_rows(predictions: Predictions) -> None:
    """Raise ``PredictionRowError`` for the first row that breaks a rule of ``Predictions``."""
    image_id, probabilities = predictions.image_id, predictions.probabilities

    def refuse(bad: npt.NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            name, values = str(image_id[row]), probabilities[row]
            raise PredictionRowError(
                row,
                problem.format(
                    name=repr(name),
                    grade=int(predictions.grade[row]),
                    eye=repr(str(predictions.eye[row])),
                    values=", ".join(f"{value:g}" for value in values),
                    total=f"{values.sum():.6g}",
                ),
            )

    refuse(image_id == "", "the image_id is empty")
    for text in (image_id, predictions.patient_id):
        broken = (np.strings.find(text, "\n") >= 0) | (np.strings.find(text, "\r") >= 0)
        refuse(broken, "image {name}: a line break in image_id or patient_id")
    refuse(~np.isin(predictions.eye, EYES), "image {name}: the eye is {eye}, not left, right or empty")
    refuse(~np.isin(predictions.grade, GRADES), "image {name}: the grade is {grade}, not one of 0, 1, 2, 3, 4")
    outside = np.any(~((probabilities >= 0.0) & (probabilities <= 1.0)), axis=1)  # NaN fails both comparisons
    refuse(outside, "image {name}: the probabilities {values} are not all between 0 and 1")
    unsummed = np.abs(np.sum(probabilities, axis=1) - 1.0) > SUM_TOLERANCE
    refuse(unsummed, "image {name}: the probabilities {values} sum to {total}, not 1")
    first = np.zeros(len(image_id), dtype=np.bool_)
    first[np.unique(image_id, return_index=True)[1]] = True
    refuse(~first, "image {name} occurs more than once")
