"""Cutting a data set into train, validation and test anew, so that no patient is in two of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retino_cli.data.manifest import Manifest
from retino_cli.data.split import cut_validation
from retino_cli.errors import DataError


def split_by_patient(manifest: Manifest, *, val_fraction: float, seed: int) -> Manifest:
    """The same images, split by patient into parts as large as the official ones.

    Test is cut from all images and then validation from the rest, each as :func:`~retino_cli.data.split.cut_validation`
    does it: stratified by grade, a patient's images together, a function of seed and ids alone. Test keeps its official
    share of the images; so does validation where the data set has one, else it gets ``val_fraction`` of the rest.

    Raises DataError where no patient is known (then there is nothing to group by).
    """
    table = manifest.table
    if not (table["patient_id"] != "").any():
        raise DataError(
            f"{manifest.name}: no patients are known, so it cannot be split by patient.",
            "Keep the official split: --split official. For any CSV, --patient-column names the patients.",
        )
    official = manifest.official_split.to_numpy(dtype=object)
    test_share = float((official == "test").mean())
    val_share = float((official == "val").sum() / max((official != "test").sum(), 1)) or val_fraction
    grade = table["grade"].to_numpy()
    split = np.full(len(table), "train", dtype=object)
    for name, share in (("test", test_share), ("val", val_share)):
        rest = np.flatnonzero(split == "train")
        part = table.iloc[rest]
        chosen = cut_validation(part["image_id"], part["patient_id"], grade[rest], fraction=share, seed=seed)
        split[rest[chosen]] = name
    fresh = table.copy()
    fresh["split"] = split
    validation = f"cut by patient (seed {seed})" if (split == "val").any() else "none"
    return replace(manifest, table=fresh, validation=validation, official=None)
