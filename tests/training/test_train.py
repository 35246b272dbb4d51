"""``train``: what a run leaves behind, which checkpoint it keeps, and what happens when something goes wrong."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, RunNotFoundError, TrainingError, WeightsError
from retino_cli.evaluation.predictions import read_predictions
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.models.factory import build_model
from retino_cli.tracking import RunRecord, open_store
from retino_cli.training import train as module
from retino_cli.training.events import EpochDone, Event, Listener, Note, RunStarted
from retino_cli.training.loop import TrainingSetup, train_epochs
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]


def the_run() -> RunRecord:
    """The only run of the store."""
    (record,) = open_store().latest(10)
    return record


def stored_weights(run_id: str, which: str = "best") -> dict[str, Tensor]:
    return load_checkpoint(open_store().download(run_id, f"checkpoint/{which}"))[0].state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def with_metrics(monkeypatch: pytest.MonkeyPatch, change: Callable[[EpochDone], dict[str, float]]) -> None:
    """Let the loop report ``change(record)`` in place of what it measured."""

    def changed(setup: TrainingSetup, *, first_epoch: int, listen: Listener) -> Iterator[EpochDone]:
        for record in train_epochs(setup, first_epoch=first_epoch, listen=listen):
            yield replace(record, metrics={**record.metrics, **change(record)})

    monkeypatch.setattr(module, "train_epochs", changed)


# -- what a run leaves behind ------------------------------------------------------------------------------------------


@pytest.mark.figures
def test_a_run_records_everything(workplace: Path, quick: Quick) -> None:
    events: list[Event] = []
    result = train(quick(epochs=2, run_name="whole"), listen=events.append)

    record = the_run()
    assert (record.run_id, record.name, record.kind, record.status) == (result.run_id, "whole", "train", "FINISHED")
    assert record.experiment == "retino"
    for name, value in (("arch", "resnet18"), ("epochs", "2"), ("seed", "0"), ("precision", "float32")):
        assert record.params[name] == value
    assert record.params["preprocess"] == record.tags["retino.preprocess"]
    assert record.tags["retino.data"] == "synthetic"
    for tag in ("data_fingerprint", "split_fingerprint", "device", "collapsed"):
        assert record.tags[f"retino.{tag}"]

    store = open_store()
    history = store.history(result.run_id)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history == result.history
    for row in history:
        assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "images_per_second"} <= row.keys()
        assert not any(name.startswith(("test/", "epoch_test/")) for name in row)
    for prefix, split in (("test", "test"), ("val_best", "val")):
        stored = {k.split("/")[1]: v for k, v in record.metrics.items() if k.startswith(f"{prefix}/")}
        assert stored == result.evaluations[split].defined()

    assert {"config.json", "checkpoint", "val", "test", "curves"} <= set(store.artifacts(result.run_id))
    files = {path.split("/")[-1] for path in store.artifacts(result.run_id, "test")}
    assert {"predictions.csv", "metrics.json", "confusion_matrix.png", "confusion_matrix.svg"} <= files
    config = json.loads(store.download(result.run_id, "config.json").read_text())
    assert TrainConfig.from_dict(config) == result.config
    for which, epoch in (("last", 2), ("best", result.best_epoch)):
        info = load_checkpoint(store.download(result.run_id, f"checkpoint/{which}"))[1]
        assert (info.epoch, info.arch, info.preprocess.image_size) == (epoch, "resnet18", 32)
        assert TrainConfig.from_dict(info.config) == result.config
    with store.download(result.run_id, "curves/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/loss"]) for row in rows] == [row["val/loss"] for row in history]

    json.dumps(result.to_dict(), allow_nan=False)
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    grade = result.evaluations["val"].predictions.grade
    assert started.majority["val"] == np.bincount(grade).max() / len(grade)
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [1, 2]


def test_stored_predictions_give_the_stored_metrics(trained_place: Path) -> None:
    from retino_cli.evaluation.metrics import Undefined, summarise

    store = open_store()
    record = store.find("first")
    for split, prefix in (("val", "val_best"), ("test", "test")):
        folder = store.download(record.run_id, split)
        again = summarise(read_predictions(folder / "predictions.csv"))
        document = json.loads((folder / "metrics.json").read_text())
        for name, value in again.items():
            if isinstance(value, Undefined):
                assert document["metrics"][name] is None
                assert document["undefined"][name] == value.reason
                assert f"{prefix}/{name}" not in record.metrics
            else:
                assert document["metrics"][name] == value == record.metrics[f"{prefix}/{name}"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(workplace: Path, quick: Quick) -> None:
    first, again, other = (train(quick(run_name=f"r{k}", seed=seed)) for k, seed in enumerate((0, 0, 1)))
    assert same(stored_weights(first.run_id), stored_weights(again.run_id))
    drop = "images_per_second"
    assert [{k: v for k, v in row.items() if k != drop} for row in first.history] == [
        {k: v for k, v in row.items() if k != drop} for row in again.history
    ]
    assert not same(stored_weights(first.run_id), stored_weights(other.run_id))


def test_deterministic_repeats_bit_for_bit_with_several_threads(workplace: Path, quick: Quick) -> None:
    inside: list[bool] = []
    torch.set_num_threads(2)  # the fixture one_thread puts it back
    runs = [
        train(
            quick(run_name=f"r{k}", deterministic=True),
            listen=lambda event: (
                inside.append(torch.are_deterministic_algorithms_enabled()) if isinstance(event, EpochDone) else None
            ),
        )
        for k in range(2)
    ]
    assert same(stored_weights(runs[0].run_id, "last"), stored_weights(runs[1].run_id, "last"))
    assert [row["train/loss"] for row in runs[0].history] == [row["train/loss"] for row in runs[1].history]
    assert inside == [True] * 2
    assert not torch.are_deterministic_algorithms_enabled()
    params = open_store().find("r0").params
    assert (params["deterministic"], params["threads"]) == ("True", "2")


# -- which checkpoint is kept ------------------------------------------------------------------------------------------


def test_the_best_checkpoint_is_the_one_validation_likes_best_whatever_test_says(
    workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_val, on_test = [0.1, 0.6, 0.2], [0.1, 0.2, 0.9]
    with_metrics(
        monkeypatch,
        lambda record: {
            "val/accuracy": on_val[record.epoch - 1],
            "epoch_test/accuracy": on_test[record.epoch - 1],
            "train/accuracy": on_test[record.epoch - 1],
        },
    )
    kept: dict[int, dict[str, Tensor]] = {}

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            assert event.best == (event.epoch in (1, 2))
            kept[event.epoch] = stored_weights(the_run().run_id, "last")

    result = train(quick(epochs=3, recipe="lab", select_by="accuracy"), listen=listen)
    assert result.best_epoch == 2
    assert the_run().metrics["best_epoch"] == 2
    assert same(stored_weights(result.run_id), kept[2])
    assert not same(stored_weights(result.run_id), kept[3])
    # The lab's recipe measures test after every epoch: under a name of its own.
    assert all("epoch_test/accuracy" in row for row in result.history)


def test_patience_stops_early(workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    with_metrics(monkeypatch, lambda record: {"val/loss": float(record.epoch)})
    result = train(quick(epochs=9, select_by="loss", patience=1))
    assert (result.epochs, result.best_epoch) == (2, 1)
    assert any("Stopped early" in note for note in result.notes)
    assert the_run().status == "FINISHED"


def test_without_validation_the_last_epoch_is_kept_and_said_so(workplace: Path, quick: Quick) -> None:
    notes: list[Event] = []
    result = train(quick(val_fraction=0.0, epochs=2), listen=notes.append)
    assert result.best_epoch == 2
    assert set(result.evaluations) == {"test"}
    warnings = [note.text for note in notes if isinstance(note, Note) and note.level == "warning"]
    assert any("no validation split" in text for text in warnings)


# -- collapse ----------------------------------------------------------------------------------------------------------


def test_a_model_that_predicts_one_grade_is_called_collapsed(workplace: Path, quick: Quick, tmp_path: Path) -> None:
    one_sided = build_model("resnet18", head="linear", stem="7x7")
    with torch.no_grad():
        one_sided.fc.bias[3] = 100.0
    torch.save(one_sided.state_dict(), tmp_path / "one-sided.pth")
    heard: list[Event] = []
    result = train(quick(weights=tmp_path / "one-sided.pth", lr=1e-12), listen=heard.append)
    evaluation = result.evaluations["test"]
    assert evaluation.collapsed == 3
    assert evaluation.metrics["qwk"] == 0
    assert the_run().tags["retino.collapsed"] == "grade 3"
    (warning,) = [e.text for e in heard if isinstance(e, Note) and e.level == "warning" and "COLLAPSED" in e.text]
    assert "100.0% of the predictions on test are grade 3" in warning


# -- first weights -----------------------------------------------------------------------------------------------------


def test_weights_come_from_a_file_or_from_another_run(trained_place: Path, quick: Quick) -> None:
    other = train(quick(init="first", lr=1e-12, momentum=0.0, weight_decay=0.0, run_name="taken-over"))
    source, taken = stored_weights(open_store().find("first").run_id), stored_weights(other.run_id)
    for name, tensor in source.items():
        if name.endswith("weight") and tensor.ndim == 4:
            torch.testing.assert_close(taken[name], tensor, rtol=0, atol=1e-6)
    record = open_store().find("taken-over")
    assert record.tags["retino.weights"].startswith("run first")
    assert record.params["init"] == "first"


def test_a_missing_file_or_run_of_weights_ends_before_a_run_begins(workplace: Path, quick: Quick) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        train(quick(weights=Path("nowhere.pth")))
    with pytest.raises(RunNotFoundError):
        train(quick(init="nobody"))
    assert open_store().latest(10) == []


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_checkpoint_of_before(
    workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module.build_loss

    def breaking(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
        loss, calls = build(name, **options), 0

        def wrapped(logits: Tensor, grade: Tensor) -> Tensor:
            nonlocal calls
            calls += logits.requires_grad
            return loss(logits, grade) * (math.nan if calls > 2 else 1.0)

        return wrapped

    monkeypatch.setattr(module, "build_loss", breaking)
    with pytest.raises(TrainingError, match="nan in epoch 2, step 1 of 2"):
        train(quick(epochs=3))
    record = the_run()
    assert record.status == "FAILED"
    assert "epoch 2, step 1" in record.tags["retino.error"]
    for which in ("best", "last"):
        model, info = load_checkpoint(open_store().download(record.run_id, f"checkpoint/{which}"))
        assert info.epoch == 1
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_missing_pictures_end_before_a_run_begins_or_are_left_out_on_request(
    workplace: Path, quick: Quick, synthetic_data: Path
) -> None:
    import shutil

    copy = workplace / "copy"
    shutil.copytree(synthetic_data, copy)
    pictures = sorted(copy.rglob("*.jp*g"))
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:400])
    with pytest.raises(DataError):
        train(quick(data=copy))
    assert open_store().latest(10) == []
    result = train(quick(data=copy, skip_unreadable=True))
    images = sum(evaluation.n_images for evaluation in result.evaluations.values())
    whole = sum(1 for _ in synthetic_data.rglob("*.jp*g"))
    started = [note for note in result.notes if "unreadable" in note]
    assert started
    assert 0 < images < whole
