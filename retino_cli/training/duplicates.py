"""Pictures that several splits share: what a training says of them, and how it leaves them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retino_cli.data.audit import (
    Audit,
    IdenticalPictures,
    PictureAudit,
    find_identical,
    find_patient_leaks,
    name_copies,
)
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec


def find_leaks(manifest: Manifest, spec: PreprocessSpec) -> Audit:
    """Each way in which the splits are not independent: shared patients, the same picture.

    The quick part of the audit: the pictures are those that the training has prepared anyway.
    """
    there = manifest.with_files()
    prepared = prepare(there, spec, skip_unreadable=True)
    # Pictures by the splits that are used: a validation cut that parts two copies of one picture leaks as well.
    identical = find_identical(replace(there, official=None), prepared)
    return Audit(find_patient_leaks(manifest), (), PictureAudit(int(prepared.readable.sum()), identical, (), (), ()))


def leave_out(
    data: dict[str, LabelledImages], identical: Sequence[IdenticalPictures]
) -> tuple[dict[str, LabelledImages], tuple[str, ...]]:
    """``data`` without the images whose picture is also in a later split (train, then val, then test), and one
    sentence for each image that was left out.

    What is judged on stays whole: test loses nothing, validation only what test holds, and train what either holds. A
    split that would lose all of its images is taken out.
    """
    dropped = name_copies(identical)
    left: dict[str, LabelledImages] = {}
    for split, images in data.items():
        stays = np.array([str(image_id) not in dropped for image_id in images.column("image_id")], dtype=bool)
        if stays.any():
            left[split] = images if stays.all() else images.subset(stays)
    return left, tuple(dropped.values())
