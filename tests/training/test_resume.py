"""Resuming: the same run, the same weights, the same history as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, RunNotFoundError, TrackingError, TrainingError
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.tracking import open_store
from retino_cli.training.events import EpochDone, Event, RunStarted, StepDone
from retino_cli.training.setup import FORMER_ORDINAL_SIGMA, resumed_config
from retino_cli.training.train import TrainResult, train

Quick = Callable[..., TrainConfig]


def weights(run_id: str, which: str = "last") -> dict[str, Tensor]:
    return load_checkpoint(open_store().download(run_id, f"checkpoint/{which}"))[0].state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in history]


def interrupt_in(config: TrainConfig, *, epoch: int, resume: str | None = None) -> str:
    """Train until a step of ``epoch`` is done, then Ctrl-C; the run's id."""
    started: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(event.run_id)
        if isinstance(event, StepDone) and event.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, resume=resume, listen=listen)
    return started[0]


def assert_equal_runs(straight: TrainResult, resumed: TrainResult) -> None:
    assert same(weights(straight.run_id), weights(resumed.run_id))
    assert same(weights(straight.run_id, "best"), weights(resumed.run_id, "best"))
    assert (straight.best_epoch, straight.epochs) == (resumed.best_epoch, resumed.epochs)
    assert timeless(straight.history) == timeless(resumed.history)
    assert [row.keys() for row in straight.history] == [row.keys() for row in resumed.history]
    for split, evaluation in straight.evaluations.items():
        assert evaluation.defined() == resumed.evaluations[split].defined()


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd"}, {"optimizer": "adamw", "lr": 1e-3, "head": "lab", "ema": 0.9, "warmup": 0.3}]
)
def test_interrupted_and_resumed_equals_uninterrupted(
    workplace: Path, quick: Quick, changes: dict[str, object]
) -> None:
    config = quick(epochs=4, **changes)
    straight = train(config)
    run_id = interrupt_in(config, epoch=3)
    store = open_store()
    record = store.find(run_id)
    assert record.status == "KILLED"
    assert "Ctrl-C" in record.tags["retino.error"]
    assert [row["epoch"] for row in store.history(run_id)] == [1, 2]
    for which in ("best", "last"):
        assert load_checkpoint(store.download(run_id, f"checkpoint/{which}"))[1].epoch <= 2

    epochs: list[int] = []
    resumed = train(
        TrainConfig(workers=1),
        resume=run_id[:8],
        listen=lambda event: epochs.append(event.epoch) if isinstance(event, EpochDone) else None,
    )
    assert epochs == [3, 4]
    assert resumed.run_id == run_id
    assert_equal_runs(straight, resumed)
    record = store.find(run_id)
    assert record.status == "FINISHED"
    assert "retino.error" not in record.tags
    assert store.history(run_id) == resumed.history
    # No epoch is in MLflow twice.
    points = store._connection.client.get_metric_history(run_id, "train/loss")
    assert sorted(point.step for point in points) == [1, 2, 3, 4]


