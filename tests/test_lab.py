"""``run_lab``: four children of one parent, none trained twice, and the report's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, UsageError, WeightsError
from retino_cli.lab import LabReport, run_lab
from retino_cli.tracking import open_store
from retino_cli.training.events import EpochDone, Event, Note, RunStarted, StepDone

Quick = Callable[..., TrainConfig]


@pytest.fixture
def lab_config(workplace: Path, quick: Quick) -> Callable[..., TrainConfig]:
    """Configurations of labs that take seconds. The lab's own learning rate and batch size stay."""

    def make(**changes: Any) -> TrainConfig:
        return quick(**({"recipe": "lab", "lr": None, "batch_size": None, "experiment": "lab"} | changes))

    return make


def numbers(report: LabReport) -> list[tuple[object, ...]]:
    return [
        (row.arch, row.start, row.train_accuracy, row.test_accuracy, row.chosen_accuracy, row.chosen_qwk)
        for row in report.rows
    ]


@pytest.mark.figures
def test_two_children_from_scratch_and_a_second_call_trains_nothing(lab_config: Callable[..., TrainConfig]) -> None:
    report = run_lab(lab_config(), scratch_only=True)
    store = open_store()
    parent = store.find(report.run_id, kinds=("lab",))
    children = store.latest(10, parent=report.run_id)
    assert (parent.status, parent.experiment) == ("FINISHED", "lab")
    assert {child.tags["retino.lab_variant"] for child in children} == {"resnet18-scratch", "resnet50-scratch"}
    assert {child.status for child in children} == {"FINISHED"}
    assert {child.params["recipe"] for child in children} == {"lab"}
    assert [row.arch for row in report.rows] == ["resnet18", "resnet50"]
    assert all(row.trained_now for row in report.rows)
    for row in report.rows:
        record = store.find(row.run_id)
        history = store.history(row.run_id)
        # On so few pictures a majority is easily everything: the table has to say so.
        assert record.tags["retino.collapsed"] == ("no" if row.collapsed is None else f"grade {row.collapsed}")
        assert row.train_accuracy == max(one["train/accuracy"] for one in history)
        assert row.test_accuracy == max(one["epoch_test/accuracy"] for one in history)
        assert row.chosen_accuracy == record.metrics["test/accuracy"]
        assert report.majority_accuracy == record.metrics["test/majority_accuracy"]

    files = {path.split("/")[-1] for path in store.artifacts(report.run_id, "report")}
    for name in ("resnet18_accuracy_by_epoch", "resnet50_accuracy_by_epoch", "confusion_matrices"):
        assert {f"{name}.png", f"{name}.svg"} <= files
    assert {"highest_accuracies.md", "lab.json"} <= files
    table = store.download(report.run_id, "report/highest_accuracies.md").read_text()
    assert f"| majority grade, no pixel read | | | | {report.majority_accuracy:.4f} | 0.0000 |" in table
    json.loads(store.download(report.run_id, "report/lab.json").read_text())
    json.dumps(report.to_dict(), allow_nan=False)

    events: list[Event] = []
    again = run_lab(lab_config(), scratch_only=True, listen=events.append)
    assert again.run_id == report.run_id
    assert not any(isinstance(event, RunStarted) for event in events)
    assert not any(row.trained_now for row in again.rows)
    assert numbers(again) == numbers(report)
    assert len(open_store().latest(100)) == 3
    assert sum("not trained again" in event.text for event in events if isinstance(event, Note)) == 2


def test_an_interrupted_child_goes_on_and_another_seed_is_another_lab(
    lab_config: Callable[..., TrainConfig],
) -> None:
    config = lab_config(epochs=2)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_lab(config, scratch_only=True, listen=stop)
    store = open_store()
    assert {record.kind: record.status for record in store.latest(10)} == {"lab": "KILLED", "train": "KILLED"}

    epochs: list[tuple[int, int]] = []
    runs = 0

    def listen(event: Event) -> None:
        nonlocal runs
        runs += isinstance(event, RunStarted)
        if isinstance(event, EpochDone):
            epochs.append((runs, event.epoch))

    report = run_lab(config, scratch_only=True, listen=listen)
    assert epochs == [(1, 2), (2, 1), (2, 2)]  # the first child only goes on
    assert {record.status for record in store.latest(10)} == {"FINISHED"}
    assert len(store.latest(10)) == 3
    assert all(row.trained_now for row in report.rows)
    assert "retino.error" not in store.find(report.run_id, kinds=("lab",)).tags

    with pytest.raises(KeyboardInterrupt):
        run_lab(lab_config(epochs=2, seed=1), scratch_only=True, listen=stop)
    assert len(store.latest(10, kinds=("lab",))) == 2


def test_four_children_where_weights_can_be_had(lab_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    files = {}
    for arch in ("resnet18", "resnet50"):
        files[arch] = tmp_path / f"{arch}.pth"
        torch.save(getattr(torchvision.models, arch)().state_dict(), files[arch])
    report = run_lab(lab_config(), weights=files)
    assert [(row.arch, row.start) for row in report.rows] == [
        ("resnet18", "pretrained"),
        ("resnet18", "scratch"),
        ("resnet50", "pretrained"),
        ("resnet50", "scratch"),
    ]
    store = open_store()
    for row in report.rows:
        record = store.find(row.run_id)
        assert record.parent == report.run_id
        assert ("retino.weights" in record.tags) == (row.start == "pretrained")
        assert record.params["head"] == "lab"


def test_without_weights_the_message_offers_the_ways_out_and_nothing_is_begun(
    lab_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("retino_cli.models.weights.BASE_URL", "http://127.0.0.1:9/")
    with pytest.raises(WeightsError, match="ImageNet weights for resnet18") as caught:
        run_lab(lab_config())
    for way in ("--weights-resnet18", "--weights-resnet50", "--scratch-only"):
        assert way in caught.value.hint
    with pytest.raises(WeightsError):
        run_lab(lab_config(), weights={"resnet18": Path("nowhere.pth")})
    with pytest.raises(UsageError, match="resnet19"):
        run_lab(lab_config(), weights={"resnet19": Path("nowhere.pth")})
    assert open_store().latest(10) == []


def test_without_test_images_validation_is_judged_and_without_both_nothing_is_begun(
    lab_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from retino_cli.data.synth import write_dataset

    write_dataset(tmp_path / "train-only", patients=8, size=48, seed=2, test_fraction=0, workers=1)
    with pytest.raises(DataError, match="nothing to judge by"):
        run_lab(lab_config(data=tmp_path / "train-only", val_fraction=0.0), scratch_only=True)
    assert open_store().latest(10) == []
    report = run_lab(lab_config(data=tmp_path / "train-only"), scratch_only=True)
    assert report.split == "val"
    assert all(row.test_accuracy is not None for row in report.rows)
    assert "highest val accuracy" in report.to_markdown()


def test_the_fellow_eye_baseline_stands_in_the_table_where_it_is_known() -> None:
    report = LabReport("id", "test", (), 0.7336, 0.8471, 0.723, (), "store", "mlflow ui")
    assert "| fellow eye's grade, no pixel read | | | | 0.8471 | 0.7230 |" in report.to_markdown()
    assert "fellow" not in LabReport("id", "test", (), 0.7, None, None, (), "", "").to_markdown()
