"""Cutting a data set into train, validation and test anew, so that no patient is in two of them: by the patients'
names, or where there are none, by likeness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from retino_cli.data.likeness import group_look_alikes, prepare_small
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
            "Keep the official split (--split official), or look-alikes together (--split likeness). For any CSV, "
            "--patient-column names the patients.",
        )
    official = manifest.official_split.to_numpy(dtype=object)
    test_share = float((official == "test").mean())
    val_share = _validation_share(official, val_fraction)
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


def split_by_likeness(
    manifest: Manifest, *, val_fraction: float, seed: int, on_progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """The same images and the same test, with validation cut so that pictures of like colours are on one side of it.

    For data that names no patients: pictures of one patient mostly look alike
    (:func:`~retino_cli.data.likeness.group_look_alikes`). Train and validation are put together and cut as
    :func:`~retino_cli.data.split.cut_validation` does it, a group taking the place of a patient. Validation keeps its
    official share of these images, or gets ``val_fraction``. Every picture is decoded once, small.

    Raises DataError where patients are known.
    """
    table = manifest.table
    if (table["patient_id"] != "").any():
        raise DataError(
            f"{manifest.name} names its patients: there is no need to go by likeness.",
            "Cut it by patient: --split patient, or keep the official split: --split official",
        )
    official = manifest.official_split.to_numpy(dtype=object)
    rest = np.flatnonzero((official != "test") & (table["path"] != "").to_numpy(bool))
    part = manifest.take(np.isin(np.arange(len(table)), rest))
    groups = group_look_alikes(part, prepare_small(part, on_progress=on_progress))
    chosen = cut_validation(
        part.table["image_id"],
        pd.Series([f"look-alikes {group}" for group in groups]),
        part.table["grade"].to_numpy(),
        fraction=_validation_share(official, val_fraction),
        seed=seed,
    )
    split = np.where(official == "test", "test", "train").astype(object)
    split[rest[chosen]] = "val"
    fresh = table.copy()
    fresh["split"] = split
    validation = f"cut by likeness (seed {seed})" if chosen.any() else "none"
    return replace(manifest, table=fresh, validation=validation, official=None)


def _validation_share(official: np.ndarray, val_fraction: float) -> float:
    """Of the images outside test: the official one, or ``val_fraction`` where there is none."""
    return float((official == "val").sum() / max((official != "test").sum(), 1)) or val_fraction
