"""Other people's files: what is recognised, what is refused, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError
from retino_cli.evaluation.foreign import PROBABILITY_NAMES, read_foreign
from retino_cli.evaluation.judged import GradedPredictions, ScoredPredictions
from retino_cli.evaluation.metrics import METRIC_NAMES, Undefined, is_collapsed, summarise
from retino_cli.evaluation.predictions import Predictions, read_predictions, write_predictions

Simulate = Callable[..., Predictions]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_our_own_file_is_read_as_it_is(simulated: Simulate, tmp_path: Path) -> None:
    write_predictions(simulated(50), tmp_path / "p.csv")
    ours, theirs = read_predictions(tmp_path / "p.csv"), read_foreign(tmp_path / "p.csv")
    assert isinstance(theirs, Predictions)
    for name in ("image_id", "patient_id", "eye", "grade", "probabilities"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    pattern=st.sampled_from(PROBABILITY_NAMES),
    label=st.sampled_from(["gt", "Label", "LEVEL", "diagnosis"]),
    image=st.sampled_from(["image_id", "Image name", "id_code"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    suffix=st.sampled_from([".csv", ".parquet"]),
    seed=st.integers(0, 99),
)
def test_usual_names_are_recognised_in_any_order_and_format(
    pattern: str, label: str, image: str, delimiter: str, suffix: str, seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    grade, p = rng.integers(0, 5, 6), rng.dirichlet(np.ones(5), 6)
    columns = {image: [f"picture {i}.png" for i in range(6)], label: grade, "Eye": ["L", "OD", "", "right", "os", "R"]}
    columns |= {pattern.format(k).upper(): p[:, k] for k in range(5)}
    names = list(columns)
    rng.shuffle(names)
    frame = pd.DataFrame({name: columns[name] for name in names})
    path = tmp_path / f"foreign{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False, sep=delimiter)
    else:
        frame.to_parquet(path)
    read = read_foreign(path)
    assert isinstance(read, Predictions)
    np.testing.assert_allclose(read.probabilities, p, rtol=0, atol=1e-12)
    assert read.grade.tolist() == grade.tolist()
    assert read.image_id[0] == "picture 0.png"
    assert read.eye.tolist() == ["left", "right", "", "right", "left", "right"]


def test_named_columns_go_before_recognised_ones(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.csv",
        "who,grade,label,a,b,c,d,e,p0,p1,p2,p3,p4,pred,risk\n"
        "x,1,2,0.1,0.2,0.3,0.2,0.2,1,0,0,0,0,3,0.7\n"
        "y,0,4,0.5,0.2,0.1,0.1,0.1,1,0,0,0,0,2,0.1\n",
    )
    read = read_foreign(path, probability_columns="abcde", label_column="label", id_column="who")
    assert isinstance(read, Predictions)
    assert read.probabilities[0].tolist() == [0.1, 0.2, 0.3, 0.2, 0.2]
    assert (read.grade.tolist(), read.image_id.tolist()) == ([2, 4], ["x", "y"])
    graded = read_foreign(path, grade_column="grade")  # what is named is not taken for the label
    assert isinstance(graded, GradedPredictions)
    assert (graded.predicted.tolist(), graded.grade.tolist()) == ([1, 0], [2, 4])
    assert graded.image_id.tolist() == ["row 1", "row 2"]
    scored = read_foreign(path, score_column="risk", label_column="label")
    assert isinstance(scored, ScoredPredictions)
    assert (scored.score.tolist(), scored.binary) == ([0.7, 0.1], False)


def test_grades_alone_and_a_score_alone_give_what_they_can(tmp_path: Path) -> None:
    grades = read_foreign(write(tmp_path / "g.csv", "image,level,predicted\na,0,0\nb,2,1\nc,4,4.0\nd,3,2\n"))
    values = summarise(grades)
    assert values["accuracy"] == 0.5
    assert values["referable_sensitivity"] == pytest.approx(2 / 3, abs=1e-12)
    for name in ("referable_auc", "macro_auc", "brier", "nll", "ece", "qwk_rounded"):
        assert values[name] == Undefined("these predictions hold grades only"), name
    assert is_collapsed(grades) is None
    score = read_foreign(write(tmp_path / "s.csv", "image,level,p_referable\na,0,0.1\nb,2,-3\nc,4,7\nd,1,0.2\n"))
    values = summarise(score)
    assert values["referable_auc"] == 0.5
    assert values["majority_accuracy"] == 0.25
    undefined = [name for name in METRIC_NAMES if isinstance(values[name], Undefined)]
    assert set(undefined) == set(METRIC_NAMES) - {"referable_auc", "majority_accuracy"}
    assert values["qwk"] == Undefined("these predictions hold a score for referable DR only")
    binary = read_foreign(write(tmp_path / "b.csv", "image,label,rdr_score\na,0,0.1\nb,1,0.3\nc,1,0.2\n"))
    assert isinstance(binary, ScoredPredictions)
    assert binary.binary
    values = summarise(binary)
    assert values["referable_auc"] == 1.0
    assert values["majority_accuracy"] == Undefined("the labels say referable or not, and no grade")
    assert is_collapsed(binary) is None


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "image,p0,p1,p2,p3,p4\na,1,0,0,0,0\n",
            {},
            "no column is known to hold true grades; the columns found are 'im",
        ),
        ("image,grade\na,1\n", {}, "no column is known to hold five probabilities, a referable score or predicted"),
        ("grade,label,pred\n1,1,1\n", {}, "'grade' and 'label' could both be meant"),
        ("gt,p0,p1,p2,p3,p4,dr0,dr1,dr2,dr3,dr4\n" + ",".join("01000010000"), {}, "p0..p4 and dr0..dr4 could both"),
        ("gt,pred\n1,1\n", {"label_column": "truth"}, r"no column 'truth' \(--label-column\); the columns found"),
        ("gt,pred\n1,1\n", {"probability_columns": ["pred"]}, "1 probability columns are named, not 5"),
        ("gt,pred\n1,1\n3,7\n", {}, "line 3: pred is '7', not one of 0, 1, 2, 3, 4"),
        ("gt,pred\n1,1\n2.5,2\n", {}, "line 3: gt is '2.5', not one of"),
        ("gt,pred\n1,1\n\n,2\n", {}, "line 4: gt is '', not a number"),
        ("gt,rdr_score\n1,x\n", {}, "line 2: rdr_score is 'x', not a number"),
        ("gt,rdr_score\n1,0.1\n2,nan\n", {}, "line 3: image 'row 2': the score is not a finite number"),
        ("image,gt,pred\na,1,1\na,2,2\n", {}, "line 3: image 'a': it occurs more than once"),
        ("image,gt,pred\n,1,1\n", {}, "line 2: image '': the image_id is empty"),
        ("gt,pred,eye\n1,1,left\n1,1,up\n", {}, r"line 3: eye is 'up', not left or right \(L, R, OS, OD\)"),
        ("gt,p0,p1,p2,p3,p4\n0,1,0,0,0,0\n0,1,1,0,0,0\n", {}, "line 3: image 'row 2': .* sum to 2, not 1"),
        ("gt,gt\n1,1\n", {}, "line 1: the column gt occurs 2 times"),
        ("gt,pred\n", {}, "a header but no row"),
        ("", {}, "the file is empty"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(
    text: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "foreign.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        read_foreign(path, **options)  # type: ignore[arg-type]  # what is tested
    assert str(path) in str(caught.value)


def test_a_missing_or_broken_parquet_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.parquet: the predictions cannot be read"):
        read_foreign(tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"none\.csv: the predictions cannot be read"):
        read_foreign(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_foreign(write(tmp_path / "broken.parquet", "gt,pred\n"))
    pd.DataFrame({"gt": [1, 9], "pred": [1, 1]}).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"wrong\.parquet, row 2: gt is '9', not one of"):
        read_foreign(tmp_path / "wrong.parquet")


def test_predictions_of_less_check_their_rows() -> None:
    two, empty = np.array(["a", "b"]), np.array(["", ""])
    with pytest.raises(DataError, match="predicted is float64, not integers"):
        GradedPredictions(two, empty, empty, np.array([0, 1]), np.array([0.0, 1.0]))  # type: ignore[arg-type]  # tested
    with pytest.raises(DataError, match=r"score has the shape \(1,\), not \(2,\)"):
        ScoredPredictions(two, empty, empty, np.array([0, 1]), np.array([0.5]))
    with pytest.raises(DataError, match="row 2: image 'b': the label is not 0"):
        ScoredPredictions(two, empty, empty, np.array([0, 2]), np.array([0.5, 0.5]), binary=True)
    with pytest.raises(DataError, match="row 2: image 'b': the predicted grade is not one of"):
        GradedPredictions(two, empty, empty, np.array([0, 1]), np.array([0, 5]))
    with pytest.raises(DataError, match="no image"):
        GradedPredictions(two[:0], empty[:0], empty[:0], np.array([], dtype=int), np.array([], dtype=int))
    source = np.array([0, 1])
    graded = GradedPredictions(two, empty, empty, source, source)
    with pytest.raises(ValueError, match="read-only"):
        graded.predicted[0] = 1
    assert len(graded) == 2


@pytest.mark.real_data
def test_published_predictions_are_recognised(real_data: Path) -> None:
    read = read_foreign(real_data / "golden" / "messidor2_resnext50.csv")
    assert isinstance(read, Predictions)
    values = summarise(read)
    shown = {name: f"{values[name]:.4f}" for name in ("qwk", "accuracy", "referable_auc", "qwk_rounded")}
    assert shown == {"qwk": "0.7976", "accuracy": "0.7265", "referable_auc": "0.9484", "qwk_rounded": "0.8149"}
