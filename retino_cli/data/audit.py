"""What is wrong with a data set: leaks between splits, identical pictures, pictures that show nothing.

The quick part needs the manifest alone; the pictures part decodes every image once, small, into the prepared cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from retino_cli.data.likeness import Likeness, compare_likeness, prepare_small
from retino_cli.data.manifest import SPLITS, Manifest
from retino_cli.data.pictures import decode
from retino_cli.data.prepared import PreparedImages
from retino_cli.errors import DataError
from retino_cli.evaluation.baselines import fellow_eye_baseline
from retino_cli.evaluation.confusion import accuracy, confusion_matrix, quadratic_weighted_kappa

PATIENTS_UNKNOWN: Final = "Patients are not named: one in two splits would not be noticed."
"""What has to be said beside "no leak" of data that name no patients."""
BLACK_LEVEL: Final = 24
"""A picture whose brightest percent of pixels stays below this, of 255, is called nearly black."""
GREY_LEVEL: Final = 3
"""A picture whose three channels never differ by more than this, of 255, is called grey."""


@dataclass(frozen=True)
class PatientLeak:
    """Patients with images in both ``first`` and ``second`` split.

    ``images``: images of ``second`` whose patient is also in ``first``; ``share``: of all images of ``second``, 0..1.
    ``image_ids``: these images, sorted.
    """

    first: str
    second: str
    patients: int
    images: int
    share: float
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class NoPixelBaselines:
    """What a split scores without a look at a picture.

    ``majority_*``: always the split's most frequent grade. ``fellow_eye_*``: the grade of the patient's other eye where
    train has it, else train's most frequent grade; ``found`` images have one. None where no patient and eye is known.
    QWK is None where it is undefined.
    """

    split: str
    images: int
    majority_accuracy: float
    found: int | None = None
    fellow_eye_accuracy: float | None = None
    fellow_eye_qwk: float | None = None


@dataclass(frozen=True)
class IdenticalPictures:
    """Images with the same decoded pixels: ids, and for each its official split and its grade."""

    image_ids: tuple[str, ...]
    splits: tuple[str, ...]
    grades: tuple[int, ...]

    @property
    def crosses_splits(self) -> bool:
        return len(set(self.splits)) > 1

    @property
    def disagrees(self) -> bool:
        return len(set(self.grades)) > 1


@dataclass(frozen=True)
class PictureAudit:
    """What the pictures themselves show. ``black`` and ``grey`` are lists of image ids, ``likeness`` says by split
    whether pictures of like colours share a grade."""

    images: int
    identical: tuple[IdenticalPictures, ...]
    unreadable: tuple[str, ...]
    black: tuple[str, ...]
    grey: tuple[str, ...]
    likeness: tuple[Likeness, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Everything that was found. ``pictures`` is None where no picture was looked at."""

    patient_leaks: tuple[PatientLeak, ...]
    baselines: tuple[NoPixelBaselines, ...]
    pictures: PictureAudit | None = None
    patients_known: bool = True

    @property
    def shares_pictures(self) -> bool:
        """Whether the same picture is in several splits."""
        return any(one.crosses_splits for one in (self.pictures.identical if self.pictures else ()))

    @property
    def leaks(self) -> tuple[str, ...]:
        """One sentence for each way in which the splits are not independent."""
        sentences = [
            f"{leak.patients} patients are in both {leak.first} and {leak.second}: {leak.images} images of "
            f"{leak.second} ({leak.share:.1%}) have the same patient in {leak.first}"
            for leak in self.patient_leaks
        ]
        crossing = [one for one in (self.pictures.identical if self.pictures else ()) if one.crosses_splits]
        sentences += [
            "the same picture is in several splits: "
            + ", ".join(f"{i} ({s}, grade {g})" for i, s, g in zip(o.image_ids, o.splits, o.grades, strict=True))
            for o in crossing
        ]
        return tuple(sentences)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        values = asdict(self)
        values["leaks"] = list(self.leaks)
        for leak in values["patient_leaks"]:
            del leak["image_ids"]  # thousands of them: `write_leaks` lists them in a file
        if self.pictures is not None:
            for group, one in zip(values["pictures"]["identical"], self.pictures.identical, strict=True):
                group |= {"crosses_splits": one.crosses_splits, "disagrees": one.disagrees}
            for line, found in zip(values["pictures"]["likeness"], self.pictures.likeness, strict=True):
                line |= {"excess": found.excess, "shows_patients": found.shows_patients}
        return values


def audit_manifest(manifest: Manifest) -> Audit:
    """The quick part: patients in more than one official split, and the baselines that read no pixel."""
    return Audit(
        patient_leaks=find_patient_leaks(manifest),
        baselines=tuple(_baselines(manifest, split) for split in SPLITS if (manifest.official_split == split).any()),
        patients_known=bool((manifest.table["patient_id"] != "").any()),
    )


def write_leaks(audit: Audit, path: Path) -> None:
    """Write every leaking image as CSV: image_id, split, leaks_from, reason ("patient" or "identical picture")."""
    rows = [
        (image_id, leak.second, leak.first, "patient") for leak in audit.patient_leaks for image_id in leak.image_ids
    ]
    for group in audit.pictures.identical if audit.pictures else ():
        for image_id, split in zip(group.image_ids, group.splits, strict=True):
            rows += [(image_id, split, other, "identical picture") for other in sorted(set(group.splits) - {split})]
    table = pd.DataFrame(rows, columns=["image_id", "split", "leaks_from", "reason"])
    try:
        table.to_csv(path, index=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}", "Name another file.") from error


