"""The folder of a synthetic data set: what marks it as synthetic, its label files, and who may be overwritten.

``synthetic.json`` is written first and says ``"complete": false`` until everything else is there; the label files are
written after the last picture. A run that was killed leaves a folder that no reader takes for a data set.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, PngImagePlugin

from retino_cli.data.synth_grades import EYEPACS_DISTRIBUTION
from retino_cli.errors import DataError
from retino_cli.grades import GRADE_NAMES

MARKER: Final = "synthetic.json"
LABELS: Final = {"train": "trainLabels.csv", "test": "retinopathy_solution.csv"}
WARNING: Final = "SYNTHETIC image: drawn by a program, not a photograph of an eye, not for clinical use"
JPEG_OPTIONS: Final = {"quality": 92, "subsampling": 0, "optimize": False}
"""Chroma is not subsampled: a microaneurysm is two or three pixels of colour."""


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


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a failed write into a DataError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: the disk is full",
                hint="free some space, or draw fewer (--patients) or smaller (--size) pictures, then try again",
            ) from error
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}", hint="choose a folder that you may write to"
        ) from error


def read_marker(folder: Path) -> dict[str, Any] | None:
    """The content of the folder's marker, or None where this is no synthetic data set of ours."""
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("synthetic") is True else None


def is_complete(folder: Path, parameters: Parameters, pictures: Sequence[Picture]) -> bool:
    """Whether ``folder`` already holds, in full, the data set that ``parameters`` describe."""
    marker = read_marker(folder)
    if marker is None or marker.get("complete") is not True or marker.get("parameters") != _plain(parameters):
        return False
    splits = {picture.split for picture in pictures}
    if not all((folder / LABELS[split]).is_file() for split in splits) or not (folder / "README.md").is_file():
        return False
    held: set[Path] = set()
    for name in ("train", "test", "masks"):
        if (folder / name).is_dir():
            held.update((folder / name).iterdir())
    return all(p.path(folder) in held and (not parameters.masks or p.mask_path(folder) in held) for p in pictures)


def claim_folder(folder: Path, parameters: Parameters, pictures: Sequence[Picture]) -> None:
    """Make ``folder`` ready: mark it as unfinished and take away an earlier synthetic set.

    Raises:
        DataError: it is a file, cannot be written, or holds something that is not ours.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder", hint="name a new or an empty folder")
    with explained(folder):
        if folder.is_dir() and any(folder.iterdir()) and read_marker(folder) is None:
            raise DataError(
                f"{folder} is not empty, and holds no synthetic data set: nothing was written there",
                hint="name a new or an empty folder, such as ./data-synthetic",
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name in LABELS.values():  # first: without labels it is no data set any more
            (folder / name).unlink(missing_ok=True)
        write_marker(folder, parameters, pictures, complete=False)
        for name in ("train", "test", "masks"):
            if (folder / name).is_dir():
                for path in (folder / name).glob("synthetic-*"):
                    path.unlink()
                if not any((folder / name).iterdir()):
                    (folder / name).rmdir()
        for name in {picture.split for picture in pictures} | ({"masks"} if parameters.masks else set()):
            (folder / name).mkdir(exist_ok=True)
        _replace(folder / "README.md", _readme(parameters, pictures))


def write_labels(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write EyePACS's label files: ``image,level`` for train, ``image,level,Usage`` for test, all of it Private."""
    for split, name in LABELS.items():
        lines = [f"{p.stem},{p.grade}" + (",Private" if split == "test" else "") for p in pictures if p.split == split]
        if lines:
            header = "image,level,Usage" if split == "test" else "image,level"
            with explained(folder / name):
                _replace(folder / name, "\n".join([header, *lines]) + "\n")


def write_marker(folder: Path, parameters: Parameters, pictures: Sequence[Picture], *, complete: bool) -> None:
    """Write the file that says what this folder is."""
    content = {
        "synthetic": True,
        "warning": WARNING,
        "complete": complete,
        "parameters": _plain(parameters),
        "grade_counts": {split: list(counts) for split, counts in grade_counts(pictures).items()},
        "repeat": _command(parameters),
    }
    with explained(folder / MARKER):
        _replace(folder / MARKER, json.dumps(content, indent=2) + "\n")


def grade_counts(pictures: Sequence[Picture]) -> dict[str, tuple[int, ...]]:
    """Pictures per grade 0..4, for each split that has any."""
    counts: dict[str, list[int]] = {}
    for picture in pictures:
        counts.setdefault(picture.split, [0] * len(GRADE_NAMES))[picture.grade] += 1
    return {split: tuple(counts[split]) for split in LABELS if split in counts}


def save_jpeg(pixels: np.ndarray[Any, np.dtype[np.uint8]], path: Path, *, note: str) -> None:
    """Write a picture whose EXIF description and JPEG comment say that it is synthetic."""
    exif = Image.Exif()
    exif[0x010E] = note  # ImageDescription
    exif[0x0131] = "retino data synth"  # Software
    with explained(path):
        Image.fromarray(pixels).save(path, "JPEG", exif=exif, comment=note.encode("ascii"), **JPEG_OPTIONS)


def save_mask(mask: np.ndarray[Any, np.dtype[np.bool_]], path: Path, *, note: str) -> None:
    """Write a lesion mask as a PNG of 0 and 255."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", note)
    with explained(path):
        Image.fromarray(mask.astype(np.uint8) * 255).save(path, "PNG", pnginfo=text)


def _replace(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


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


def normalised(distribution: Sequence[float]) -> tuple[float, ...]:
    """Shares that sum to 1."""
    total = sum(distribution)
    return tuple(share / total for share in distribution)


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
