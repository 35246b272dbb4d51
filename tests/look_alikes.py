"""Data sets of discs that name no patients, although each patient has several pictures of one colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TRAIN_PATIENTS, TEST_PATIENTS, PICTURES = 60, 40, 4


def draw(colours: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Discs in ``colours`` (N, 3), each with some noise of its own: (N, 28, 28, 3) uint8."""
    y, x = np.mgrid[:28, :28] - 13.5
    field = (x**2 + y**2 < 13**2)[None, :, :, None]
    pictures = colours[:, None, None, :] + random.normal(0, 8, (len(colours), 28, 28, 3))
    return (field * pictures.clip(0, 255)).astype(np.uint8)


def write_arrays(path: Path, *, seed: int = 0, val: int = 0, own_grades: bool = False) -> Path:
    """A MedMNIST file, which names no patients: each has a colour, a grade that does not depend on it, and four
    pictures of about that colour. Test has patients of its own. ``own_grades``: each picture has a grade of its own.
    ``val``: as many pictures of train, drawn at random, are validation."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for split, patients in (("train", TRAIN_PATIENTS), ("test", TEST_PATIENTS)):
        patient = np.repeat(np.arange(patients), PICTURES)
        colours = random.uniform((120, 60, 30), (230, 150, 90), (patients, 3))[patient]
        grades = random.integers(0, 5, len(patient)) if own_grades else random.integers(0, 5, patients)[patient]
        arrays[f"{split}_images"] = draw(colours + random.normal(0, 1, colours.shape), random)
        arrays[f"{split}_labels"] = grades[:, None].astype(np.uint8)
    held = random.permutation(TRAIN_PATIENTS * PICTURES)[:val]
    for kind in ("images", "labels"):
        arrays[f"val_{kind}"] = arrays[f"train_{kind}"][held]
        arrays[f"train_{kind}"] = np.delete(arrays[f"train_{kind}"], held, axis=0)
    np.savez(path, **arrays)
    return path