def find_patient_leaks(manifest: Manifest) -> tuple[PatientLeak, ...]:
    """Pairs of official splits that share patients. A validation split that retino cut itself never does."""
    table, official = manifest.table, manifest.official_split.to_numpy(dtype=object)
    known = (table["patient_id"] != "").to_numpy()
    leaks = []
    for first, second in combinations(SPLITS, 2):
        in_first = table.loc[known & (official == first), "patient_id"]
        in_second = table.loc[known & (official == second)]
        shared = in_second[in_second["patient_id"].isin(in_first)]
        if len(shared):
            leaks.append(
                PatientLeak(
                    first=first,
                    second=second,
                    patients=int(shared["patient_id"].nunique()),
                    images=len(shared),
                    share=len(shared) / int((official == second).sum()),
                    image_ids=tuple(sorted(shared["image_id"])),
                )
            )
    return tuple(leaks)


def audit_pictures(
    manifest: Manifest, *, workers: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> PictureAudit:
    """The slow part: every image is decoded (once; the small pictures stay in the cache) and looked at.

    Images without a file are left to the inspection, which counts them.
    """
    there = manifest.with_files()
    if there.table.empty:
        return PictureAudit(0, (), (), (), ())
    prepared = prepare_small(there, workers=workers, on_progress=on_progress)
    black, grey = _find_empty(there, prepared)
    return PictureAudit(
        images=int(prepared.readable.sum()),
        identical=find_identical(there, prepared),
        unreadable=prepared.unreadable,
        black=black,
        grey=grey,
        likeness=compare_likeness(there, prepared),
    )


def find_identical(manifest: Manifest, prepared: PreparedImages) -> tuple[IdenticalPictures, ...]:
    """Groups of images whose decoded pixels are the same; train before val before test, and by id.

    Candidates are those with equal SHA-256 of the prepared picture (with the original's size); they are decoded in
    full and compared by the SHA-256 of all pixels: two pictures that only look alike when small stay apart.
    """
    table = manifest.table
    rows = np.flatnonzero(prepared.readable)
    digests = pd.Series([record.tobytes() for record in prepared.index["sha256"][rows]], index=rows)
    groups = []
    for candidates in digests.groupby(digests, sort=False).groups.values():
        if len(candidates) < 2:
            continue
        whole: dict[str, list[int]] = {}
        for row in candidates:
            whole.setdefault(_digest_whole(str(table["path"].iat[row])), []).append(int(row))
        groups += [same for same in whole.values() if len(same) > 1]
    official = manifest.official_split.to_numpy(dtype=object)
    ids, grades = table["image_id"].to_numpy(dtype=object), table["grade"].to_numpy()

    def place(row: int) -> tuple[int, str]:
        return SPLITS.index(official[row]), str(ids[row])

    ordered = sorted((sorted(same, key=place) for same in groups), key=lambda same: place(same[0]))
    return tuple(
        IdenticalPictures(
            image_ids=tuple(str(ids[row]) for row in same),
            splits=tuple(str(official[row]) for row in same),
            grades=tuple(int(grades[row]) for row in same),
        )
        for same in ordered
    )


def name_copies(identical: Sequence[IdenticalPictures]) -> dict[str, str]:
    """One sentence for each image whose picture is also in a later split (train, then val, then test), by image id."""
    copies: dict[str, str] = {}
    for group in identical:
        last = max(group.splits, key=SPLITS.index)
        kept = group.image_ids[group.splits.index(last)]
        for image_id, split in zip(group.image_ids, group.splits, strict=True):
            if split != last:
                copies[image_id] = f"{image_id} is left out of {split}: it is the same picture as {kept} ({last})"
    return copies


def _digest_whole(source: str) -> str:
    try:
        image = decode(source, lambda _width, _height: 1).image
    except DataError:  # gone or damaged since: nothing is the same as it
        return source
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _find_empty(manifest: Manifest, prepared: PreparedImages) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Image ids of nearly black and of grey pictures. A grey one is not called grey when it is black."""
    ids = manifest.table["image_id"].to_numpy()
    black, grey = [], []
    for row in np.flatnonzero(prepared.readable):
        pixels = prepared.gather(np.array([row]))[0].astype(np.int16)  # (S, S, 3)
        if np.percentile(pixels.max(axis=2), 99) < BLACK_LEVEL:
            black.append(str(ids[row]))
        elif (pixels.max(axis=2) - pixels.min(axis=2)).max() <= GREY_LEVEL:
            grey.append(str(ids[row]))
    return tuple(black), tuple(grey)


def _baselines(manifest: Manifest, split: str) -> NoPixelBaselines:
    table, official = manifest.table, manifest.official_split
    judged = table[(official == split).to_numpy()]
    grade = judged["grade"].to_numpy().astype(np.int64)
    majority = float(np.bincount(grade).max() / len(grade))
    train = table[(official == "train").to_numpy()]
    known = (judged["patient_id"] != "") & (judged["eye"] != "")
    if train.empty or not known.any():
        return NoPixelBaselines(split, len(judged), majority)
    copied = fellow_eye_baseline(train, judged)
    confusion = confusion_matrix(grade, copied.predicted)
    qwk = float(quadratic_weighted_kappa(confusion))
    return NoPixelBaselines(
        split=split,
        images=len(judged),
        majority_accuracy=majority,
        found=int(copied.found.sum()),
        fellow_eye_accuracy=float(accuracy(confusion)),
        fellow_eye_qwk=qwk if np.isfinite(qwk) else None,
    )
