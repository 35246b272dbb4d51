"""Metrics against scikit-learn and scipy, their properties, their edges, and the worked example in docs/metrics.md."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retino_cli.evaluation import metrics
from retino_cli.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    Undefined,
    binary_auc,
    confusion_matrix,
    is_collapsed,
    macro_auc,
    midranks,
    quadratic_weighted_kappa,
    summarise,
)
from retino_cli.evaluation.predictions import Predictions, read_predictions

LABELS = [0, 1, 2, 3, 4]
unhurried = settings(deadline=None)  # the first call of an oracle imports much; a busy machine is no failure
Grades = npt.NDArray[np.int64]


def predictions_of(grade: npt.ArrayLike, probabilities: npt.ArrayLike) -> Predictions:
    n = len(np.asarray(grade))
    ids = np.array([f"image {i}" for i in range(n)])
    empty = np.full(n, "")
    return Predictions(ids, empty, empty, np.asarray(grade), np.asarray(probabilities, dtype=np.float64))


def certain(grade: npt.ArrayLike, predicted: npt.ArrayLike) -> Predictions:
    return predictions_of(grade, np.eye(5)[np.asarray(predicted)])


@st.composite
def scored(draw: st.DrawFn) -> Predictions:
    """Any grades, often few kinds of them; probabilities in steps of 1/8, so that ties are frequent."""
    n = draw(st.integers(1, 40))
    kinds = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=5))
    grade = draw(st.lists(st.sampled_from(kinds), min_size=n, max_size=n))
    seed = draw(st.integers(0, 2**32 - 1))
    mass = np.random.default_rng(seed).multinomial(8, np.ones(5) / 5, size=n)
    return predictions_of(grade, mass / 8)


pairs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.int64, n, elements=st.integers(0, 4)), arrays.arrays(np.int64, n, elements=st.integers(0, 4))
    )
)


def agree(ours: npt.ArrayLike, oracle: npt.ArrayLike) -> None:
    np.testing.assert_allclose(np.asarray(ours, dtype=np.float64), np.asarray(oracle), rtol=0, atol=1e-9)


@unhurried
@given(pairs)
def test_confusion_metrics_equal_scikit_learn(pair: tuple[Grades, Grades]) -> None:
    grade, predicted = pair
    c = confusion_matrix(grade, predicted)
    np.testing.assert_array_equal(c, sklearn.metrics.confusion_matrix(grade, predicted, labels=LABELS))
    agree(metrics.accuracy(c), sklearn.metrics.accuracy_score(grade, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where a grade is predicted that does not occur
        agree(metrics.balanced_accuracy(c), sklearn.metrics.balanced_accuracy_score(grade, predicted))
    agree(metrics.macro_f1(c), sklearn.metrics.f1_score(grade, predicted, average="macro"))
    precision, recall, _, support = sklearn.metrics.precision_recall_fscore_support(
        grade, predicted, labels=LABELS, zero_division=np.nan
    )
    agree(metrics.precision_per_grade(c), precision)  # assert_allclose: NaN equals NaN, and nothing else
    agree(metrics.recall_per_grade(c), recall)
    agree(metrics.majority_accuracy(c), support.max() / len(grade))
    for threshold in (1, 2, 3, 4):
        for metric, label in ((metrics.sensitivity, 1), (metrics.specificity, 0)):
            expected = sklearn.metrics.recall_score(
                grade >= threshold, predicted >= threshold, pos_label=label, zero_division=np.nan
            )
            agree(metric(c, threshold), expected)


@unhurried
@given(pairs)
def test_qwk_equals_scikit_learn_and_stays_in_its_range(pair: tuple[Grades, Grades]) -> None:
    grade, predicted = pair
    value = float(quadratic_weighted_kappa(confusion_matrix(grade, predicted)))
    if len({*grade.tolist(), *predicted.tolist()}) == 1:
        assert np.isnan(value)
        return
    agree(value, sklearn.metrics.cohen_kappa_score(grade, predicted, labels=LABELS, weights="quadratic"))
    assert -1 <= value <= 1
    agree(value, quadratic_weighted_kappa(confusion_matrix(predicted, grade)))


@unhurried
@given(arrays.arrays(np.int64, (4, 5, 5), elements=st.integers(0, 6)))
def test_leading_axes_pass_through(stack: Grades) -> None:
    stack[0] = 0  # an empty resample is NaN, not a crash
    for function in (
        metrics.accuracy,
        metrics.majority_accuracy,
        metrics.balanced_accuracy,
        metrics.macro_f1,
        metrics.precision_per_grade,
        metrics.recall_per_grade,
        metrics.sensitivity,
        metrics.specificity,
        quadratic_weighted_kappa,
    ):
        together = np.asarray(function(stack.reshape(2, 2, 5, 5)))
        one_by_one = [function(c) for c in stack]
        assert together.shape[:2] == (2, 2)
        np.testing.assert_array_equal(together.reshape(4, *together.shape[2:]), one_by_one)
        assert np.isnan(one_by_one[0]).all()


@unhurried
@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=st.integers(-3, 3)))
def test_midranks_equal_scipy(scores: npt.NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(midranks(scores), scipy.stats.rankdata(scores, axis=-1))


@unhurried
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(*[arrays.arrays(np.int64, (2, n), elements=st.integers(0, 4))] * 2))
)
def test_binary_auc_equals_scikit_learn(drawn: tuple[Grades, Grades]) -> None:
    positive, score = drawn[0] >= 2, drawn[1].astype(np.float64)
    together = binary_auc(positive, score)
    for row in range(2):
        if positive[row].all() or not positive[row].any():
            assert np.isnan(together[row])
        else:
            agree(together[row], sklearn.metrics.roc_auc_score(positive[row], score[row]))


@unhurried
@given(scored())
def test_the_auc_of_both_questions_and_the_rounded_qwk_equal_scikit_learn(given: Predictions) -> None:
    values = summarise(given)
    for target, threshold in (("referable", 2), ("vision_threatening", 3)):
        positive = given.grade >= threshold
        if positive.any() and not positive.all():
            score = given.probabilities[:, threshold:].sum(axis=1)
            agree(values[f"{target}_auc"], sklearn.metrics.roc_auc_score(positive, score))  # type: ignore[arg-type]
    rounded = np.floor(given.probabilities @ np.arange(5) + 0.5).astype(np.int64)
    if not isinstance(values["qwk_rounded"], Undefined):
        oracle = sklearn.metrics.cohen_kappa_score(given.grade, rounded, labels=LABELS, weights="quadratic")
        agree(values["qwk_rounded"], oracle)
    else:
        assert len({*given.grade.tolist(), *rounded.tolist()}) == 1


@unhurried
@given(scored())
def test_macro_auc_equals_scikit_learn(given: Predictions) -> None:
    value = macro_auc(given.grade, given.probabilities)
    if len(np.unique(given.grade)) < 5:
        assert np.isnan(value)
        return
    expected = sklearn.metrics.roc_auc_score(given.grade, given.probabilities, multi_class="ovr", average="macro")
    agree(value, expected)


def test_macro_auc_equals_scikit_learn_on_a_large_sample() -> None:
    rng = np.random.default_rng(1)
    grade, p = rng.integers(0, 5, 2000), rng.dirichlet(np.ones(5), 2000)
    agree(macro_auc(grade, p), sklearn.metrics.roc_auc_score(grade, p, multi_class="ovr", average="macro"))
    stacked = macro_auc(np.stack([grade, grade[::-1]]), np.stack([p, p[::-1]]))
    agree(stacked, [macro_auc(grade, p)] * 2)


@unhurried
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(given: Predictions, random: object) -> None:
    order = np.arange(len(given))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis types it as random.Random
    shuffled = predictions_of(given.grade[order], given.probabilities[order])
    before, after = summarise(given), summarise(shuffled)
    for name in METRIC_NAMES:
        if isinstance(before[name], Undefined):
            assert before[name] == after[name]
        else:
            agree(after[name], before[name])  # type: ignore[arg-type]


@unhurried
@given(scored())
def test_every_value_is_finite_and_in_range_or_undefined_with_a_reason(given: Predictions) -> None:
    values = summarise(given)
    assert tuple(values) == METRIC_NAMES
    for name, value in values.items():
        if isinstance(value, Undefined):
            assert value.reason
        else:
            assert isinstance(value, float)
            low, high = {"qwk": (-1, 1), "qwk_rounded": (-1, 1), "brier": (0, 2), "nll": (0, 36.05)}.get(name, (0, 1))
            assert low <= value <= high, name


@unhurried
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=30))
def test_a_perfect_prediction_scores_one(grade: list[int]) -> None:
    values = summarise(certain(grade, grade))
    del values["majority_accuracy"]
    for name, value in values.items():
        assert isinstance(value, Undefined) or value == (0 if name in LOWER_IS_BETTER else 1), name
    assert isinstance(values["qwk"], Undefined) == (len(set(grade)) == 1)


@unhurried
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=30), st.sampled_from(LABELS))
def test_a_constant_prediction_scores_a_qwk_of_exactly_zero(grade: list[int], constant: int) -> None:
    assume(set(grade) != {constant})
    assert summarise(certain(grade, [constant] * len(grade)))["qwk"] == 0


def test_undefined_values_say_why() -> None:
    one_grade = summarise(certain([0, 0, 0], [0, 0, 0]))
    assert one_grade["qwk"] == Undefined("every true and every predicted grade is 0")
    assert one_grade["recall_1"] == Undefined("no image has grade 1")
    assert one_grade["precision_4"] == Undefined("grade 4 is never predicted")
    assert one_grade["macro_auc"] == Undefined("no image has grade 1, 2, 3 or 4")
    assert one_grade["referable_auc"] == Undefined("no image is referable (true grade >= 2)")
    assert one_grade["referable_sensitivity"] == one_grade["referable_auc"]
    assert one_grade["referable_specificity"] == 1.0
    assert one_grade["vision_threatening_auc"] == Undefined("no image is vision-threatening (true grade >= 3)")
    assert one_grade["qwk_rounded"] == Undefined("every true and every rounded grade is 0")
    assert one_grade["brier"] == 0
    all_referable = summarise(certain([2, 3, 4, 2], [2, 2, 2, 1]))
    assert all_referable["referable_auc"] == Undefined("every image is referable (true grade >= 2)")
    assert all_referable["referable_specificity"] == all_referable["referable_auc"]
    four_grades = summarise(certain([0, 1, 2, 4], [0, 1, 2, 4]))
    assert four_grades["macro_auc"] == Undefined("no image has grade 3")


def test_undefined_is_shown_as_not_applicable() -> None:
    value = Undefined("no image has grade 3")
    assert (str(value), f"{value}", f"{value:.3f}") == ("n/a (no image has grade 3)",) * 2 + ("n/a",)


def test_collapse() -> None:
    grade = np.array([0] * 70 + [1] * 30)
    assert is_collapsed(certain(grade, np.zeros(100, dtype=int))) == 0
    assert is_collapsed(certain(grade, np.r_[[4], np.full(99, 2)])) == 2
    assert is_collapsed(certain(grade, np.r_[[4, 4], np.full(98, 2)])) is None
    assert is_collapsed(confusion_matrix(grade, np.full(100, 3))) == 3
    assert is_collapsed(certain(np.ones(100, dtype=int), np.ones(100, dtype=int))) is None
    assert is_collapsed(np.zeros((5, 5))) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion_matrix([0, 5], [0, 0]), "a true grade is 5"),
        (lambda: confusion_matrix([0, 1], [0, -1]), "a predicted grade is -1"),
        (lambda: confusion_matrix([0, 1], [0]), "do not fit"),
        (lambda: metrics.accuracy(np.ones((4, 4))), r"\(\.\.\., 5, 5\), not \(4, 4\)"),
        (lambda: metrics.sensitivity(np.ones((5, 5)), 0), "threshold grade is 0"),
        (lambda: binary_auc([True, False], [1.0]), "do not fit"),
        (lambda: binary_auc([True, False], [1.0, np.nan]), "not finite"),
        (lambda: macro_auc([0, 1], np.ones((2, 4))), "do not fit"),
        (lambda: is_collapsed(np.ones((2, 5, 5))), "one confusion matrix"),
    ],
)
def test_wrong_arrays_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]  # a lambda


# ---- the document ----


@pytest.fixture(scope="module")
def document() -> str:
    return (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def example_table(document: str, caption: str) -> dict[str, str]:
    part = document.split(f"Example: {caption}\n", 1)[1]
    rows = part[: part.find("\n\n", 2)] if "\n\n" in part[2:] else part
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", rows, flags=re.MULTILINE))


@pytest.mark.parametrize(("caption", "n"), [("all ten images", 10), ("the first six images", 6)])
def test_the_worked_example_in_the_document(document: str, caption: str, n: int, tmp_path: Path) -> None:
    csv = re.findall(r"```csv\n(.*?)```", document, flags=re.DOTALL)
    assert len(csv) == 1
    (tmp_path / "p.csv").write_text("".join(csv[0].splitlines(keepends=True)[: n + 1]))
    values = summarise(read_predictions(tmp_path / "p.csv"))
    shown = {name: str(v) if isinstance(v, Undefined) else f"{v:.4f}" for name, v in values.items()}
    assert shown == example_table(document, caption)


def test_the_document_shows_the_example_s_confusion_matrix(document: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(re.findall(r"```csv\n(.*?)```", document, flags=re.DOTALL)[0])
    read = read_predictions(tmp_path / "p.csv")
    shown = re.findall(r"```text\n(.*?)```", document, flags=re.DOTALL)[0]
    assert [[int(cell) for cell in row.split()] for row in shown.splitlines()] == confusion_matrix(
        read.grade, read.predicted
    ).tolist()


def test_the_document_defines_every_metric(document: str) -> None:
    definitions = document.split("## Worked example")[0]
    for name in METRIC_NAMES:
        if name.startswith(("precision_", "recall_")):
            assert f"`{name[:-1]}0` .. `{name[:-1]}4` |" in definitions
        else:
            assert f"| `{name}` |" in definitions


# ---- somebody else's predictions ----


@pytest.mark.real_data
def test_published_predictions_on_messidor_2(real_data: Path) -> None:
    table = pd.read_csv(real_data / "golden" / "messidor2_resnext50.csv")
    empty = np.full(len(table), "")
    p = table[["dr0", "dr1", "dr2", "dr3", "dr4"]].to_numpy()
    given = Predictions(table["image_id"].to_numpy(dtype=str), empty, empty, table["gt"].to_numpy(), p)
    values = summarise(given)
    assert len(given) == 1744
    shown = {name: f"{values[name]:.4f}" for name in ("qwk", "accuracy", "referable_auc", "qwk_rounded")}
    assert shown == {"qwk": "0.7976", "accuracy": "0.7265", "referable_auc": "0.9484", "qwk_rounded": "0.8149"}
    assert is_collapsed(given) is None
