"""Cutting a validation split from the training images: stratified by grade, grouped by patient, from a seed."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from retino_cli.errors import UsageError
from retino_cli.grades import N_GRADES


def cut_validation(
    image_id: pd.Series, patient_id: pd.Series, grade: np.ndarray, *, fraction: float, seed: int
) -> np.ndarray:
    """Choose the validation images among training images.

    Method. A patient's images are one group; an image without patient is its own group. A group's stratum is its worst
    grade. Within each stratum, groups stand in the order of a keyed hash (SipHash, the key from the seed) of the
    patient or image id, and the first ones are taken: a group belongs to validation when the middle of its images, in
    that order, lies below ``fraction`` of the stratum's images, which is the nearest count for groups of equal size. A
    stratum of two groups or more gives at least one group to validation and keeps at least one. Last, since a grade can
    occur beside a worse one only, single groups move: a grade that training lacks gets its first group back; then a
    grade that validation lacks, although two groups or more have it, gets its first group that is not the last one with
    some grade in training. So training has every grade, and validation every grade that training can share.

    So the choice is a function of seed and ids alone, not of the order of the rows, and adding patients does not
    reshuffle the others.

    Args:
        image_id: (N,) unique ids.
        patient_id: (N,) ids, "" where unknown.
        grade: (N,) integers 0..4.
        fraction: share of the images to cut, 0 <= fraction < 1; 0 cuts none.
        seed: any integer.

    Returns:
        (N,) bool, True for validation.

    Raises:
        UsageError: ``fraction`` is out of range.
    """
    check_fraction(fraction)
    n = len(image_id)
    if fraction == 0 or n == 0:
        return np.zeros(n, dtype=bool)
    known = (patient_id != "").to_numpy(bool)
    # Without a mark, patient "7" and the image "7" of nobody would be one group.
    names = ("patient " + patient_id).where(known, "image " + image_id)
    group, labels = pd.factorize(names)
    n_groups = len(labels)
    size = np.bincount(group, minlength=n_groups)
    has = np.zeros((n_groups, N_GRADES), dtype=bool)
    has[group, grade] = True
    worst = N_GRADES - 1 - np.argmax(has[:, ::-1], axis=1)

    order = np.lexsort((np.asarray(labels, dtype=object), _hashes(labels, seed)))
    chosen = np.zeros(n_groups, dtype=bool)
    for stratum in range(N_GRADES):
        members = order[worst[order] == stratum]  # by hash; the id itself decides between equal hashes
        if len(members) < 2:
            continue
        middle = np.cumsum(size[members]) - size[members] / 2
        count = int(np.count_nonzero(middle <= fraction * size[members].sum()))
        chosen[members[: min(max(count, 1), len(members) - 1)]] = True
    _settle(chosen, has, order)
    validation: np.ndarray = chosen[group]
    return validation


def check_fraction(fraction: float) -> None:
    """Raise ``UsageError`` unless 0 <= fraction < 1."""
    if not 0 <= fraction < 1:
        raise UsageError(
            f"--val-fraction {fraction:g} is out of range: from 0 (no validation) to below 1; usual is 0.1"
        )


def _hashes(labels: pd.Index, seed: int) -> np.ndarray:
    key = hashlib.sha256(str(seed).encode()).hexdigest()[:16]  # hash_array takes a key of 16 bytes
    return pd.util.hash_array(np.asarray(labels, dtype=object), hash_key=key, categorize=False)


def _settle(chosen: np.ndarray, has: np.ndarray, order: np.ndarray) -> None:
    """Move single groups so that grades are on both sides where they can be: first in training, then in validation."""
    for side in (False, True):
        for grade in range(N_GRADES):
            holders = order[has[order, grade]]
            if (chosen[holders] == side).any() or (side and len(holders) < 2):
                continue
            for candidate in holders:
                rest = has[chosen != side].sum(axis=0) - has[candidate]
                # Training must keep every grade; validation may lose one that nobody else has.
                if not side or (rest[has[candidate]] > 0).all():
                    chosen[candidate] = side
                    break
