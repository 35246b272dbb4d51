"""The folder of a synthetic data set: its pictures, what marks it as synthetic, its label files, its README."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from retino_cli.data import drawn_folder
from retino_cli.data.drawn_folder import FolderKind
from retino_cli.data.synth_grades import EYEPACS_DISTRIBUTION, normalised
from retino_cli.grades import GRADE_NAMES

MARKER: Final = "synthetic.json"
LABELS: Final = {"train": "trainLabels.csv", "test": "retinopathy_solution.csv"}
WARNING: Final = "SYNTHETIC image: drawn by a program, not a photograph of an eye, not for clinical use"
KIND: Final = FolderKind(
    marker=MARKER,
    key="synthetic",
    what="synthetic data set",
    labels=tuple(LABELS.values()),
    folders=("train", "test", "masks"),
    prefix="synthetic-",
    example="./data-synthetic",
)


@dataclass(frozen=True)
class Parameters:
    """Everything that the bytes of a data set depend on, besides the versions of NumPy and Pillow."""

    patients: int
    size: int
    seed: int
    grade_distribution: tuple[float, ...]
    test_fraction: float
    masks: bool
    drawing: int


@dataclass(frozen=True)
class Picture:
    """One picture to draw."""

    patient: int
    eye: str
    grade: int
    split: str

    @property
    def stem(self) -> str:
        return f"synthetic-{self.patient:05d}_{self.eye}"

    def path(self, folder: Path) -> Path:
        return folder / self.split / f"{self.stem}.jpeg"

    def mask_path(self, folder: Path) -> Path:
        return folder / "masks" / f"{self.stem}.png"


def is_complete(folder: Path, parameters: Parameters, pictures: Sequence[Picture]) -> bool:
    """Whether ``folder`` already holds, in full, the data set that ``parameters`` describe."""
    labels = {LABELS[picture.split] for picture in pictures}
    paths = {path for p in pictures for path in (p.path(folder), p.mask_path(folder))[: 1 + parameters.masks]}
    return drawn_folder.holds_all(folder, KIND, _plain(parameters), labels=labels, pictures=paths)


def claim_folder(folder: Path, parameters: Parameters, pictures: Sequence[Picture]) -> None:
    """Make ``folder`` ready: mark it as unfinished and take away an earlier synthetic set.

    Raises:
        DataError: it is a file, cannot be written, or holds something that is not ours.
    """
    folders = {picture.split for picture in pictures} | ({"masks"} if parameters.masks else set())
    marker, readme = _marker(parameters, pictures), _readme(parameters, pictures)
    drawn_folder.claim_folder(folder, KIND, marker, readme=readme, folders=folders)


def write_labels(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write EyePACS's label files: ``image,level`` for train, ``image,level,Usage`` for test, all of it Private."""
    for split, name in LABELS.items():
        lines = [f"{p.stem},{p.grade}" + (",Private" if split == "test" else "") for p in pictures if p.split == split]
        if lines:
            header = "image,level,Usage" if split == "test" else "image,level"
            drawn_folder.write_text(folder / name, "\n".join([header, *lines]) + "\n")


def finish_folder(folder: Path, parameters: Parameters, pictures: Sequence[Picture]) -> None:
    """Write the label files, and mark the data set as complete."""
    write_labels(folder, pictures)
    drawn_folder.write_marker(folder, KIND, _marker(parameters, pictures), complete=True)


def _marker(parameters: Parameters, pictures: Sequence[Picture]) -> dict[str, Any]:
    return {
        "warning": WARNING,
        "parameters": _plain(parameters),
        "grade_counts": {split: list(counts) for split, counts in grade_counts(pictures).items()},
        "repeat": _command(parameters),
    }


def grade_counts(pictures: Sequence[Picture]) -> dict[str, tuple[int, ...]]:
    """Pictures per grade 0..4, for each split that has any."""
    counts: dict[str, list[int]] = {}
    for picture in pictures:
        counts.setdefault(picture.split, [0] * len(GRADE_NAMES))[picture.grade] += 1
    return {split: tuple(counts[split]) for split in LABELS if split in counts}


def _plain(parameters: Parameters) -> dict[str, Any]:
    return {**asdict(parameters), "grade_distribution": list(parameters.grade_distribution)}


def _command(parameters: Parameters) -> str:
    words = ["retino", "data", "synth", "DIR"]
    words += ["--patients", str(parameters.patients), "--size", str(parameters.size), "--seed", str(parameters.seed)]
    if parameters.grade_distribution != normalised(EYEPACS_DISTRIBUTION):
        words += ["--grade-distribution", ",".join(f"{share:.6g}" for share in parameters.grade_distribution)]
    if parameters.test_fraction != 0.2:
        words += ["--test-fraction", f"{parameters.test_fraction:g}"]
    return shlex.join(words + (["--masks"] if parameters.masks else []))


def _readme(parameters: Parameters, pictures: Sequence[Picture]) -> str:
    counts = grade_counts(pictures)
    rows = "\n".join(f"| {split} | {' | '.join(map(str, row))} | {sum(row)} |" for split, row in counts.items())
    masks = "\n- `masks/`: where the lesions are (PNG, 255 = lesion), drawn from the same geometry." * parameters.masks
    return f"""# Synthetic fundus images: not photographs, not for clinical use

Every picture in this folder was drawn by a program. **No number measured on them says anything about patients**, or
about how a model grades real photographs. They exist to try out and to test software.

The lesions follow the ICDR definition of each grade; everything else (colours, vessels, frequency of each kind of
lesion) is made up.

| split | {" | ".join(f"{grade} {name}" for grade, name in enumerate(GRADE_NAMES))} | all |
|---|---|---|---|---|---|---|
{rows}

- `train/`, `trainLabels.csv`; `test/`, `retinopathy_solution.csv`: the layout of Kaggle EyePACS. Every test row has the
  usage `Private`; there is no validation split, so that it is cut from train. No patient is in both.{masks}
- {parameters.patients} patients, both eyes of each; {parameters.size} px wide; seed {parameters.seed}; \
drawing {parameters.drawing}.
- Each file says in its name, EXIF description and JPEG comment that it is synthetic; `{MARKER}` says so for the folder.

The same bytes again (with the same versions of NumPy and Pillow):

    {_command(parameters)}
"""
