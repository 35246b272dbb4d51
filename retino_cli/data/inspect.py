"""What a data set holds, in numbers: the content of the table that ``retino data inspect`` prints.

Everything here follows from the manifest alone and is quick. What needs a look at pixels or at leaks between splits is
a matter of its own, with its own result beside this one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retino_cli.data.manifest import SPLITS, Manifest
from retino_cli.grades import N_GRADES

_NAMED_MISSING = 5


@dataclass(frozen=True)
class SplitSummary:
    """One split, or the whole data set ("all").

    Args:
        split: "train", "val", "test" or "all".
        images: gradable images; their sum over ``grades``.
        grades: images of grade 0..4.
        found, missing: images with and without a file.
        ungradable: rows left out; known for official splits and "all", None for the splits after a cut.
        patients: different known patients.
        without_patient: images whose patient is unknown.
        left, right: images known to be of a left, right eye.
        majority_grade: the most frequent grade (the lowest of them).
        majority_share: its share of the images, 0..1: the accuracy of always answering it.
    """

    split: str
    images: int
    grades: tuple[int, ...]
    found: int
    missing: int
    ungradable: int | None
    patients: int
    without_patient: int
    left: int
    right: int
    majority_grade: int
    majority_share: float


@dataclass(frozen=True)
class Inspection:
    """What was read.

    Args:
        name, layout, root: as in the manifest.
        official: the splits as the data set defines them, in the order train, val, test, without empty ones.
        splits: the splits that training uses; differs from ``official`` where validation was cut from train.
        total: the whole data set.
        validation: where the validation split comes from: "official", "cut from train (10 %, seed 0)" or "none".
        missing_names: the first few image ids without a file.
        duplicates: names that occur more than once with the same grade; counted once.
        fingerprint, split_fingerprint: of the manifest.
    """

    name: str
    layout: str
    root: Path
    official: tuple[SplitSummary, ...]
    splits: tuple[SplitSummary, ...]
    total: SplitSummary
    validation: str
    missing_names: tuple[str, ...]
    duplicates: int
    fingerprint: str
    split_fingerprint: str

    @property
    def is_cut(self) -> bool:
        """Whether ``splits`` differs from ``official``."""
        official = [(one.split, one.images) for one in self.official if one.images]
        return [(one.split, one.images) for one in self.splits] != official

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        values = asdict(self)
        values["root"] = str(self.root)
        for key in ("official", "splits"):
            values[key] = {summary["split"]: _plain(summary) for summary in values[key]}
        values["total"] = _plain(values["total"])
        values["missing_names"] = list(self.missing_names)
        return values


def inspect_manifest(manifest: Manifest) -> Inspection:
    """Count what a manifest holds, per official split and per split in use."""
    table = manifest.table
    official = manifest.official_split.to_numpy(dtype=object)
    in_use = table["split"].to_numpy(dtype=object)
    return Inspection(
        name=manifest.name,
        layout=manifest.layout,
        root=manifest.root,
        official=tuple(
            _summarise(split, table[official == split], manifest.ungradable.get(split, 0))
            for split in SPLITS
            if (official == split).any() or manifest.ungradable.get(split, 0)
        ),
        splits=tuple(_summarise(split, table[in_use == split], None) for split in SPLITS if (in_use == split).any()),
        total=_summarise("all", table, sum(manifest.ungradable.values())),
        validation=manifest.validation,
        missing_names=tuple(table.loc[table["path"] == "", "image_id"].head(_NAMED_MISSING).tolist()),
        duplicates=manifest.duplicates,
        fingerprint=manifest.fingerprint(),
        split_fingerprint=manifest.split_fingerprint(),
    )


def _summarise(split: str, rows: pd.DataFrame, ungradable: int | None) -> SplitSummary:
    grades = np.bincount(rows["grade"].to_numpy(), minlength=N_GRADES)
    known = rows["patient_id"] != ""
    missing = int((rows["path"] == "").sum())
    return SplitSummary(
        split=split,
        images=len(rows),
        grades=tuple(grades.tolist()),
        found=len(rows) - missing,
        missing=missing,
        ungradable=ungradable,
        patients=int(rows.loc[known, "patient_id"].nunique()),
        without_patient=int((~known).sum()),
        left=int((rows["eye"] == "left").sum()),
        right=int((rows["eye"] == "right").sum()),
        majority_grade=int(np.argmax(grades)),
        majority_share=float(grades.max() / max(len(rows), 1)),
    )


def _plain(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in summary.items() if key != "split"}
