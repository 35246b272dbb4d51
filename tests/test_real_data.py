"""The main job on real data: RetinaMNIST, the lab's label files, and IDRiD's photographs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from retino_cli.cli import app
from retino_cli.evaluation.predictions import read_predictions
from retino_cli.tracking import open_store

pytestmark = [pytest.mark.real_data, pytest.mark.figures]


def retino(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that must succeed; its stdout."""
    monkeypatch.setattr(sys, "argv", ["retino", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        app.main()
    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    return out


def assert_judged(document: dict[str, object], n_images: int, majority: float) -> None:
    """The object that ``retino eval RUN --json`` has to give, with scikit-learn's numbers in it."""
    assert document["split"] == "test"
    assert document["n_images"] == n_images
    record = open_store().find(str(document["run_id"]))
    predictions = read_predictions(open_store().download(record.run_id, "test/predictions.csv"))
    metrics = document["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["majority_accuracy"] == pytest.approx(majority, abs=1e-12)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(predictions.grade, predictions.predicted))
    kappa = cohen_kappa_score(predictions.grade, predictions.predicted, labels=np.arange(5), weights="quadratic")
    assert metrics["qwk"] == pytest.approx(kappa)
    auc = roc_auc_score(predictions.grade >= 2, predictions.probabilities[:, 2:].sum(axis=1))
    assert metrics["referable_auc"] == pytest.approx(auc)


@pytest.mark.slow
def test_retinamnist(
    real_data: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = real_data / "retinamnist" / "retinamnist.npz"
    flags = ("--data", data, "--stem", "7x7", "--epochs", 1, "--lr", 0.01, "--no-tta")
    trained = json.loads(retino(monkeypatch, capsys, "train", *flags, "--json"))
    assert trained["config"]["image_size"] == 28  # never enlarged
    judged = json.loads(retino(monkeypatch, capsys, "eval", trained["run_id"], "--json"))
    assert judged["run_id"] == trained["run_id"]
    assert_judged(judged, 400, 174 / 400)
    assert judged["metrics"] == trained["evaluations"]["test"]["metrics"]


@pytest.mark.slow
def test_idrid(
    real_data: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--image-size", 64, "--stem", "7x7", "--no-tta")
    flags = ("--data", real_data / "idrid", *size, "--epochs", 1, "--lr", 0.01)
    trained = json.loads(retino(monkeypatch, capsys, "train", *flags, "--json"))
    judged = json.loads(retino(monkeypatch, capsys, "eval", trained["run_id"][:8], "--json"))
    assert_judged(judged, 103, 34 / 103)
    assert trained["evaluations"]["val"]["n_images"] == pytest.approx(41, abs=3)


def test_the_labs_label_files(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(retino(monkeypatch, capsys, "data", "inspect", real_data / "lab-csv", "--json"))
    assert document["layout"] == "lab"
    official = document["official"]
    assert (official["train"]["images"], official["train"]["grades"]) == (28_100, [20_656, 1_955, 4_210, 698, 581])
    assert (official["test"]["images"], official["test"]["grades"]) == (7_026, [5_154, 488, 1_082, 175, 127])
    assert document["total"]["missing"] == 35_126
