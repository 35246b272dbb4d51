"""Somebody else's predictions: any CSV or Parquet file with five probabilities, a referable score, or plain grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from retino_cli.errors import DataError
from retino_cli.evaluation.judged import GradedPredictions, ScoredPredictions
from retino_cli.evaluation.predictions import PredictionRowError, Predictions, read_rows
from retino_cli.grades import GRADES, N_GRADES

PROBABILITY_NAMES: Final = (
    "p{}", "p_{}", "dr{}", "dr_{}", "prob{}", "prob_{}", "proba_{}", "probability_{}", "class{}", "class_{}",
    "grade{}", "grade_{}", "{}",
)  # fmt: skip
SCORE_NAMES: Final = ("referable_score", "p_referable", "prob_referable", "rdr_score", "rdr_probability")
GRADE_NAMES: Final = (
    "predicted", "prediction", "pred", "predicted_grade", "grade_predicted", "pred_grade", "predicted_label", "y_pred",
)  # fmt: skip
LABEL_NAMES: Final = (
    "grade", "label", "gt", "level", "diagnosis", "target", "y_true", "true_grade", "true_label", "ground_truth",
    "adjudicated_dr_grade", "retinopathy grade", "dr_level",
)  # fmt: skip
ID_NAMES: Final = ("image_id", "image", "id", "id_code", "image_name", "image name", "filename", "file", "name", "path")
PATIENT_NAMES: Final = ("patient_id", "patient", "subject_id", "subject")
EYE_NAMES: Final = ("eye", "side", "laterality")

_EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right", "": ""}


@dataclass(frozen=True, eq=False)
class _Table:
    """Columns as text or numbers, where each row stands in the file, and which columns the user ``named``."""

    path: Path
    columns: dict[str, list[str] | npt.NDArray[np.generic]]
    lines: list[int]
    unit: str
    named: frozenset[str] = frozenset()

    def find(self, given: str | None, names: Sequence[str], flag: str, *, first: bool = False) -> str | None:
        """The column that the user named, else the one that has one of ``names`` (in any case), else None.

        Columns that the user named for something else are not recognised. Of several matches ``first`` takes the first
        of ``names``; without it they are an error.
        """
        if given is not None:
            if given not in self.columns:
                raise DataError(f"{self.path}: there is no column {given!r} ({flag}); {self._found()}")
            return given
        matches = [column for column in self.columns if column.lower() in names and column not in self.named]
        if len(matches) > 1 and first:
            return min(matches, key=lambda column: names.index(column.lower()))
        if len(matches) > 1:
            shown = " and ".join(repr(name) for name in matches)
            raise DataError(f"{self.path}: {shown} could both be meant", f"Name the right one with {flag}.")
        return matches[0] if matches else None

    def need(self, found: str | None, what: str, flag: str) -> str:
        if found is None:
            raise DataError(
                f"{self.path}: no column is known to hold {what}; {self._found()}", f"Name the column with {flag}."
            )
        return found

    def text(self, column: str) -> list[str]:
        values = self.columns[column]
        if isinstance(values, list):
            return [value.strip() for value in values]
        return ["" if pd.isna(value) else str(value).strip() for value in values.tolist()]

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        values = self.columns[column]
        if not isinstance(values, list) and np.issubdtype(values.dtype, np.number):
            return np.asarray(values, dtype=np.float64)
        texts = self.text(column)
        try:
            return np.array([float(text) for text in texts])
        except ValueError:
            row = next(i for i, text in enumerate(texts) if not _is_number(text))
            raise PredictionRowError(row, f"{column} is {texts[row]!r}, not a number") from None

    def grades(self, column: str) -> npt.NDArray[np.int64]:
        values = self.numbers(column)
        wrong = ~np.isin(values, GRADES)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise PredictionRowError(row, f"{column} is {self.text(column)[row]!r}, not one of 0, 1, 2, 3, 4")
        return values.astype(np.int64)

    def _found(self) -> str:
        return f"the columns found are {', '.join(repr(name) for name in self.columns)}"


def read_foreign(
    path: Path,
    *,
    probability_columns: Sequence[str] | None = None,
    score_column: str | None = None,
    grade_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    patient_column: str | None = None,
    eye_column: str | None = None,
) -> Predictions | ScoredPredictions | GradedPredictions:
    """Read predictions from a CSV (comma, semicolon or tab) or Parquet file with a header.

    What the file holds decides what comes back: five probabilities -> ``Predictions``; else a score for referable DR ->
    ``ScoredPredictions``; else predicted grades -> ``GradedPredictions``. Columns that are not named are recognised by
    the usual names (the lists of this module), in any case; a named one goes before a recognised one. The true grade
    must be there. Without an image column rows are called "row 1", "row 2", ...; patient and eye may be missing. Labels
    of a score file that are only 0 and 1 mean not referable and referable.

    Raises ``DataError`` naming the file, and the line where a row cannot be right, or the columns found where one is
    missing or two could be meant.
    """
    path = Path(path)
    given = (score_column, grade_column, label_column, id_column, patient_column, eye_column)
    named = frozenset(name for name in (*given, *(probability_columns or ())) if name is not None)
    table = replace(_read_table(path), named=named)
    try:
        return _assemble(
            table,
            probabilities=_find_probabilities(table, probability_columns),
            score=score_column,
            predicted=grade_column,
            label=table.need(table.find(label_column, LABEL_NAMES, "--label-column"), "true grades", "--label-column"),
            image=table.find(id_column, ID_NAMES, "--id-column", first=True),
            patient=table.find(patient_column, PATIENT_NAMES, "--patient-column", first=True),
            eye=table.find(eye_column, EYE_NAMES, "--eye-column", first=True),
            named_other=probability_columns is None and (score_column is not None or grade_column is not None),
        )
    except PredictionRowError as error:
        raise DataError(f"{path}, {table.unit} {table.lines[error.row]}: {error.problem}") from error


def _assemble(
    table: _Table,
    *,
    probabilities: list[str] | None,
    score: str | None,
    predicted: str | None,
    label: str,
    image: str | None,
    patient: str | None,
    eye: str | None,
    named_other: bool,
) -> Predictions | ScoredPredictions | GradedPredictions:
    n = len(table.lines)
    rows = [f"row {i + 1}" for i in range(n)]
    image_id = np.array(rows if image is None else table.text(image), dtype=np.str_)
    patient_id = np.array([""] * n if patient is None else table.text(patient), dtype=np.str_)
    eyes = np.array([""] * n if eye is None else _read_eyes(table, eye), dtype=np.str_)
    grade = table.grades(label)
    if probabilities is not None and not named_other:
        p = np.stack([table.numbers(name) for name in probabilities], axis=1)
        return Predictions(image_id, patient_id, eyes, grade, p)
    if predicted is None:
        score = table.find(score, SCORE_NAMES, "--score-column")
    if score is not None:
        binary = bool(np.isin(grade, (0, 1)).all())
        return ScoredPredictions(image_id, patient_id, eyes, grade, table.numbers(score), binary)
    predicted = table.need(
        table.find(predicted, GRADE_NAMES, "--grade-column"),
        "five probabilities, a referable score or predicted grades",
        "--probability-columns, --score-column or --grade-column",
    )
    return GradedPredictions(image_id, patient_id, eyes, grade, table.grades(predicted))


def _find_probabilities(table: _Table, given: Sequence[str] | None) -> list[str] | None:
    """The columns of p0..p4: those that were named, else the one family of usual names that is complete."""
    if given is not None:
        if len(given) != N_GRADES:
            raise DataError(
                f"{table.path}: {len(given)} probability columns are named, not {N_GRADES}",
                "Name one for each of the grades 0, 1, 2, 3, 4, in this order, with --probability-columns.",
            )
        return [str(table.find(name, (), "--probability-columns")) for name in given]
    by_name = {column.lower(): column for column in table.columns}
    families = [[pattern.format(grade) for grade in GRADES] for pattern in PROBABILITY_NAMES]
    complete = [family for family in families if all(name in by_name for name in family)]
    if len(complete) > 1:
        shown = " and ".join(f"{by_name[family[0]]}..{by_name[family[-1]]}" for family in complete)
        raise DataError(f"{table.path}: {shown} could both be meant", "Name the right ones with --probability-columns.")
    return [by_name[name] for name in complete[0]] if complete else None


def _read_eyes(table: _Table, column: str) -> list[str]:
    texts = table.text(column)
    unknown = [row for row, text in enumerate(texts) if text.lower() not in _EYES]
    if unknown:
        raise PredictionRowError(unknown[0], f"{column} is {texts[unknown[0]]!r}, not left or right (L, R, OS, OD)")
    return [_EYES[text.lower()] for text in texts]


def _read_table(path: Path) -> _Table:
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    header, rows, lines = read_rows(path, delimiter=_delimiter(path))
    repeated = sorted({name for name in header if header.count(name) > 1 and name})
    if repeated:
        raise DataError(f"{path}, line 1: the column {repeated[0]} occurs {header.count(repeated[0])} times")
    if not rows:
        raise DataError(f"{path}: the file has a header but no row" if header else f"{path}: the file is empty")
    return _Table(path, dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)), lines, "line")


def _read_parquet(path: Path) -> _Table:
    try:
        frame = pd.read_parquet(path)
    except OSError as error:
        raise DataError(f"{path}: the predictions cannot be read: {error.strerror or error}") from error
    except Exception as error:  # pyarrow raises many kinds
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    if len(frame) == 0:
        raise DataError(f"{path}: the file has no row")
    if frame.index.name is not None:  # pandas keeps an index of names beside the columns
        frame = frame.reset_index()
    columns = {str(name): np.asarray(frame[name].to_numpy()) for name in frame.columns}
    return _Table(path, dict(columns), list(range(1, len(frame) + 1)), "row")


def _delimiter(path: Path) -> str:
    """Comma, semicolon or tab: the most frequent of them in the header."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
    except OSError:
        return ","  # ``read_rows`` says what is wrong
    return max(",;\t", key=header.count)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
