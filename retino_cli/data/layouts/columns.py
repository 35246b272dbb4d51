"""Any CSV file, its columns named by the user."""

from __future__ import annotations

from pathlib import Path

from retino_cli.data.labels import ColumnNames, LabelPart
from retino_cli.data.layouts.base import Site
from retino_cli.data.tables import read_table
from retino_cli.data.tree import split_in_name
from retino_cli.errors import DataError

_OTHER_SPLIT_NAMES = {"public": "val", "private": "test"}


def find_csv(site: Site) -> list[Path]:
    """Return the one CSV file at a site.

    Raises:
        DataError: there is none, or more than one.
    """
    files = [site.only] if site.only is not None else site.files(".csv")
    if len(files) != 1:
        held = f"{len(files)} CSV files: {', '.join(file.name for file in files[:10])}" if files else "no CSV file"
        raise DataError(f"{site.folder}: {held}", hint="name the CSV file itself")
    return files


def read_csv(files: list[Path], columns: ColumnNames) -> list[LabelPart]:
    """Read a CSV file by the names of its columns; without a split column all rows are "train".

    Raises:
        DataError: a column is missing, or a split is none of train, val, test (in their usual spellings).
    """
    file = files[0]
    given = [name for name in (columns.split, columns.patient) if name is not None]
    table = read_table(file, wanted=tuple(dict.fromkeys((columns.image, columns.label, *given))))
    split: str | list[str] = "train"
    if columns.split is not None:
        cells = table.columns[columns.split]
        known = {cell: split_in_name(cell) or _OTHER_SPLIT_NAMES.get(cell.lower()) for cell in set(cells)}
        split = [known[cell] or "" for cell in cells]
        for line, cell, found in zip(table.lines, cells, split, strict=True):
            if not found:
                raise DataError(
                    f"{file}, line {line}: the split is {cell!r}; splits are train, val (validation) and test"
                )
    patients = None if columns.patient is None else table.columns[columns.patient]
    names, grades = table.columns[columns.image], table.columns[columns.label]
    return [LabelPart(file, names, grades, split, table.lines, patient_id=patients)]
