"""What makes runs readable in MLflow: descriptions, data sets, checkpoints as logged models, resumed parameters."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from retino_cli.data.summary import SplitSummary
from retino_cli.tracking import ActiveRun, Store, delivery
from retino_cli.tracking.experiments import ensure_experiment
from retino_cli.tracking.failures import Unavailable
from retino_cli.tracking.records import cut_blocks


def summary(split: str, counts: tuple[int, ...] = (3, 1, 0, 0, 1)) -> SplitSummary:
    return SplitSummary("abc", split, f"{split}00000000", "/data/abc", counts, 2, "official")


def start(store: Store) -> ActiveRun:
    return store.start_run(experiment="retino", name="a/b: c", kind="train", params={"epochs": 3}, tags={})


def read(store: Store, run: ActiveRun) -> Any:
    return store._connection.client.get_run(run.run_id)


def save(run: ActiveRun, content: str = "weights") -> None:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        (folder / "model.safetensors").write_text(content)

    run.write_folder("checkpoint/best", write)


def log_model(run: ActiveRun, epoch: int = 2) -> None:
    run.log_model("checkpoint/best", epoch=epoch, params={"arch": "resnet18"}, tags={"retino.data": "abc"})


def models(store: Store, run: ActiveRun) -> list[Any]:
    return list(store._connection.client.search_logged_models([read(store, run).info.experiment_id]))


def test_data_sets_are_inputs_with_what_they_are_for(store: Store) -> None:
    with start(store) as run:
        for _ in range(2):  # a resumed run logs them again
            run.log_inputs([(summary("train"), "training"), (summary("test"), "testing")])
    inputs = read(store, run).inputs.dataset_inputs
    found = {one.tags[0].value: one.dataset for one in inputs}
    assert sorted((one.name, one.digest) for one in found.values()) == [
        ("abc", "test00000000"),
        ("abc", "train00000000"),
    ]
    assert '"images": 5' in found["training"].profile
    assert '"grade 0, No apparent DR": 3' in found["testing"].profile
    assert len(inputs) == 2


def test_a_checkpoint_is_a_logged_model_that_takes_no_space_and_has_the_final_metrics(store: Store) -> None:
    with start(store) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"val/qwk": 0.1 * epoch})
        save(run)
        run.log_metrics({"test/qwk": 0.5}, data=summary("test"))
        run.log_metrics({"best_epoch": 2.0})
        log_model(run)
    (model,) = models(store, run)
    assert (model.status, model.source_run_id, model.name) == ("READY", run.run_id, "a-b- c")
    assert model.params == {"arch": "resnet18"}
    assert model.tags["retino.checkpoint"] == f"runs:/{run.run_id}/checkpoint/best"
    assert {(one.key, one.value, one.dataset_name, one.dataset_digest) for one in model.metrics} == {
        ("test/qwk", 0.5, "abc", "test00000000"),
        ("best_epoch", 2.0, None, None),
    }
    (output,) = read(store, run).outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 2)
    points = store._connection.client.get_metric_history(run.run_id, "test/qwk")
    assert [(point.value, point.step) for point in points] == [(0.5, 0)]  # once, where MLflow draws a bar
    own = store.download(run.run_id, "checkpoint/best") / "model.safetensors"
    listed = Path(model.artifact_location.removeprefix("file://")) / "model.safetensors"
    assert listed.samefile(own)
    record = store.find(run.run_id)
    assert store.logged_model(record, 2) == model.model_id
    assert store.logged_model(record, 3) is None


def test_the_logged_model_outlives_its_checkpoint_and_is_completed_when_logged_again(
    store: Store,
) -> None:
    with start(store) as run:
        save(run, "old")
        log_model(run)
        log_model(run)
        (first,) = models(store, run)
        listed = Path(first.artifact_location.removeprefix("file://")) / "model.safetensors"
        save(run, "new")
        assert listed.read_text() == "old"
        log_model(run)
        assert listed.read_text() == "new"
        log_model(run, epoch=4)
    assert len(models(store, run)) == 2
    assert sorted(output.step for output in read(store, run).outputs.model_outputs) == [2, 4]


def test_where_there_are_no_hard_links_the_files_are_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    with start(store) as run:
        save(run)
        monkeypatch.setattr(os, "link", refuse)
        log_model(run)
    (model,) = models(store, run)
    assert (Path(model.artifact_location.removeprefix("file://")) / "model.safetensors").read_text() == "weights"


def test_a_store_that_refuses_models_costs_a_warning_and_not_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise MlflowException("no such endpoint")

    monkeypatch.setattr(store._connection.client, "create_logged_model", refuse)
    monkeypatch.setattr(store._connection.client, "log_inputs", refuse)
    with caplog.at_level(logging.WARNING, logger="retino"), start(store) as run:
        save(run)
        run.log_inputs([(summary("train"), "training")])
        log_model(run)
        run.log_metrics({"test/qwk": 0.5})
    assert "does not take the data sets" in caplog.text
    assert "does not take the logged model" in caplog.text
    record = store.find(run.run_id)
    assert (record.status, record.metrics) == ("FINISHED", {"test/qwk": 0.5})


def test_what_a_silent_store_did_not_take_is_sent_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = delivery.transmit
    away = True

    def transmit(*arguments: Any) -> None:
        if away:
            raise Unavailable("The tracking server does not answer")
        real(*arguments)

    monkeypatch.setattr("retino_cli.tracking.runs.transmit", transmit)
    monkeypatch.setattr("retino_cli.tracking.delivery.transmit", transmit)
    run = start_while_there(store, monkeypatch, real)
    save(run)
    run.log_inputs([(summary("train"), "training")])
    run.log_metrics({"test/qwk": 0.5}, data=summary("test"))
    log_model(run)
    run.describe("**It works.**")
    run.finish()
    assert models(store, run) == []
    away = False
    store.send_kept()
    (model,) = models(store, run)
    assert [one.key for one in model.metrics] == ["test/qwk"]
    assert [one.dataset.digest for one in read(store, run).inputs.dataset_inputs] == ["train00000000"]
    assert store.find(run.run_id).tags["mlflow.note.content"] == "**It works.**"


def start_while_there(store: Store, monkeypatch: pytest.MonkeyPatch, real: Any) -> ActiveRun:
    with monkeypatch.context() as patch:
        patch.setattr("retino_cli.tracking.runs.transmit", real)
        return start(store)


def test_parameters_that_a_resumed_run_changes_are_shown_as_they_are_now(store: Store) -> None:
    with start(store) as run:
        run.log_epoch(1, {"val/qwk": 0.1})
    with store.resume_run(run.run_id, params={"epochs": 9, "arch": "resnet18"}):
        pass
    assert store.find(run.run_id).params == {"epochs": "9", "arch": "resnet18"}
    with store.resume_run(run.run_id, params={"epochs": 3}):
        pass
    assert store.find(run.run_id).params["epochs"] == "3"
    assert read(store, run).data.params["epochs"] == "3"


def test_a_run_of_an_earlier_version_keeps_its_final_values_the_latest(store: Store) -> None:
    run = start(store)
    run.log_epoch(5, {"val/qwk": 0.1})
    store._connection.client.log_metric(run.run_id, "test/qwk", 0.2, step=5)
    run.finish()
    with store.resume_run(run.run_id) as resumed:
        resumed.log_epoch(6, {"val/qwk": 0.2})
        resumed.log_metrics({"test/qwk": 0.7})
    assert store.find(run.run_id).metrics["test/qwk"] == 0.7


def test_descriptions_are_cut_between_paragraphs() -> None:
    text = "\n\n".join(["one", "| a |\n|---|\n| 1 |", "x" * 50])
    assert cut_blocks(text, 1000) == text
    assert cut_blocks(text, 40) == "one\n\n| a |\n|---|\n| 1 |\n\n…"
    assert len(cut_blocks("y" * 500, 40)) <= 40


def test_an_experiment_is_found_by_its_name(store: Store) -> None:
    key = ensure_experiment(store._connection, "fresh")
    assert store.experiment_id("fresh") == key
    assert store.experiment_id("other") is None
