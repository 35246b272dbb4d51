"""The predictions file: an exact round trip, and a place for every error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError
from retino_cli.evaluation.predictions import COLUMNS, Predictions, read_predictions, write_predictions

HEADER = "image_id,patient_id,eye,grade,p0,p1,p2,p3,p4,score"
GOOD = "a,,,2,0.1,0.2,0.4,0.2,0.1,2.0"


def make(rows: npt.ArrayLike, **changes: object) -> Predictions:
    """Predictions with ``rows`` as probabilities, grade 0 and no patients, unless ``changes`` says otherwise."""
    p = np.asarray(rows, dtype=np.float64)
    n = len(p)
    values: dict[str, object] = {
        "image_id": [f"image {i}" for i in range(n)],
        "patient_id": [""] * n,
        "eye": [""] * n,
        "grade": np.zeros(n, dtype=np.int64),
        "probabilities": p,
    }
    return Predictions(**{**values, **changes})  # type: ignore[arg-type]  # wrong types are what is tested


def assert_equal(a: Predictions, b: Predictions) -> None:
    for name in ("image_id", "patient_id", "eye", "grade", "probabilities"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name, strict=name != "image_id")


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
masses = st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda values: sum(values) > 1e-3)


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    ids = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    n = len(ids)
    mass = np.array(draw(st.lists(masses, min_size=n, max_size=n)))
    p = mass / mass.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        p = p.astype(np.float32)  # as a model gives them: the sum is off by some 1e-7
    return Predictions(
        image_id=np.array(ids),
        patient_id=np.array(draw(st.lists(st.just("") | names, min_size=n, max_size=n))),
        eye=np.array(draw(st.lists(st.sampled_from(["left", "right", ""]), min_size=n, max_size=n))),
        grade=np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))),
        probabilities=p,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given=predictions())
def test_reading_returns_exactly_what_was_written(given: Predictions, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    write_predictions(given, first)
    read = read_predictions(first)
    write_predictions(read, second)
    assert_equal(read, given)
    assert first.read_bytes() == second.read_bytes()


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    given = make([[0.1, 0.2, 0.3, 0.25, 0.15], [1, 0, 0, 0, 0]], grade=np.array([3, 0]), eye=["left", ""])
    write_predictions(given, tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv")
    assert tuple(table.columns) == COLUMNS
    np.testing.assert_allclose(table[["p0", "p1", "p2", "p3", "p4"]].to_numpy(), given.probabilities, rtol=1e-14)
    np.testing.assert_allclose(table["score"], given.expected_grade, rtol=1e-14)


def test_derived_columns() -> None:
    given = make([[0.1, 0.2, 0.3, 0.25, 0.15], [0.4, 0.4, 0.2, 0, 0]])
    assert given.predicted.tolist() == [2, 0]  # of two equally probable grades the lower one
    np.testing.assert_allclose(given.expected_grade, [0.2 + 0.6 + 0.75 + 0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(given.referable_score, [0.7, 0.2], rtol=1e-15)
    assert len(given) == 2


def test_probabilities_are_brought_to_a_sum_of_one_and_arrays_are_read_only_copies() -> None:
    source = np.array([[0.5, 0.50005, 0, 0, 0]])
    given = make(source)
    assert abs(given.probabilities.sum() - 1) < 1e-15
    assert source[0, 1] == 0.50005
    with pytest.raises(ValueError, match="read-only"):
        given.probabilities[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        given.grade[0] = 1


UNIT = [[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": ["a", "a"]}, "row 2: image 'a' occurs more than once"),
        ({"image_id": ["a", ""]}, "row 2: the image_id is empty"),
        ({"image_id": ["a\nb", "c"]}, "row 1: .*line break"),
        ({"patient_id": ["", "1\r"]}, "row 2: .*line break"),
        ({"eye": ["left", "OD"]}, "row 2: image 'image 1': the eye is 'OD', not left, right or empty"),
        ({"grade": np.array([0, 5])}, "row 2: image 'image 1': the grade is 5, not one of 0, 1, 2, 3, 4"),
        ({"grade": np.array([-1, 0])}, "row 1: .*the grade is -1"),
        ({"grade": np.array([0.0, 1.0])}, "float64, not integers"),
        ({"grade": np.array([0])}, r"grade has the shape \(1,\), not \(2,\)"),
        ({"eye": [""]}, r"eye has the shape \(1,\), not \(2,\)"),
        ({"probabilities": np.eye(2)}, r"probabilities has the shape \(2, 2\), not \(2, 5\)"),
        ({"probabilities": [UNIT[0], [np.nan, 1, 0, 0, 0]]}, "row 2: .*nan, 1, 0, 0, 0 are not all between 0 and 1"),
        ({"probabilities": [UNIT[0], [np.inf, 0, 0, 0, 0]]}, "row 2: .*not all between"),
        ({"probabilities": [[1.1, -0.1, 0, 0, 0], UNIT[0]]}, "row 1: .*not all between"),
        ({"probabilities": [UNIT[0], [0.5, 0.4, 0, 0, 0]]}, "row 2: .*sum to 0.9, not 1"),
    ],
)
def test_what_cannot_be_right_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(UNIT, **changes)


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        make(np.empty((0, 5)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\n{GOOD}\nb,,,7,0.1,0.2,0.4,0.2,0.1,2\n", "line 3: grade is '7', not one of 0, 1, 2, 3, 4"),
        (f"{HEADER}\n{GOOD}\nb,,,,0.1,0.2,0.4,0.2,0.1,2\n", "line 3: grade is '', not one of"),
        (f"{HEADER}\n{GOOD}\nb,,,1,0.1,x,0.4,0.2,0.1,2\n", "line 3: p1 is 'x', not a number"),
        (f"{HEADER}\n{GOOD}\n\nb,,,1,0.1,0.2,0.4,0.2,0.3,2\n", "line 4: image 'b': .* sum to 1.2, not 1"),
        (f"{HEADER}\n{GOOD}\n{GOOD}\n", "line 3: image 'a' occurs more than once"),
        (f"{HEADER}\n{GOOD}\nb,,,1,0.1\n", "line 3: 5 values for 10 columns"),
        (f'{HEADER}\n{GOOD}\n"b,,,1,0.1,0.2,0.4,0.2,0.1,2\n', "line 3: not a CSV file"),
        (f"{HEADER}\n", "a header but no row"),
        ("", "line 1: no column image_id, grade, p0"),
        ("image;grade\n", "line 1: no column image_id, grade, .*; the columns found are 'image;grade'"),
        (f"{HEADER},p0\n{GOOD},0\n", "line 1: the column p0 occurs 2 times"),
    ],
)
def test_errors_name_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_binary_file_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: the predictions cannot be read: No such file"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        read_predictions(tmp_path / "picture.csv")


def test_a_byte_order_mark_windows_line_ends_another_order_and_missing_patients_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("\ufeffp4,p3,p2,p1,p0, grade ,image_id,more\r\n0,0,0.25,0.25,0.5,1,a,x\r\n".encode())
    read = read_predictions(path)
    assert read.probabilities.tolist() == [[0.5, 0.25, 0.25, 0, 0]]
    assert (read.grade.tolist(), read.patient_id.tolist(), read.eye.tolist()) == ([1], [""], [""])


def test_names_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path) -> None:
    given = make(UNIT, image_id=["007", "NA"], patient_id=["1e3", "null"])
    write_predictions(given, tmp_path / "p.csv")
    assert_equal(read_predictions(tmp_path / "p.csv"), given)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "p.csv"
    write_predictions(make(UNIT), path)
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        write_predictions(make(UNIT[::-1]), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["p.csv"]


def test_the_largest_public_test_set_is_read(tmp_path: Path) -> None:
    n = 53_576  # EyePACS test
    rng = np.random.default_rng(0)
    given = make(rng.dirichlet(np.ones(5), n), grade=rng.integers(0, 5, n))
    write_predictions(given, tmp_path / "p.csv")
    read = read_predictions(tmp_path / "p.csv")
    assert_equal(read, given)
