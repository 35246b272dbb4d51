"""What a split holds, in the few words that a run records of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retino_cli.data.manifest import Manifest
from retino_cli.grades import GRADE_NAMES, GRADES


@dataclass(frozen=True)
class SplitSummary:
    """One split of a data set: its short ``name``, the ``fingerprint`` of its own images and grades, ``source`` (the
    folder or file that it was read from), and ``counts``: images of each grade, 0 to 4."""

    name: str
    split: str
    fingerprint: str
    source: str
    counts: tuple[int, ...]
    n_patients: int | None
    validation: str

    @classmethod
    def of(cls, manifest: Manifest, split: str) -> SplitSummary:
        """Of "train", "val", "test" or "all". Raises DataError where ``manifest`` has no such split."""
        part = manifest.select(split)
        patients = part.table["patient_id"]
        known = patients[patients != ""]
        return cls(
            name=manifest.name,
            split=split,
            fingerprint=part.fingerprint(),
            source=str(manifest.root),
            counts=tuple(int((part.table["grade"] == grade).sum()) for grade in GRADES),
            n_patients=int(known.nunique()) if len(known) else None,
            validation=manifest.validation,
        )

    @property
    def n_images(self) -> int:
        return sum(self.counts)

    def profile(self) -> dict[str, Any]:
        """JSON-able: split, images, images by grade and, where they are known, patients."""
        values: dict[str, Any] = {"split": self.split, "images": self.n_images}
        values |= {
            f"grade {grade}, {name}": count for grade, name, count in zip(GRADES, GRADE_NAMES, self.counts, strict=True)
        }
        if self.n_patients is not None:
            values["patients"] = self.n_patients
        return values | {"validation": self.validation}


def summarise_splits(manifest: Manifest) -> dict[str, SplitSummary]:
    """Of every split that has images, by name."""
    return {
        split: SplitSummary.of(manifest, split)
        for split in ("train", "val", "test")
        if (manifest.table["split"] == split).any()
    }
