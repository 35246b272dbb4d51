"""Every worked number in docs/metrics.md that ``test_metrics`` does not cover is computed here and found there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from retino_cli.evaluation.bootstrap import INTERVAL_METRICS
from retino_cli.evaluation.calibration import CutPoints, apply_cut_points, fit_cut_points, fit_temperature
from retino_cli.evaluation.eyes import EyeWeight, by_patient, fit_eye_weight
from retino_cli.evaluation.foreign import EYE_NAMES, GRADE_NAMES, ID_NAMES, LABEL_NAMES, PATIENT_NAMES, SCORE_NAMES
from retino_cli.evaluation.metrics import confusion_matrix, quadratic_weighted_kappa, round_grade, summarise
from retino_cli.evaluation.operating_point import ROWS, Ungradable, choose_threshold, operating_table
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.evaluation.probability import brier_per_image, nll_per_image, reliability
from retino_cli.evaluation.significance import binomial_p, holm


@pytest.fixture(scope="module")
def document() -> str:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    return text


@pytest.fixture(scope="module")
def flowing(document: str) -> str:
    """Without line breaks, as a reader sees it."""
    return re.sub(r"\s+", " ", document)


@pytest.fixture(scope="module")
def ten(document: str, tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    path = tmp_path_factory.mktemp("document") / "ten.csv"
    path.write_text(re.findall(r"```csv\n(.*?)```", document, flags=re.DOTALL)[0])
    return read_predictions(path)


@pytest.mark.parametrize(
    ("caption", "ungradable", "policy"),
    [
        ("the ten images at sensitivity 0.95 and prevalence 0.1, ungradable images left out", 0, "exclude"),
        ("the same with 2 ungradable images counted as referred", 2, "refer"),
    ],
)
def test_operating_tables(document: str, ten: Predictions, caption: str, ungradable: int, policy: Ungradable) -> None:
    point = choose_threshold(ten, sensitivity=0.95)
    table = operating_table(ten, point.threshold, prevalence=0.1, ungradable=ungradable, policy=policy, n_resamples=1)
    part = document.split(f"Example: {caption}\n\n", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| `(\w+)` \| ([\d.]+) \|$", part, flags=re.MULTILINE) == [
        (name, f"{table.values[name]:.4f}") for name in ROWS
    ]
    assert f"the threshold is {point.threshold:.2f}, the lowest score of the four referable images" in document


def test_what_is_fitted(flowing: str, ten: Predictions) -> None:
    cuts = fit_cut_points(ten)
    assert isinstance(cuts, CutPoints)
    a, b, c, d = (f"{value:.3f}".rstrip("0") for value in cuts.values)
    assert (
        f"the cut points are {a}, {b}, {c} and {d}, with QWK {cuts.qwk:.4f} (rounding: {cuts.qwk_rounded:.4f})"
        in flowing
    )
    applied = apply_cut_points(ten.expected_grade, cuts.values)
    assert float(quadratic_weighted_kappa(confusion_matrix(ten.grade, applied))) == cuts.qwk
    temperature = fit_temperature(ten)
    shown = f"T = {temperature.value:.4f}: `nll` falls from {temperature.nll_before:.4f} to {temperature.nll:.4f}"
    assert shown in flowing
    eyes = fit_eye_weight(ten)
    assert isinstance(eyes, EyeWeight)
    assert f"w = {eyes.value:.2f}, QWK {eyes.qwk:.4f} (alone: {eyes.qwk_alone:.4f})" in flowing
    patients = by_patient(ten)
    truth, said = (", ".join(map(str, values.tolist())) for values in (patients.grade, patients.predicted))
    accuracy = summarise(patients)["accuracy"]
    assert f"true grades {truth} and the predicted grades {said}: accuracy {accuracy:.1f}" in flowing


def test_tests_and_corrections(flowing: str) -> None:
    assert f"1 against 7 gives p = 2 (1 + 8) / 2^8 = {binomial_p(1, 8):.4f}" in flowing
    adjusted = ", ".join(f"{p:.2f}" for p in holm([0.01, 0.04, 0.03, 0.005]))
    assert f"0.01, 0.04, 0.03, 0.005 become {adjusted}." in flowing


def test_the_steps_of_the_worked_example(flowing: str, ten: Predictions) -> None:
    rounded = round_grade(ten.expected_grade)
    expected = [f"{value:.2f}" for value in ten.expected_grade]
    assert f"expected grades {', '.join(expected[:-1])} and {expected[-1]}" in flowing
    assert f"rounded to {', '.join(map(str, rounded[:-1]))} and {rounded[-1]}" in flowing
    assert f"= {brier_per_image(ten.grade, ten.probabilities)[0]:.4f}; the mean of all" in flowing
    assert f"-log 0.90 = {nll_per_image(ten.grade, ten.probabilities)[0]:.4f}" in flowing
    confidences = [f"{value:.2f}" for value in ten.probabilities.max(axis=1)]
    assert f"the confidences are {', '.join(confidences[:-1])} and {confidences[-1]}" in flowing
    bins = reliability(ten.grade, ten.probabilities)
    assert bins.count[6] == 3
    assert f"three images with a mean of {bins.confidence[6]:.4f} of which one is right" in flowing
    assert bins.count[5] * bins.confidence[5] == pytest.approx(0.4, abs=1e-12)
    gaps = bins.count / 10 * np.abs(bins.accuracy - bins.confidence)
    assert f"adds 3/10 * {abs(bins.accuracy[6] - bins.confidence[6]):.2f} = {gaps[6]:.3f}" in flowing
    assert f"and adds {gaps[5]:.2f}. The sum of all is {bins.calibration_error:.4f}" in flowing


def test_names_that_are_said_to_be_recognised_are(document: str) -> None:
    part = document.split("### Predictions of other origin", 1)[1].split("## Agreement", 1)[0]
    known = {*SCORE_NAMES, *GRADE_NAMES, *LABEL_NAMES, *ID_NAMES, *PATIENT_NAMES, *EYE_NAMES}
    named = set(re.findall(r"`(\w+)`", part))
    not_columns = {"read_foreign", "referable_auc", "majority_accuracy", "p0", "p4", "dr0", "dr4"}
    not_columns |= {"prob_0", "prob_4", "class_0", "0"}
    assert named - not_columns <= known
    assert not_columns <= named
    assert set(SCORE_NAMES) <= named


def test_every_metric_with_an_interval_is_defined(document: str) -> None:
    for name in INTERVAL_METRICS:
        assert f"| `{name}` |" in document
