"""Baselines that read no pixel: what any model must beat before its numbers mean anything.

The majority baseline is ``metrics.majority_accuracy``; here is the fellow-eye baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from retino_cli.errors import DataError
from retino_cli.grades import N_GRADES


@dataclass(frozen=True, eq=False)
class FellowEyeBaseline:
    """``predicted`` (N,) int64: a grade 0..4 per test image. ``found`` (N,) bool: the other eye was in train."""

    predicted: npt.NDArray[np.int64]
    found: npt.NDArray[np.bool_]


def fellow_eye_baseline(train: pd.DataFrame, test: pd.DataFrame) -> FellowEyeBaseline:
    """Predict each test image by copying the grade of the same patient's other eye, where train has it.

    ``train`` has the columns patient_id, eye ("left", "right", "" unknown) and grade (0..4); ``test`` needs patient_id
    and eye only. Where train has several images of the other eye, their most frequent grade is copied (the higher one
    of two equally frequent). Where it has none, or patient or eye is unknown, the prediction is the most frequent grade
    of train (the lower one of two).

    Raises ``DataError`` where train is empty.
    """
    if len(train) == 0:
        raise DataError("fellow-eye baseline: there is no training image to copy a grade from")
    grade = train["grade"].to_numpy(dtype=np.int64)
    majority = int(np.argmax(np.bincount(grade, minlength=N_GRADES)))
    usable = ((train["patient_id"] != "") & train["eye"].isin(["left", "right"])).to_numpy()
    # An eye is patient and side in one text: no side contains a slash, so that two eyes never share a text.
    code, eyes = pd.factorize(train["eye"][usable].astype(str) + "/" + train["patient_id"][usable].astype(str))
    counts = np.bincount(code * N_GRADES + grade[usable], minlength=len(eyes) * N_GRADES).reshape(-1, N_GRADES)
    eye_grade = N_GRADES - 1 - np.argmax(counts[:, ::-1], axis=1)

    other = test["eye"].map({"left": "right", "right": "left"})
    known = (test["patient_id"] != "").to_numpy() & other.notna().to_numpy()
    row = np.full(len(test), -1, dtype=np.int64)
    wanted = other[known].astype(str) + "/" + test["patient_id"][known].astype(str)
    row[known] = pd.Index(eyes).get_indexer(pd.Index(wanted))
    found = row >= 0
    predicted = np.full(len(test), majority, dtype=np.int64)
    predicted[found] = eye_grade[row[found]]
    return FellowEyeBaseline(predicted=predicted, found=found)