def test_an_epoch_that_was_logged_but_not_saved_is_not_logged_twice(
    workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retino_cli.training import train as module

    config = quick(epochs=2)
    straight = train(config)
    save, calls = module.save_checkpoint, 0

    def breaking(folder: Path, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        if folder.name == "last" and calls > 2:
            raise KeyboardInterrupt
        save(folder, **kwargs)  # type: ignore[arg-type] # passed through

    store = open_store()
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", breaking)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    run_id = store.find("latest").run_id
    assert [row["epoch"] for row in store.history(run_id)] == [1, 2]
    assert load_checkpoint(store.download(run_id, "checkpoint/last"))[1].epoch == 1
    resumed = train(TrainConfig(workers=1), resume=run_id)
    assert_equal_runs(straight, resumed)
    assert len(store._connection.client.get_metric_history(run_id, "train/loss")) == 2


def test_a_run_without_a_checkpoint_starts_again(workplace: Path, quick: Quick) -> None:
    config = quick(epochs=1)
    straight = train(config)
    run_id = interrupt_in(config, epoch=1)
    resumed = train(TrainConfig(workers=1), resume=run_id)
    assert resumed.run_id == run_id
    assert any("starts again" in note for note in resumed.notes)
    assert_equal_runs(straight, resumed)

    # Killed while the first one was being written: an empty folder, and one that has stepped aside.
    run_id = interrupt_in(config, epoch=1)
    folder = Path("mlruns") / next(path.parent.name for path in Path("mlruns").glob(f"*/{run_id}"))
    checkpoint = folder / run_id / "artifacts" / "checkpoint"
    (checkpoint / "best").mkdir(parents=True)
    (checkpoint / ".last.old").mkdir()
    assert_equal_runs(straight, train(TrainConfig(workers=1), resume=run_id))


def test_a_checkpoint_that_was_being_replaced_is_found(workplace: Path, quick: Quick) -> None:
    config = quick(epochs=2)
    run_id = interrupt_in(config, epoch=2)
    checkpoint = open_store().download(run_id, "checkpoint")
    for which in ("last", "best"):  # a kill -9 between the two renames
        (checkpoint / which).rename(checkpoint / f".{which}.old")
    resumed = train(TrainConfig(workers=1), resume=run_id)
    assert not any("starts again" in note for note in resumed.notes)
    assert [row["epoch"] for row in resumed.history] == [1, 2]
    assert sorted(path.name for path in checkpoint.iterdir()) == ["best", "last"]


def test_a_finished_run_says_so_and_trains_longer_on_request(workplace: Path, quick: Quick) -> None:
    first = train(quick(epochs=1, schedule="constant"))
    with pytest.raises(TrainingError, match="is finished") as caught:
        train(TrainConfig(), resume=first.run_id)
    assert f"retino train --resume {first.run_id[:8]} --epochs 2" in caught.value.hint
    assert open_store().find(first.run_id).status == "FINISHED"
    longer = train(TrainConfig(epochs=2, workers=1), resume=first.run_id)
    assert (longer.run_id, longer.epochs) == (first.run_id, 2)
    assert [row["epoch"] for row in longer.history] == [1, 2]
    assert timeless(longer.history)[0] == timeless(first.history)[0]
    # With a constant rate, one epoch and then one more is what two are.
    straight = train(quick(epochs=2, schedule="constant"))
    assert same(weights(straight.run_id), weights(longer.run_id))


def test_its_own_settings_count_not_those_of_the_call(workplace: Path, quick: Quick) -> None:
    run_id = interrupt_in(quick(epochs=2, batch_size=8, seed=3), epoch=2)
    resumed = train(TrainConfig(seed=5, batch_size=32, optimizer="adamw", workers=1), resume=run_id)
    assert (resumed.config.seed, resumed.config.batch_size, resumed.config.optimizer) == (3, 8, "sgd")


def test_data_that_has_moved_is_named_and_other_data_is_refused(
    workplace: Path, quick: Quick, synthetic_data: Path
) -> None:
    from retino_cli.data.synth import write_dataset

    here = workplace / "here"
    shutil.copytree(synthetic_data, here)
    run_id = interrupt_in(quick(data=here, epochs=2), epoch=2)
    there = workplace / "there"
    here.rename(there)
    with pytest.raises(DataError, match="here"):
        train(TrainConfig(), resume=run_id)
    write_dataset(workplace / "other", patients=24, size=48, seed=6, test_fraction=0.25, workers=1)
    with pytest.raises(DataError, match="other images or grades") as caught:
        train(TrainConfig(data=workplace / "other"), resume=run_id)
    assert "--init" in caught.value.hint
    assert open_store().find(run_id).status == "KILLED"
    resumed = train(TrainConfig(data=there, workers=1), resume=run_id)
    assert resumed.epochs == 2


def test_runs_that_cannot_be_resumed_say_why(workplace: Path, quick: Quick) -> None:
    with pytest.raises(RunNotFoundError):
        train(TrainConfig(), resume="latest")
    run_id = interrupt_in(quick(epochs=2), epoch=2)
    path = open_store().download(run_id, "config.json")
    assert json.loads(path.read_text())["epochs"] == 2
    path.unlink()
    with pytest.raises(TrackingError, match="no readable config.json"):
        train(TrainConfig(), resume=run_id)


def test_a_run_of_an_older_preprocessing_goes_on_with_its_own_pixels(
    workplace: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from retino_cli.training import setup as starting

    real = starting.build_spec
    with monkeypatch.context() as patch:
        patch.setattr(starting, "build_spec", lambda config: replace(real(config), version=1))
        run_id = interrupt_in(quick(epochs=2), epoch=2)
    train(TrainConfig(workers=1), resume=run_id)
    info = load_checkpoint(open_store().download(run_id, "checkpoint/last"))[1]
    assert (info.epoch, info.preprocess.version) == (2, 1)


def test_a_run_from_before_the_ordinal_width_was_a_setting_keeps_its_own(workplace: Path, quick: Quick) -> None:
    run_id = interrupt_in(quick(epochs=2), epoch=2)
    store = open_store()
    file = store.download(run_id, "config.json")
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["ordinal_sigma"]
    file.write_text(json.dumps(values), encoding="utf-8")
    assert resumed_config(store, store.find(run_id), TrainConfig()).ordinal_sigma == FORMER_ORDINAL_SIGMA == 0.7


def test_a_run_with_a_setting_that_is_gone_is_not_resumed_without_it(quick: Quick) -> None:
    run_id = interrupt_in(quick(epochs=2), epoch=2)
    store = open_store()
    file = store.download(run_id, "config.json")
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(values | {"layer_decay": 1.0, "head_lr": 1.0}), encoding="utf-8")
    assert resumed_config(store, store.find(run_id), TrainConfig()).epochs == 2
    file.write_text(json.dumps(values | {"layer_decay": 0.5, "head_lr": 1.0}), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"was trained with layer_decay=0\.5, which this version cannot go on with"):
        resumed_config(store, store.find(run_id), TrainConfig())
