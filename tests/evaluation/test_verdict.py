"""The verdict: who is better, by how much, and when the data cannot tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retino_cli.evaluation.bootstrap import INTERVAL_METRICS
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.resampling import Interval
from retino_cli.evaluation.verdict import DISPLAY_NAMES, describe_difference, describe_differences, is_settled

GAIN = Interval(0.031, 0.008, 0.055)
NOTHING = Interval(0.004, -0.012, 0.020)


def mirrored(difference: Interval) -> Interval:
    return Interval(-difference.estimate, -difference.high, -difference.low)


def test_a_difference_that_is_settled_names_the_better_one() -> None:
    assert describe_difference("A", "B", "qwk", GAIN) == "B is better than A on QWK by 0.031 [0.008, 0.055]"
    assert describe_difference("A", "B", "qwk", mirrored(GAIN)) == "A is better than B on QWK by 0.031 [0.008, 0.055]"


def test_where_lower_is_better_the_lower_one_wins() -> None:
    text = describe_difference("A", "B", "brier", GAIN)
    assert text == "A is better than B on Brier score by 0.031 [0.008, 0.055]"
    text = describe_difference("A", "B", "ece", mirrored(GAIN))
    assert text == "B is better than A on calibration error by 0.031 [0.008, 0.055]"


def test_a_difference_that_is_not_settled_is_said_to_be_open() -> None:
    expected = "on accuracy the data cannot tell them apart (difference 0.004 [-0.012, 0.020])"
    assert describe_difference("A", "B", "accuracy", NOTHING) == expected
    undefined = describe_difference("A", "B", "macro_auc", Undefined("no image has grade 3"))
    assert undefined == "on macro AUC they cannot be compared (no image has grade 3)"


def test_a_p_value_decides_where_there_is_one() -> None:
    text = describe_difference("A", "B", "qwk", GAIN, p_value=0.051, p_name="Holm-adjusted p")
    assert text == ("on QWK the data cannot tell them apart (difference 0.031 [0.008, 0.055], Holm-adjusted p = 0.051)")
    text = describe_difference("A", "B", "qwk", GAIN, p_value=0.05)
    assert text == "B is better than A on QWK by 0.031 [0.008, 0.055] (p = 0.05)"
    assert describe_difference("A", "B", "qwk", GAIN, p_value=1e-9).endswith("(p < 0.0001)")
    assert not is_settled(Interval(0.0, 0.0, 0.0), p_value=0.001)


def test_an_end_that_is_not_zero_is_not_shown_as_zero() -> None:
    text = describe_difference("A", "B", "qwk", Interval(0.002, 0.00021, 0.004))
    assert text.endswith("by 0.0020 [0.0002, 0.0040]")
    assert "difference 0.000 [0.000, 0.000]" in describe_difference("A", "B", "qwk", Interval(0.0, 0.0, 0.0))
    assert "[-0.010, 0.000]" in describe_difference("A", "B", "qwk", Interval(-0.005, -0.01, 0.0))


def test_one_sentence_on_several_metrics() -> None:
    sentence = describe_differences("A", "B", {"accuracy": NOTHING, "qwk": GAIN})
    assert sentence == (
        "B is better than A on QWK by 0.031 [0.008, 0.055]; "
        "on accuracy the data cannot tell them apart (difference 0.004 [-0.012, 0.020])."
    )
    everything = {
        "accuracy": NOTHING,
        "qwk": GAIN,
        "referable_auc": Interval(0.01, 0.002, 0.018),
        "brier": Interval(0.02, 0.01, 0.03),
        "macro_f1": NOTHING,
        "ece_equal_mass": NOTHING,
        "macro_auc": Undefined("no image has grade 3"),
    }
    assert describe_differences("A (1)", "B", everything) == (
        "B is better than A (1) on QWK by 0.031 [0.008, 0.055] and on referable AUC by 0.010 [0.002, 0.018]; "
        "A (1) is better than B on Brier score by 0.020 [0.010, 0.030]; "
        "on accuracy (difference 0.004 [-0.012, 0.020]), macro F1 (difference 0.004 [-0.012, 0.020]) "
        "and calibration error (equal-mass bins) (difference 0.004 [-0.012, 0.020]) the data cannot tell them apart; "
        "on macro AUC they cannot be compared (no image has grade 3)."
    )
    assert describe_differences("A", "B", {"qwk": NOTHING}) == (
        "Between A and B: on QWK the data cannot tell them apart (difference 0.004 [-0.012, 0.020])."
    )
    with_p = describe_differences("A", "B", {"qwk": GAIN}, p_values={"qwk": 0.2}, p_name="Holm-adjusted p")
    assert with_p.endswith("(difference 0.031 [0.008, 0.055], Holm-adjusted p = 0.20).")


@given(
    st.floats(-1, 1),
    st.floats(0, 0.5),
    st.sampled_from(INTERVAL_METRICS),
    st.none() | st.floats(0, 1),
)
def test_the_verdict_does_not_depend_on_who_comes_first(
    estimate: float, half: float, metric: str, p_value: float | None
) -> None:
    difference = Interval(estimate, estimate - half, estimate + half)
    forth = describe_difference("A", "B", metric, difference, p_value=p_value)
    back = describe_difference("B", "A", metric, mirrored(difference), p_value=p_value)
    if is_settled(difference, p_value=p_value):
        assert forth == back
    else:
        assert "cannot tell" in forth
        assert "cannot tell" in back


@pytest.mark.parametrize("metric", INTERVAL_METRICS)
def test_every_metric_has_a_name_for_people(metric: str) -> None:
    assert "_" not in DISPLAY_NAMES[metric]
