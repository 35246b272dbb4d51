"""The manifest: one row per gradable image of a data set, whatever its layout on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow

from retino_cli.data.images import find_images, split_extension
from retino_cli.data.labels import SPLITS, CheckedLabels, ColumnNames, check_labels
from retino_cli.data.layouts import LAYOUTS, LabelSet, read_labels
from retino_cli.data.split import check_fraction, cut_validation
from retino_cli.data.tree import FolderTree, words
from retino_cli.errors import DataError
from retino_cli.grades import N_GRADES

__all__ = ["COLUMNS", "LAYOUTS", "SPLITS", "ColumnNames", "Manifest", "load_manifest"]

COLUMNS: Final = ("image_id", "path", "grade", "split", "patient_id", "eye")

# Label files often lie in a folder of their own, beside the images.
_LABEL_FOLDERS = frozenset(
    ("groundtruth", "groundtruths", "label", "labels", "annotation", "annotations", "csv", "csvs")
)


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a data set holds.

    Args:
        name: short name for display and tags: "idrid", "eyepacs", "retinamnist", "synthetic", or the folder's.
        layout: the reader, one of ``LAYOUTS``.
        root: resolved path that the user gave.
        table: ``COLUMNS``, one row per gradable image. image_id is unique in the data set; path is "" where no file was
            found, and "FILE.npz#train/12" for row 12 of the array train_images; grade is int8, 0..4; split is "train",
            "val" or "test"; patient_id and eye ("left", "right") are "" where unknown.
        ungradable: official split -> rows that were left out as ungradable.
        duplicates: names that occur more than once with the same grade; counted once.
        validation: where val comes from: "official", "cut from train (10 %, seed 0)" or "none".
        official: (N,) split of each row as the data set defines it; None: the same as in ``table``.
    """

    name: str
    layout: str
    root: Path
    table: pd.DataFrame
    ungradable: dict[str, int]
    duplicates: int
    validation: str
    official: pd.Series | None = None

    @property
    def official_split(self) -> pd.Series:
        """(N,) split of each row as the data set defines it: before a validation split was cut from train."""
        return self.table["split"] if self.official is None else self.official

    @property
    def missing(self) -> int:
        """Rows without an image file."""
        return int((self.table["path"] == "").sum())

    def select(self, split: str) -> Manifest:
        """Return the rows of "train", "val" or "test"; "all": everything.

        Raises:
            DataError: the split is unknown or has no row; the message lists those that have.
        """
        if split == "all":
            return self
        rows = (self.table["split"] == split).to_numpy(bool)
        if split not in SPLITS or not rows.any():
            counts = {name: int((self.table["split"] == name).sum()) for name in SPLITS}
            held = ", ".join(f"{name} ({count:,} images)" for name, count in counts.items() if count)
            what = f"no split {split!r}" if split not in SPLITS else f"no images in split {split!r}"
            raise DataError(f"{self.name}: {what}; there are {held or 'none'}, and all", hint="choose one with --split")
        return self.take(rows)

    def with_files(self) -> Manifest:
        """Return the rows whose image was found."""
        return self.take((self.table["path"] != "").to_numpy(bool))

    def take(self, rows: np.ndarray) -> Manifest:
        """Return the rows that ``rows`` (N,) bool marks, in the same order."""
        official = None if self.official is None else self.official[rows].reset_index(drop=True)
        return replace(self, table=self.table[rows].reset_index(drop=True), official=official)

    def grade_counts(self, split: str) -> np.ndarray:
        """Return the images per grade, (5,) int64, of "train", "val", "test" or "all"; zeros where the split is empty.

        Raises:
            DataError: the split is unknown.
        """
        if split not in (*SPLITS, "all"):
            raise DataError(f"{self.name}: no split {split!r}; splits are {', '.join(SPLITS)} and all")
        grades = self.table["grade"]
        if split != "all":
            grades = grades[self.table["split"] == split]
        return np.bincount(grades.to_numpy(), minlength=N_GRADES).astype(np.int64)

    def fingerprint(self) -> str:
        """Return 12 hex digits of the SHA-256 over the sorted (image_id, grade) rows.

        The same images with the same grades give the same value, wherever they lie and however they are split.
        """
        return _fingerprint(self.table["image_id"], self.table["grade"].astype(str))

    def split_fingerprint(self) -> str:
        """Return 12 hex digits of the SHA-256 over the sorted (image_id, split) rows."""
        return _fingerprint(self.table["image_id"], self.table["split"])


