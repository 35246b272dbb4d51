"""The fellow-eye baseline, on small tables, against a plain loop, and on the lab's four label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError
from retino_cli.evaluation.baselines import fellow_eye_baseline
from retino_cli.evaluation.metrics import accuracy, confusion_matrix, majority_accuracy, quadratic_weighted_kappa

Row = tuple[str, str, int]


def table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["patient_id", "eye", "grade"]).astype({"grade": np.int8})


def test_the_other_eye_is_copied_else_the_majority() -> None:
    train = table([("1", "left", 3), ("2", "right", 4), ("3", "left", 1), ("4", "left", 1), ("", "left", 2)])
    test = table(
        [("1", "right", 0), ("1", "left", 0), ("2", "left", 0), ("9", "left", 0), ("", "right", 0), ("3", "", 0)]
    )
    result = fellow_eye_baseline(train, test)
    assert result.predicted.tolist() == [3, 1, 4, 1, 1, 1]
    assert result.found.tolist() == [True, False, True, False, False, False]


def test_several_images_of_an_eye_vote_and_a_tie_goes_to_the_higher_grade() -> None:
    train = table([("1", "left", 2), ("1", "left", 0), ("1", "left", 2), ("2", "left", 1), ("2", "left", 3)])
    test = table([("1", "right", 0), ("2", "right", 0)])
    assert fellow_eye_baseline(train, test).predicted.tolist() == [2, 3]


def test_no_patients_known_gives_the_majority() -> None:
    train, test = table([("", "", 2), ("", "", 2), ("", "", 0)]), table([("", "", 4)])
    result = fellow_eye_baseline(train, test)
    assert (result.predicted.tolist(), result.found.tolist()) == ([2], [False])


def test_an_empty_train_is_refused_and_an_empty_test_is_not() -> None:
    with pytest.raises(DataError, match="no training image"):
        fellow_eye_baseline(table([]), table([("1", "left", 0)]))
    assert fellow_eye_baseline(table([("1", "left", 0)]), table([])).predicted.shape == (0,)


rows = st.tuples(
    st.sampled_from(["", "1", "2", "1/2", "left"]), st.sampled_from(["left", "right", ""]), st.integers(0, 4)
)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=15), st.lists(rows, max_size=10))
def test_it_equals_a_plain_loop(train: list[Row], test: list[Row]) -> None:
    other = {"left": "right", "right": "left", "": None}
    grades = [grade for _, _, grade in train]
    majority = max(range(5), key=lambda grade: (grades.count(grade), -grade))
    expected = []
    for patient, eye, _ in test:
        fellow = [grade for p, e, grade in train if patient and p == patient and e == other[eye]]
        expected.append(max(fellow, key=lambda grade: (fellow.count(grade), grade)) if fellow else majority)
    assert fellow_eye_baseline(table(train), table(test)).predicted.tolist() == expected


@pytest.mark.real_data
def test_the_lab_s_four_files(real_data: Path) -> None:
    def read(split: str) -> pd.DataFrame:
        folder = real_data / "lab-csv"
        names = pd.read_csv(folder / f"{split}_img.csv", header=None, dtype=str)[0].str.split("_", expand=True)
        labels = pd.read_csv(folder / f"{split}_label.csv", header=None)[0]
        return pd.DataFrame({"patient_id": names[0], "eye": names[1], "grade": labels.astype(np.int8)})

    train, test = read("train"), read("test")
    result = fellow_eye_baseline(train, test)
    confusion = confusion_matrix(test["grade"], result.predicted)
    assert (len(test), int(result.found.sum())) == (7026, 5618)
    assert f"{accuracy(confusion):.4f}" == "0.8473"
    assert f"{quadratic_weighted_kappa(confusion):.4f}" == "0.7230"
    assert float(majority_accuracy(confusion)) == 5154 / 7026
