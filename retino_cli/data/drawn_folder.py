"""A folder that retino fills with drawn pictures: what marks it, who may overwrite it, and how its files are written.

The marker is written first and says ``"complete": false`` until everything else is there; the label files are written
after the last picture. A run that was killed leaves a folder that no reader takes for a data set.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, PngImagePlugin

from retino_cli.errors import DataError
from retino_cli.whole import whole_file

README: Final = "README.md"
JPEG_OPTIONS: Final = {"quality": 92, "subsampling": 0, "optimize": False}
"""Chroma is not subsampled: a microaneurysm is two or three pixels of colour."""


@dataclass(frozen=True)
class FolderKind:
    """What tells a folder of ours from anybody else's, and which files in it are ours.

    ``marker``: name of the JSON file in which ``key`` is true; ``what``: the data set, in words; ``labels``: its label
    files; ``folders``: subfolders with pictures whose names begin with ``prefix``; ``example``: a folder to name.
    """

    marker: str
    key: str
    what: str
    labels: tuple[str, ...]
    folders: tuple[str, ...]
    prefix: str
    example: str


def read_marker(folder: Path, kind: FolderKind) -> dict[str, Any] | None:
    """The content of the folder's marker, or None where this is no folder of that kind."""
    try:
        content = json.loads((folder / kind.marker).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get(kind.key) is True else None


def holds_all(
    folder: Path, kind: FolderKind, parameters: dict[str, Any], *, labels: Collection[str], pictures: Collection[Path]
) -> bool:
    """Whether ``folder`` already holds, in full, what ``parameters`` describe: every one of these files."""
    marker = read_marker(folder, kind)
    if marker is None or marker.get("complete") is not True or marker.get("parameters") != parameters:
        return False
    if not all((folder / name).is_file() for name in (*labels, README)):
        return False
    held: set[Path] = set()
    for name in kind.folders:
        if (folder / name).is_dir():
            held.update((folder / name).iterdir())
    return held.issuperset(pictures)


def refuse_foreign(folder: Path, kind: FolderKind) -> None:
    """Raise DataError where ``folder`` is a file, or holds something that is not ours."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder", hint="name a new or an empty folder")
    with explained(folder):
        if folder.is_dir() and any(folder.iterdir()) and read_marker(folder, kind) is None:
            raise DataError(
                f"{folder} is not empty, and holds no {kind.what}: nothing was written there",
                hint=f"name a new or an empty folder, such as {kind.example}",
            )


def claim_folder(
    folder: Path, kind: FolderKind, marker: Mapping[str, Any], *, readme: str, folders: Collection[str]
) -> None:
    """Make ``folder`` ready: mark it as unfinished, take away an earlier set of the kind, make its subfolders.

    Raises:
        DataError: it is a file, cannot be written, or holds something that is not ours.
    """
    refuse_foreign(folder, kind)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in kind.labels:  # first: without labels it is no data set any more
            (folder / name).unlink(missing_ok=True)
        write_marker(folder, kind, marker, complete=False)
        for name in kind.folders:
            if (folder / name).is_dir():
                for path in (folder / name).glob(f"{kind.prefix}*"):
                    path.unlink()
                if not any((folder / name).iterdir()):
                    (folder / name).rmdir()
        for name in folders:
            (folder / name).mkdir(exist_ok=True)
        write_text(folder / README, readme)


def write_marker(folder: Path, kind: FolderKind, content: Mapping[str, Any], *, complete: bool) -> None:
    """Write the file that says what this folder is."""
    marker = {kind.key: True, "complete": complete, **content}
    write_text(folder / kind.marker, json.dumps(marker, indent=2) + "\n")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a failed write into a DataError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: the disk is full",
                hint="free some space, or draw fewer (--patients, --pictures) or smaller (--size) pictures, "
                "then try again",
            ) from error
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}", hint="choose a folder that you may write to"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with explained(path), whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def save_jpeg(pixels: np.ndarray[Any, np.dtype[np.uint8]], path: Path, *, note: str, software: str) -> None:
    """Write a picture; ``note`` (ASCII) is its EXIF description and JPEG comment and says that it was drawn."""
    exif = Image.Exif()
    exif[0x010E] = note  # ImageDescription
    exif[0x0131] = software
    with explained(path):
        Image.fromarray(pixels).save(path, "JPEG", exif=exif, comment=note.encode("ascii"), **JPEG_OPTIONS)


def save_mask(values: np.ndarray[Any, np.dtype[np.uint8]], path: Path, *, note: str) -> None:
    """Write (H, W) values as a PNG of 8 bits that carries ``note``."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", note)
    with explained(path):
        Image.fromarray(values).save(path, "PNG", pnginfo=text)