def load_manifest(
    path: Path,
    *,
    layout: str | None = None,
    columns: ColumnNames | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> Manifest:
    """Read a data set: recognise its layout, check its labels, find its images, cut a validation split if it has none.

    Args:
        path: a folder, or the label file or npz file itself.
        layout: force a reader, one of ``LAYOUTS``; None: recognise it.
        columns: column names of a CSV file of any kind.
        val_fraction: share of the training images to cut for validation where the data set has none; 0: cut none.
        seed: seed of that cut (see ``split.cut_validation``).

    Raises:
        UsageError: an unknown layout, or a fraction out of range.
        DataError: nothing recognised, or a label row that cannot be right; names the file and the line.
    """
    check_fraction(val_fraction)
    tree = FolderTree()
    root = path.expanduser().resolve()
    labels = read_labels(root, tree=tree, layout=layout, columns=columns)
    checked = check_labels(labels.parts, one_name_one_image=labels.one_name_one_image)
    table = checked.table
    table["path"] = _find_paths(labels, checked, tree)
    _refuse_two_grades_of_a_file(checked)
    name = _display_name(labels, root, str(table["image_id"].iat[0]))
    table = table[list(COLUMNS)].copy()

    validation, official = "none", None
    if (table["split"] == "val").any():
        validation = "official"
    else:
        train = table[table["split"] == "train"]
        chosen = cut_validation(
            train["image_id"], train["patient_id"], train["grade"].to_numpy(), fraction=val_fraction, seed=seed
        )
        if chosen.any():
            official = table["split"].copy()
            table.loc[train.index[chosen], "split"] = "val"
            validation = f"cut from train ({100 * val_fraction:g} %, seed {seed})"
    # Arrow keeps what the steps above have given back: 1 KB a row, for as long as the program runs.
    pyarrow.default_memory_pool().release_unused()
    return Manifest(name, labels.layout, root, table, checked.ungradable, checked.duplicates, validation, official)


def _find_paths(labels: LabelSet, checked: CheckedLabels, tree: FolderTree) -> pd.Series:
    table = checked.table
    paths = table["path"].tolist()
    bases = [_image_base(part.file) if part.base is None else part.base for part in checked.parts]
    searched = [position for position, part in enumerate(checked.parts) if part.path is None]
    part_of = table["part"].to_numpy()
    for base in dict.fromkeys(bases[position] for position in searched):
        positions = [position for position in searched if bases[position] == base]
        rows = np.flatnonzero(np.isin(part_of, positions))
        found = find_images(
            table["name"].iloc[rows].tolist(),
            table["split"].iloc[rows].tolist(),
            base=base,
            tree=tree,
            beside=checked.parts[positions[0]].file.parent,
            preferred=labels.preferred,
            repeated=checked.repeated,
        )
        for row, path in zip(rows, found, strict=True):
            paths[row] = path
    return pd.Series(paths, dtype=str)


def _image_base(file: Path) -> Path:
    return file.parent.parent if _LABEL_FOLDERS.intersection(words(file.parent.name)) else file.parent


def _refuse_two_grades_of_a_file(checked: CheckedLabels) -> None:
    """Two names of one file ("a.jpg" and "A", or train/a and test/a) must not give it two grades."""
    table = checked.table
    same = table[(table["path"] != "") & table["path"].duplicated(keep=False)]
    graded = same.groupby("path", sort=False)["grade"].nunique()
    conflicts = graded[graded > 1]
    if conflicts.empty:
        return
    rows = same[same["path"] == conflicts.index[0]].drop_duplicates("grade").head(2)
    first, second = (checked.place(int(row)) for row in rows.index.to_numpy())
    grades = rows["grade"].tolist()
    raise DataError(
        f"{second}: {conflicts.index[0]} is graded {grades[1]}, but {grades[0]} in {first}; an image has one grade",
        hint="correct or delete one of the two rows",
    )


def _display_name(labels: LabelSet, root: Path, first_id: str) -> str:
    if split_extension(first_id)[0].lower().startswith("synth"):
        return "synthetic"  # nobody may take a number on drawn photographs for a clinical one
    if labels.layout == "medmnist":
        return labels.files[0].stem.lower()
    if labels.layout in ("folders", "csv"):
        return labels.site.folder.name if labels.site.only is None else labels.site.only.stem
    return labels.layout


def _fingerprint(image_id: pd.Series, value: pd.Series) -> str:
    rows = sorted(map("\t".join, zip(image_id.tolist(), value.tolist(), strict=True)))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]
