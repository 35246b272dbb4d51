from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name

from retino_cli.tracking.names import check_artifact, check_name, select_defined


class Undefined:
    """Stands for a metric that has no value."""


def test_undefined_values_are_left_out() -> None:
    values = {"a": 1, "b": None, "c": math.nan, "d": math.inf, "e": Undefined(), "f": np.float32(0.5), "g": -math.inf}
    assert select_defined(values) == {"a": 1.0, "f": 0.5}


@pytest.mark.parametrize("name", ["test/qwk", "val/precision_0", "a b", "a.b-c"])
def test_names_in_use_are_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "a@b", "a=b", "50%", "a[0]", "a//b", "/a", "a/", "../a", "a/./b", "x" * 251])
def test_names_that_mlflow_refuses_are_a_programming_error(name: str) -> None:
    with pytest.raises(ValueError, match="MLflow takes"):
        check_name(name)


@given(st.text(max_size=30))
def test_a_name_that_passes_is_taken_by_mlflow(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    try:
        _validate_metric_name(name)
    except MlflowException as error:
        pytest.fail(f"{name!r} passed, but MLflow says: {error}")


@pytest.mark.parametrize("artifact", ["", "/a", "../a", "a/../b", "a\\b", "a/", "./a"])
def test_artifact_paths_that_leave_the_run_are_refused(artifact: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        check_artifact(artifact)
