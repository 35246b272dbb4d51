"""What ``explain`` leaves in its folder: overlays, raw maps, and ``explain.csv``, which lists them."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image

from retino_cli.data.pictures import split_source
from retino_cli.errors import DataError, UsageError
from retino_cli.evaluation.prediction_files import ImagePrediction, printable
from retino_cli.evaluation.predictions import PROBABILITY_COLUMNS
from retino_cli.explain.overlay import Box
from retino_cli.whole import whole_file

INDEX: Final = "explain.csv"
COLUMNS: Final = (
    "image", "overlay", "map", "grade", *PROBABILITY_COLUMNS, "referable", "explained", "peak_x", "peak_y", "in_field",
    "left", "top", "right", "bottom", "error",
)  # fmt: skip

PictureFormat = Literal["jpeg", "png"]
MapFormat = Literal["none", "npy", "png"]

# At this quality, with colour at full resolution, no edge of the heat shows blocks; PNG takes five times the space.
_JPEG: Final = {"quality": 90, "subsampling": "4:4:4"}
_LONGEST_NAME: Final = 180  # bytes; file systems allow 255, and endings are added
_ENDING: Final = ".gradcam"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an image's heat map says: a row of ``explain.csv``.

    ``prediction``: as ``predict`` makes it. ``overlay``, ``map``: names of the files, "" where there is none.
    ``explained``: "grade K" or "referable". ``peak``: column and row of the hottest pixel, of the upright original;
    None for a map that is 0 everywhere. ``in_field``: share of the heat that lies in the round field, 0..1, else None.
    ``box``: what of the original the model saw. ``error``: why there is no map, else "".
    """

    prediction: ImagePrediction
    overlay: str = ""
    map: str = ""
    explained: str = ""
    peak: tuple[int, int] | None = None
    in_field: float | None = None
    box: Box | None = None
    error: str = ""

    def cells(self) -> tuple[str | float | int | None, ...]:
        """The values of ``COLUMNS``."""
        numbers = self.prediction.probabilities or (None,) * len(PROBABILITY_COLUMNS)
        return (
            printable(self.prediction.image), self.overlay, self.map, self.prediction.grade, *numbers,
            self.prediction.referable, self.explained, *(self.peak or (None, None)), self.in_field,
            *(self.box or (None,) * 4), printable(self.error),
        )  # fmt: skip


@contextmanager
def writing_index(folder: Path) -> Iterator[Callable[[Explanation], None]]:
    """A function that appends a row to ``explain.csv``, which appears, whole, when the block ends without an exception.

    The folder is made. Raises ``DataError`` where something cannot be written there, inside of the block, too.
    """
    try:
        with whole_file(folder / INDEX) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            plain = csv.writer(file, lineterminator="\n")
            quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            plain.writerow(COLUMNS)

            def write(row: Explanation) -> None:
                # Python's writer leaves a carriage return unquoted, and its reader takes it for the row's end.
                bare = "\r" in row.prediction.image + row.error
                (quoting if bare else plain).writerow(row.cells())

            yield write
    except OSError as error:
        raise DataError(
            f"{folder}: the heat maps cannot be written: {error.strerror or error}",
            "Name another folder with --out, or make room there.",
        ) from error


def check_folder(folder: Path, sources: Sequence[str]) -> None:
    """Raise where ``folder`` holds something else than earlier heat maps, or lies in a folder that is to be read."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is no folder.", "Name a folder; it is made where it does not exist.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise UsageError(
            f"--out {folder} holds other files already.", f"Name a new folder, or one with the {INDEX} of before."
        )
    place = folder.resolve()
    for source in sources:
        if os.path.isdir(source) and place.is_relative_to(Path(source).resolve()):
            raise UsageError(
                f"--out {folder} lies in {source}, whose images are to be explained.",
                "Name a folder elsewhere, or the overlays will be taken for photographs.",
            )


class FileNames:
    """A name for the files of each image, made of its own, that no other image of the same call has."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def choose(self, image: str) -> str:
        """ "photographs/left 12.jpg" -> "left 12.gradcam", and "left 12-2.gradcam" where that is taken."""
        file, split, row = split_source(image)
        stem = os.path.splitext(os.path.basename(file.replace("\\", "/")))[0] + (f"-{split}-{row}" if split else "")
        clean = re.sub(r"[^\w.,+=@()\- ]", "_", stem.encode("utf-8", "replace").decode("utf-8")).strip(". ") or "image"
        clean = clean.encode()[:_LONGEST_NAME].decode("utf-8", "ignore")
        name, number = clean, 1
        while name.casefold() in self._taken:  # some file systems do not tell cases apart
            number += 1
            name = f"{clean}-{number}"
        self._taken.add(name.casefold())
        return name + _ENDING


def save_overlay(picture: Image.Image, folder: Path, name: str, picture_format: PictureFormat) -> str:
    """Write the picture, without metadata; returns the file's name."""
    file = f"{name}.{'jpg' if picture_format == 'jpeg' else 'png'}"
    if picture_format == "jpeg":
        picture.save(folder / file, "JPEG", **_JPEG)
    else:
        picture.save(folder / file, "PNG")
    return file


def save_map(heat: np.ndarray, folder: Path, name: str, map_format: MapFormat) -> str:
    """Write the map (S, S) of the model's input: float32, or grey of 16 bits from 0 to 65535; returns the file's name,
    "" with "none"."""
    if map_format == "none":
        return ""
    file = f"{name}.map.{map_format}" if map_format == "png" else f"{name}.{map_format}"
    if map_format == "npy":
        np.save(folder / file, heat, allow_pickle=False)
    else:
        Image.fromarray(np.rint(heat * 65535.0).astype(np.uint16)).save(folder / file, "PNG")
    return file
