"""The folder of painted photographs: its pictures, the marker, the label file, and its README."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.config import TrainConfig
from retino_cli.data import drawn_folder
from retino_cli.data.drawn_folder import FolderKind
from retino_cli.data.layouts.painted import COLUMNS
from retino_cli.data.paint_photograph import BLOOD_BIT, BRIGHT_BIT, FINE_BIT, MASK_THRESHOLD, POOL_BIT
from retino_cli.grades import GRADE_NAMES, N_GRADES

LABELS: Final = "painted.csv"
WARNING: Final = "PAINTED image: a program drew lesions onto a photograph, not for clinical use"
SOFTWARE: Final = "retino data paint"
EVEN_DISTRIBUTION: Final = (0.2, 0.2, 0.2, 0.2, 0.2)
KIND: Final = FolderKind(
    marker="painted.json",
    key="painted",
    what="painted data set",
    labels=(LABELS,),
    folders=("images", "masks"),
    prefix="painted-",
    example="./data-painted",
)


@dataclass(frozen=True)
class Parameters:
    """Everything that the bytes of a painted set depend on, besides the versions of NumPy, SciPy and Pillow."""

    pictures: int
    size: int
    seed: int
    grade_distribution: tuple[float, ...]
    masks: bool
    drawing: int
    data: str
    """Name of the source data set."""
    data_fingerprint: str
    split_fingerprint: str
    photographs: int
    """Healthy photographs that are painted on."""
    photographs_fingerprint: str
    """12 hex digits of the SHA-256 over their ids and prepared pixels."""


@dataclass(frozen=True)
class Photograph:
    """A healthy photograph of the source. ``sha256``: of its prepared pixels; ``patient``: who is on it, or its id."""

    image_id: str
    path: str
    patient: str
    sha256: str


@dataclass(frozen=True)
class Picture:
    """One picture to paint: ``number`` from 0, and its background."""

    number: int
    grade: int
    photograph: Photograph

    @property
    def stem(self) -> str:
        return f"painted-{self.number:05d}"

    def path(self, folder: Path) -> Path:
        return folder / "images" / f"{self.stem}.jpeg"

    def mask_path(self, folder: Path) -> Path:
        return folder / "masks" / f"{self.stem}.png"


@dataclass(frozen=True, eq=False)
class Contents:
    """What is to be in the folder, and the command that makes it."""

    parameters: Parameters
    pictures: Sequence[Picture]
    command: str

    @property
    def grade_counts(self) -> tuple[int, ...]:
        """Pictures per grade 0..4."""
        return tuple(np.bincount([picture.grade for picture in self.pictures], minlength=N_GRADES).tolist())

    def is_in(self, folder: Path) -> bool:
        """Whether ``folder`` already holds all of this, finished."""
        plain, masks = _plain(self.parameters), self.parameters.masks
        paths = {path for p in self.pictures for path in (p.path(folder), p.mask_path(folder))[: 1 + masks]}
        return drawn_folder.holds_all(folder, KIND, plain, labels=(LABELS,), pictures=paths)

    def claim(self, folder: Path) -> None:
        """Make ``folder`` ready: mark it as unfinished and take away an earlier painted set.

        Raises:
            DataError: it is a file, cannot be written, or holds something that is not ours.
        """
        folders = ("images", "masks")[: 1 + self.parameters.masks]
        drawn_folder.claim_folder(folder, KIND, self._marker(), readme=self._readme(), folders=folders)

    def finish(self, folder: Path) -> None:
        """Write the label file, and mark the data set as complete."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for picture in sorted(self.pictures, key=lambda picture: picture.number):
            rows.writerow((picture.stem, picture.grade, picture.photograph.patient, picture.photograph.image_id))
        drawn_folder.write_text(folder / LABELS, text.getvalue())
        drawn_folder.write_marker(folder, KIND, self._marker(), complete=True)

    def _marker(self) -> dict[str, Any]:
        return {
            "warning": WARNING,
            "parameters": _plain(self.parameters),
            "grade_counts": list(self.grade_counts),
            "repeat": self.command,
        }

    def _readme(self) -> str:
        p = self.parameters
        masks = (
            f"""
- `masks/`: where the lesions are. PNG of 8 bits, the sum of {BLOOD_BIT} microaneurysms and haemorrhages, {BRIGHT_BIT} \
exudates and cotton
  wool spots, {FINE_BIT} fine vessels (IRMA, new vessels), {POOL_BIT} pools of blood before the retina; a pixel is set \
where a lesion
  covers more than {MASK_THRESHOLD:g} of it, in the field. Veils under new vessels and clouds in the vitreous are in \
none."""
            * p.masks
        )
        return f"""# Photographs of healthy eyes with lesions drawn onto them: not for clinical use

The backgrounds are {p.photographs} photographs of grade 0 from the training split of the data set "{p.data}"; a \
program drew the
lesions. **No number measured on these pictures says anything about patients.** They exist to train a network before it
sees real lesions, and to test software.

The lesions follow the ICDR definition of each grade, but for beaded veins, which are not drawn; their frequency, size
and contrast are made up. The photographs belong to the source: **its licence holds for these pictures, too.**

| | {" | ".join(f"{grade} {name}" for grade, name in enumerate(GRADE_NAMES))} | all |
|---|---|---|---|---|---|---|
| pictures | {" | ".join(map(str, self.grade_counts))} | {p.pictures} |

- `images/`, `{LABELS}`: picture, grade, patient and background photograph. All are training pictures; a validation
  split is cut from them by patient, so that no photograph is in both. Where the source names no patient, each
  photograph counts as one.{masks}
- {p.size} px, cropped to the retina; seed {p.seed}; drawing {p.drawing}.
- Each file says in its name, EXIF description and JPEG comment that it is painted; `{KIND.marker}` says so for the
  folder.

The same bytes again (from the same data, with the same versions of NumPy, SciPy and Pillow):

    {self.command}
"""


def write_command(parameters: Parameters, source: TrainConfig) -> str:
    """The command that paints the same set again; folders by their last name, as they may lie anywhere."""
    words = ["retino", "data", "paint", "DIR", "--onto", source.data.resolve().name]
    words += ["--pictures", str(parameters.pictures), "--size", str(parameters.size), "--seed", str(parameters.seed)]
    if parameters.grade_distribution != EVEN_DISTRIBUTION:
        words += ["--grade-distribution", ",".join(f"{share:.6g}" for share in parameters.grade_distribution)]
    words += ["--masks"] if parameters.masks else []
    words += [] if source.duplicates == "keep" else ["--duplicates", source.duplicates]
    for flag, value in (
        ("--format", source.layout),
        ("--image-column", source.image_column),
        ("--label-column", source.label_column),
        ("--split-column", source.split_column),
        ("--patient-column", source.patient_column),
        ("--val-fraction", f"{source.val_fraction:g}" if source.val_fraction else None),
        ("--split", None if source.split == "official" else source.split),
        ("--split-seed", source.split_seed),
    ):
        words += [] if value is None else [flag, str(value)]
    return shlex.join(words)


def _plain(parameters: Parameters) -> dict[str, Any]:
    return {**asdict(parameters), "grade_distribution": list(parameters.grade_distribution)}
