"""The validation cut."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retino_cli.data.split import cut_validation
from retino_cli.errors import UsageError

Rows = list[tuple[str, int]]


def cut(rows: Rows, *, fraction: float, seed: int = 0, ids: list[str] | None = None) -> np.ndarray:
    names = ids or [f"img{i}" for i in range(len(rows))]
    patients = pd.Series([patient for patient, _ in rows], dtype=str)
    grades = np.array([grade for _, grade in rows], np.int8)
    return cut_validation(pd.Series(names, dtype=str), patients, grades, fraction=fraction, seed=seed)


rows_of = st.lists(st.tuples(st.sampled_from(["", *"abcdefghijkl"]), st.integers(0, 4)), min_size=1, max_size=80)
fractions = st.floats(0.01, 0.9)


@settings(deadline=None)  # a busy machine is no failure
@given(rows=rows_of, fraction=fractions, seed=st.integers(-5, 2**40))
def test_patients_stay_together_and_grades_stay_on_both_sides(rows: Rows, fraction: float, seed: int) -> None:
    chosen = cut(rows, fraction=fraction, seed=seed)
    groups = [patient or f"#{i}" for i, (patient, _) in enumerate(rows)]
    in_val, in_train = (
        {group for group, its in zip(groups, chosen, strict=True) if its == side} for side in (True, False)
    )
    assert not in_val & in_train
    holders = {
        grade: {group for group, (_, its) in zip(groups, rows, strict=True) if its == grade} for grade in range(5)
    }
    last_in_train = {group for its in holders.values() if len(its & in_train) == 1 for group in its & in_train}
    for its in holders.values():
        if its:
            assert its & in_train  # training keeps every grade
        if len(its) >= 2 and not its & in_val:
            assert its <= last_in_train  # validation lacks a grade only where any group would be missed in training


@settings(deadline=None)  # a busy machine is no failure
@given(rows=rows_of, fraction=fractions, seed=st.integers(0, 9), data=st.data())
def test_the_order_of_rows_does_not_matter(rows: Rows, fraction: float, seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    straight = cut(rows, fraction=fraction, seed=seed)
    mixed = cut([rows[i] for i in order], fraction=fraction, seed=seed, ids=[f"img{i}" for i in order])
    np.testing.assert_array_equal(mixed, straight[order])


@settings(deadline=None)  # a busy machine is no failure
@given(n=st.lists(st.integers(2, 60), min_size=5, max_size=5), fraction=fractions, seed=st.integers(0, 99))
def test_stratified_to_the_nearest_image(n: list[int], fraction: float, seed: int) -> None:
    rows = [("", grade) for grade, count in enumerate(n) for _ in range(count)]
    chosen = cut(rows, fraction=fraction, seed=seed)
    for grade, count in enumerate(n):
        taken = int(chosen[[its == grade for _, its in rows]].sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - fraction * count) <= 0.5 + 1e-9 or taken in (1, count - 1)


def test_seeds_differ_and_repeat() -> None:
    rows = [("", i % 5) for i in range(500)]
    first, again, other = (cut(rows, fraction=0.1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first & other).sum() < 25
    assert first.sum() == other.sum() == 50


def test_the_choice_is_pinned() -> None:
    # A change here would give every user other validation images under the same seed.
    chosen = cut([("", i % 5) for i in range(50)], fraction=0.2, seed=0)
    assert np.flatnonzero(chosen).tolist() == [13, 16, 17, 20, 21, 23, 27, 29, 39, 45]


def test_more_patients_leave_the_others_in_order() -> None:
    few = cut([("", 0)] * 200, fraction=0.5)
    many = cut([("", 0)] * 210, fraction=0.5)
    assert (few != many[:200]).mean() < 0.05


def test_a_patient_is_no_image_of_the_same_name() -> None:
    ids = pd.Series([str(i) for i in range(100)])
    patients = pd.Series([""] * 50 + [str(i) for i in range(50)])
    chosen = cut_validation(ids, patients, np.zeros(100, np.int8), fraction=0.5, seed=0)
    assert (chosen[:50] != chosen[50:]).any()


def test_nothing_to_cut() -> None:
    assert not cut([("", 0)] * 20, fraction=0).any()
    assert not cut([("", 0)], fraction=0.5).any()
    assert not cut([("p", 0), ("p", 1)], fraction=0.5).any()
    assert cut([], fraction=0.5).shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1, 10, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(UsageError, match=r"--val-fraction .* is out of range"):
        cut([("", 0)] * 5, fraction=fraction)
