"""Files of predictions for images without known grades: CSV, JSON lines or Parquet, row by row, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from retino_cli.errors import DataError, UsageError
from retino_cli.evaluation.predictions import PROBABILITY_COLUMNS
from retino_cli.whole import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("image", *PROBABILITY_COLUMNS, "score", "grade", "referable", "refer", "error")
ROW_GROUP: Final = 4096
"""Rows of a Parquet file that are held in memory and written together."""


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """What a grader says about one image.

    ``image``: its name, as given. ``probabilities``: p0..p4, of grades 0 to 4. ``score``: the expected grade, the sum
    over k of k * p_k, 0..4. ``grade``: the most probable one; the lower one of two that are equally probable.
    ``referable``: probability of referable DR, p2 + p3 + p4. ``refer``: whether that is at least the threshold of the
    operating point; None where the grader has none. ``error``: why there is no prediction, and then the
    numbers are None; else "".
    """

    image: str
    probabilities: tuple[float, ...] | None = None
    score: float | None = None
    grade: int | None = None
    referable: float | None = None
    refer: bool | None = None
    error: str = ""

    def cells(self) -> tuple[str | float | bool | None, ...]:
        """The values of ``COLUMNS``. Bytes of a file name that are no UTF-8 are written as \\xNN."""
        numbers = self.probabilities or (None,) * len(PROBABILITY_COLUMNS)
        return (
            printable(self.image),
            *numbers,
            self.score,
            self.grade,
            self.referable,
            self.refer,
            printable(self.error),
        )


class RowWriter(Protocol):
    """Writes rows to a file that is open."""

    def write(self, rows: Iterable[ImagePrediction]) -> None:
        """Append rows."""

    def finish(self) -> None:
        """Write what has been held back; the file is closed by whoever opened it."""


class CsvWriter:
    """CSV in UTF-8 with a header row. Numbers have as many digits as it takes to read the same float64 back; truth is
    true or false."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._writer.writerow(COLUMNS)

    def write(self, rows: Iterable[ImagePrediction]) -> None:
        for row in rows:
            # Python's writer leaves a carriage return unquoted, and its reader takes it for the end of the row.
            writer = self._quoting if "\r" in row.image + row.error else self._writer
            writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row.cells()])

    def finish(self) -> None:
        pass


class JsonLinesWriter:
    """One JSON object per line, with the names of ``COLUMNS``; numbers that are not there are null."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, rows: Iterable[ImagePrediction]) -> None:
        for row in rows:
            values = dict(zip(COLUMNS, row.cells(), strict=True))
            self._file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    def finish(self) -> None:
        pass


class ParquetWriter:
    """Parquet in row groups of ``ROW_GROUP``. ``metadata`` is kept with the schema."""

    def __init__(self, file: IO[bytes], *, metadata: dict[str, str] | None = None) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema().with_metadata(metadata)
        self._writer = pq.ParquetWriter(file, self._schema)
        self._held: list[tuple[Any, ...]] = []

    def write(self, rows: Iterable[ImagePrediction]) -> None:
        for row in rows:
            self._held.append(row.cells())
            if len(self._held) == ROW_GROUP:
                self._write_group()

    def finish(self) -> None:
        if self._held:
            self._write_group()
        self.close()

    def close(self) -> None:
        """Let go of the file; rows held back are lost where :meth:`finish` has not been called."""
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*self._held, strict=True), self._schema.types, strict=True)
        ]
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=ROW_GROUP)
        self._held.clear()


WRITERS: Final = {".csv": CsvWriter, ".jsonl": JsonLinesWriter, ".parquet": ParquetWriter}


def check_format(out: Path) -> None:
    """Raise ``UsageError`` for a file whose extension names none of the formats."""
    if out.suffix.lower() not in WRITERS:
        raise UsageError(
            f"--out {out}: the extension names no format.", f"Choose one of: {', '.join(WRITERS)}; or - for stdout."
        )


@contextmanager
def writing(out: Path, *, metadata: dict[str, str] | None = None) -> Iterator[RowWriter]:
    """A writer for ``out``, which appears under its name, whole, when the block ends without an exception.

    See :func:`~retino_cli.whole.whole_file`. The extension chooses the format; ``metadata``, for a shard, means
    Parquet. Raises ``DataError`` where the file cannot be written.
    """
    with _naming(out), whole_file(out) as partial:
        yield from _fill(out, partial, metadata)


def _fill(out: Path, partial: Path, metadata: dict[str, str] | None) -> Iterator[RowWriter]:
    if metadata is not None or out.suffix.lower() == ".parquet":
        with partial.open("wb") as binary:
            parquet = ParquetWriter(binary, metadata=metadata)
            try:
                yield parquet
                parquet.finish()
                _sync(binary)
            finally:
                parquet.close()
        return
    with partial.open("w", encoding="utf-8", newline="") as text:
        writer: RowWriter = JsonLinesWriter(text) if out.suffix.lower() == ".jsonl" else CsvWriter(text)
        yield writer
        writer.finish()
        _sync(text)


def read_parquet(file: Path) -> Iterator[list[ImagePrediction]]:
    """The rows of a Parquet file that :class:`ParquetWriter` wrote, a row group at a time.

    Raises ``DataError`` where it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                yield [_row(values) for values in parquet.read_row_group(group).to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read: {error}", f"Delete {file}, and predict its images again.") from error


def _row(values: dict[str, Any]) -> ImagePrediction:
    numbers = tuple(values[name] for name in PROBABILITY_COLUMNS)
    return ImagePrediction(
        image=values["image"],
        probabilities=None if numbers[0] is None else numbers,
        score=values["score"],
        grade=values["grade"],
        referable=values["referable"],
        refer=values["refer"],
        error=values["error"],
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pa.float64())
    return pa.schema(kinds | {"image": pa.string(), "grade": pa.int8(), "refer": pa.bool_(), "error": pa.string()})


def printable(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are none become \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _naming(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{out}: the predictions cannot be written: {error.strerror or error}",
            "Name another file with --out, or make room there.",
        ) from error
