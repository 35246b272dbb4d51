"""Reading label files as text, so that every cell is known by its file and its physical line.

Python's own ``csv`` reads them, and not ``pandas.read_csv``: it says on which line a record began (quoted cells may
span lines), keeps rows that are too short or too long apart, and takes one second for 1,000,000 rows.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from retino_cli.errors import DataError

if TYPE_CHECKING:
    import _csv

_HEADER_BYTES = 65536
_DELIMITERS = (",", ";", "\t")
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines() also cuts at characters that editors do not count as lines


@dataclass(frozen=True, eq=False)
class TextTable:
    """The wanted columns of a label file, as stripped text.

    ``columns`` maps each wanted name to its cells (N strings); ``lines`` gives the physical line on which each of the N
    rows begins, counted from 1.
    """

    file: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)


def read_header(file: Path) -> tuple[str, ...]:
    """Return the stripped cells of the first line of a CSV file; ``()`` where it is empty or no text.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise _unreadable(file, error) from error
    # A cut in the middle of a character or of a line must not matter: only whole lines are looked at.
    first = _decode(head.rpartition(b"\n")[0] or head)
    if "\0" in first:
        return ()
    try:
        record = next(csv.reader(io.StringIO(first, newline=""), delimiter=_delimiter(first)), [])
    except csv.Error:
        return ()
    return tuple(cell.strip() for cell in record)


def read_table(file: Path, *, wanted: Sequence[str], optional: Sequence[str] = ()) -> TextTable:
    """Read columns of a CSV file with a header line.

    Names are matched without regard to case and outer blanks. Comma, semicolon and tab are understood; UTF-8 (with or
    without a byte-order mark) and UTF-16 too, anything else is read as Latin-1. Blank rows are skipped, and empty cells
    at the end of a row are ignored.

    Args:
        file: the CSV file.
        wanted: columns that must be there.
        optional: columns that are read where they are there.

    Raises:
        DataError: the file cannot be read, lacks a wanted column, has none but the header line, or has a row with more
            cells than the header; the message names the file and the line.
    """
    text = read_text(file)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        present = {name.casefold(): position for position, name in reversed(list(enumerate(header)))}
        for name in wanted:
            if name.casefold() not in present:
                listed = ", ".join(repr(cell) for cell in header if cell) or "none: the file is empty"
                raise DataError(
                    f"{file}, line 1: no column {name!r}; its columns: {listed}",
                    hint="name the columns with --image-column and --label-column",
                )
        names = [*wanted, *(name for name in optional if name.casefold() in present)]
        positions = [present[name.casefold()] for name in names]
        columns, lines = _read_records(file, reader, width=len(header), positions=positions)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: no valid CSV: {error}") from error
    if not lines:
        raise DataError(f"{file}: no rows below the header line")
    return TextTable(file, dict(zip(names, columns, strict=True)), lines)


def stream_column(file: Path, *, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (physical line, stripped cell) of one column of a CSV file, in constant memory however long it is.

    The column is the first of ``names`` that the header line has. What is understood is as in :func:`read_table`.

    Raises:
        DataError: the file cannot be read, has none of these columns, no row, or a row that is no valid CSV; the
            message names the file and the line.
    """
    try:
        with file.open(encoding=_find_encoding(file), newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=_delimiter(head), strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            present = {name.casefold(): position for position, name in reversed(list(enumerate(header)))}
            position = next((present[name.casefold()] for name in names if name.casefold() in present), None)
            if position is None:
                listed = ", ".join(repr(cell) for cell in header if cell) or "none: the file is empty"
                raise DataError(
                    f"{file}, line 1: no column {' or '.join(names)}; its columns: {listed}",
                    hint="name the column with the images with --image-column",
                )
            start, rows = reader.line_num + 1, 0
            for record in reader:
                begin, start = start, reader.line_num + 1
                if not "".join(record).strip():
                    continue
                if any(cell.strip() for cell in record[len(header) :]):
                    raise _too_many_cells(file, begin, record, len(header))
                yield begin, record[position].strip() if position < len(record) else ""
                rows += 1
            if not rows:
                raise DataError(f"{file}: no rows below the header line", hint="name a file that lists images")
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num}: no valid CSV: {error}", hint="put the line right, and run again"
        ) from error
    except OSError as error:
        raise _unreadable(file, error) from error


def read_single_column(file: Path) -> TextTable:
    """Read a file of one column WITHOUT header line; its column is called ``"value"``.

    Blank lines at the end are ignored; one in the middle stays, as an empty cell, because the rows of two such files
    belong together by their position.

    Raises:
        DataError: the file cannot be read, is empty, or has a line with more than one cell.
    """
    lines = _LINE_END.split(read_text(file))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{file}: the file is empty")
    cells = [line.strip().rstrip(",;").strip().strip('"').strip() for line in lines]
    for number, cell in enumerate(cells, start=1):
        if "," in cell or ";" in cell or "\t" in cell:
            raise DataError(f"{file}, line {number}: more than one column in {cell!r}; the file has one value a line")
    return TextTable(file, {"value": cells}, list(range(1, len(cells) + 1)))


def read_text(file: Path) -> str:
    """Return the text of a label file.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    text = _decode(content)
    if "\0" in text:
        raise DataError(f"{file}: not a text file", hint="name the label file (CSV), or the folder that holds it")
    return text


def first_lines(file: Path, count: int) -> list[str]:
    """Return the first lines of a text file, stripped; ``[]`` where it is no text."""
    try:
        with file.open("rb") as stream:
            raw = list(islice(stream, count))
    except OSError as error:
        raise _unreadable(file, error) from error
    text = _decode(b"".join(raw))
    return [] if "\0" in text else [line.strip() for line in _LINE_END.split(text)]


def _read_records(
    file: Path, reader: _csv.Reader, *, width: int, positions: list[int]
) -> tuple[list[list[str]], list[int]]:
    columns: list[list[str]] = [[] for _ in positions]
    lines: list[int] = []
    start = reader.line_num + 1
    for record in reader:
        begin, start = start, reader.line_num + 1
        if len(record) != width:
            if not "".join(record).strip():
                continue
            if any(cell.strip() for cell in record[width:]):
                raise _too_many_cells(file, begin, record, width)
            record = (record + [""] * width)[:width]
        cells = [record[position].strip() for position in positions]
        if not any(cells) and not "".join(record).strip():
            continue
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
        lines.append(begin)
    return columns, lines


def _decode(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _find_encoding(file: Path) -> str:
    """The encoding that ``_decode`` would read the whole file with."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as stream:
        chunk = stream.read(_HEADER_BYTES)
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        encoding = "utf-8-sig"
        while chunk:
            if b"\0" in chunk:
                raise DataError(f"{file}: not a text file", hint="name a CSV file, an image, or a folder of images")
            if encoding != "latin-1":
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    encoding = "latin-1"
            chunk = stream.read(_HEADER_BYTES)
    return encoding


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


def _too_many_cells(file: Path, line: int, record: list[str], width: int) -> DataError:
    return DataError(
        f"{file}, line {line}: {len(record)} cells, but the header names {width} columns",
        hint='put names that hold a comma in quotes: "a, b.jpg"',
    )


def _unreadable(file: Path, error: OSError) -> DataError:
    return DataError(f"{file}: cannot be read: {error.strerror or error}")
