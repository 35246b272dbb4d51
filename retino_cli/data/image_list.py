"""Images without grades, named one by one, by folder or by a column of a CSV file: what predictions are made for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from retino_cli.data.images import IMAGE_EXTENSIONS, is_image
from retino_cli.data.pictures import EncodedPicture, split_source
from retino_cli.data.tables import stream_column
from retino_cli.errors import DataError, UsageError

IMAGE_COLUMNS: Final = ("path", "filename", "file_name", "image", "image_id", "image name", "id_code")
"""Columns that are recognised as naming images, the first one that is there."""
TABLE_EXTENSIONS: Final = (".csv", ".tsv")

_ENDINGS: Final = (*IMAGE_EXTENSIONS, *(extension.upper() for extension in IMAGE_EXTENSIONS))


class NamedImage(NamedTuple):
    """``name``: as it was given; ``source``: where it lies (what ``prepare_picture`` takes)."""

    name: str
    source: str | EncodedPicture


class ImageList:
    """The images that ``sources`` name, in their order; read anew, in constant memory, each time it is iterated.

    A source is

    - an image file (any extension), or a row of an array, "FILE.npz#test/12";
    - a folder: every file in it, and in its subfolders, with the extension of an image, sorted by path; hidden ones are
      left out, and links are followed;
    - a CSV file (.csv, .tsv) that names images in the column ``image_column``, else in the first of ``IMAGE_COLUMNS``
      that it has. Names are relative to ``images``, else to the file's folder. A name without an extension is the file
      with the first of ``IMAGE_EXTENSIONS`` that is there.

    Of one folder the names of its files are held at a time, about 100 bytes each, to sort them.

    Raises ``DataError``, when it is made, for a source that does not exist; while it is read, for a folder without
    images and for a CSV file without such a column or with an empty cell in it (file and line are named).
    """

    def __init__(
        self, sources: Sequence[str | Path], *, image_column: str | None = None, images: Path | None = None
    ) -> None:
        if not sources:
            raise UsageError("There is nothing to predict.", "Name images, folders or CSV files.")
        self.sources = tuple(os.fspath(source) for source in sources)
        self._columns = IMAGE_COLUMNS if image_column is None else (image_column,)
        self._images = images
        if images is not None and not images.is_dir():
            raise DataError(f"{images}: no such folder", "Name the folder that holds the images with --images.")
        tables = False
        for source in self.sources:
            if not os.path.exists(split_source(source)[0]):
                raise DataError(f"{source}: no such file or folder", "Name an image, a folder or a CSV file.")
            tables = tables or _is_table(source)
        if not tables and (image_column is not None or images is not None):
            flag = "--images" if image_column is None else "--image-column"
            raise UsageError(f"{flag} is for CSV files, and none is named.", "Name a .csv or .tsv file.")

    def __iter__(self) -> Iterator[NamedImage]:
        for source in self.sources:
            if os.path.isdir(source):
                yield from _read_folder(source)
            elif _is_table(source):
                yield from self._read_table(Path(source))
            else:
                yield NamedImage(source, source)

    def count(self) -> int:
        """The number of images N, by reading through the whole list, which also finds what is wrong with it."""
        return sum(1 for _ in self)

    def _read_table(self, file: Path) -> Iterator[NamedImage]:
        base = file.parent if self._images is None else self._images
        for line, name in stream_column(file, names=self._columns):
            if not name:
                raise DataError(f"{file}, line {line}: the image has no name", "Fill the cell, or delete the line.")
            yield NamedImage(name, _locate(base, name))


def _is_table(source: str) -> bool:
    return source.lower().endswith(TABLE_EXTENSIONS)


def _locate(base: Path, name: str) -> str:
    clean = name if split_source(name)[1] else name.replace("\\", "/")
    path = os.path.normpath(os.path.join(base, clean))
    if is_image(path) or os.path.exists(path):
        return path
    return next((path + ending for ending in _ENDINGS if os.path.isfile(path + ending)), path)


def _read_folder(folder: str) -> Iterator[NamedImage]:
    shown = os.path.normpath(folder)
    found = False
    for path in _walk("" if shown == os.curdir else shown, ()):
        found = True
        yield NamedImage(path, path)
    if not found:
        raise DataError(
            f"{folder}: there is no image in this folder or below it",
            f"Images are recognised by their extension: {', '.join(IMAGE_EXTENSIONS)}.",
        )


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Image paths below ``folder``, sorted. ``above``: the folders it lies in, so that a link back up is no loop."""
    try:
        status = os.stat(folder or os.curdir)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(folder or os.curdir) as entries:
            # Folders are sorted with their separator: then all paths come out sorted as texts.
            names = sorted(
                entry.name + os.sep if entry.is_dir() else entry.name
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        raise DataError(
            f"{folder}: the folder cannot be read: {error.strerror or error}", "Grant access to it, or name another."
        ) from error
    for name in names:
        if name.endswith(os.sep):
            yield from _walk(os.path.join(folder, name[:-1]), (*above, identity))
        elif is_image(name):
            yield os.path.join(folder, name)
