"""``train_repeats``: seeds as children of one run, none trained twice; mean and standard deviation of their metrics."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retino_cli.config import TrainConfig
from retino_cli.data.configured import read_manifest
from retino_cli.errors import DataError, RunNotFoundError, UsageError, WeightsError
from retino_cli.evaluation.compare import compare
from retino_cli.tracking import open_store
from retino_cli.tracking.repeats import SEED_TAG, expand_repeats, find_seeds
from retino_cli.training.events import EpochDone, Event, Note, RunStarted, StepDone
from retino_cli.training.repeats import train_repeats
from retino_cli.training.seeds import EnsembleRow, RepeatsResult, SeedRow
from retino_cli.training.train import train

pytestmark = pytest.mark.usefixtures("workplace")
Quick = Callable[..., TrainConfig]


def started(events: list[Event]) -> list[int]:
    """The seeds of the trainings that were begun, or gone on with."""
    return [event.config.seed for event in events if isinstance(event, RunStarted)]


def stop_at_once(_event: Event) -> None:
    raise KeyboardInterrupt


def test_children_are_plain_trainings_and_the_parent_holds_their_mean(quick: Quick) -> None:
    config = quick(seed=3)
    result = train_repeats(config, 2)
    store = open_store()
    parent = store.find(result.run_id, kinds=("repeats",))
    children = [store.find(row.run_id) for row in result.rows]
    assert parent.status == "FINISHED"
    assert [child.parent for child in children] == [parent.run_id] * 2
    assert [child.params["seed"] for child in children] == ["3", "4"]
    assert [child.name[-3:] for child in children] == ["-s3", "-s4"]
    assert parent.params["arch"] == "resnet18"
    assert parent.tags["retino.seeds"] == "3,4"

    # The first seed is what `retino train` alone gives, bit for bit.
    alone = train(config)
    ours, theirs = ({k: v for k, v in r.metrics.items() if k.startswith("test/")} for r in (
        children[0], store.find(alone.run_id)))  # fmt: skip
    assert ours == theirs

    names = {name for name in children[0].metrics if name.startswith("test/")}
    names &= set(children[1].metrics)
    ends = {name for name in names if name.endswith(("_low", "_high"))}
    assert ends
    for name in names - ends:
        values = [child.metrics[name] for child in children]
        assert parent.metrics[name] == pytest.approx(statistics.mean(values), abs=1e-12)
        assert parent.metrics[f"{name}_sd"] == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert not ends & set(parent.metrics)
    both = {name for name in parent.metrics if name.startswith("test/")}
    assert both == names - ends | {f"{name}_sd" for name in names - ends}
    assert parent.metrics["seeds"] == 2

    document = json.loads(store.download(parent.run_id, "repeats/repeats.json").read_text())
    assert document == json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [row["seed"] for row in document["runs"]] == [3, 4]
    table = store.download(parent.run_id, "repeats/repeats.md").read_text()
    assert table == result.to_markdown()
    assert "| majority grade, no pixel read | | |" in table


def test_what_was_interrupted_goes_on_and_more_seeds_are_added(quick: Quick) -> None:
    config = quick(epochs=2)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_repeats(config, 2, listen=stop)
    store = open_store()
    assert {record.kind: record.status for record in store.latest(10)} == {"repeats": "KILLED", "train": "KILLED"}
    (parent,) = store.latest(10, kinds=("repeats",))
    with pytest.raises(RunNotFoundError, match="seed 0, 1 is not finished"):
        expand_repeats(store, parent)

    epochs: list[tuple[int, int]] = []
    seeds: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            seeds.append(event.config.seed)
        if isinstance(event, EpochDone):
            epochs.append((seeds[-1], event.epoch))

    result = train_repeats(config, 2, listen=listen)
    assert epochs == [(0, 2), (1, 1), (1, 2)]
    assert result.run_id == parent.run_id
    assert [row.seconds is None for row in result.rows] == [True, False]  # nobody knows how long the first one paused
    assert "| n/a |" in result.to_markdown().splitlines()[4]

    events: list[Event] = []
    again = train_repeats(config, 2, listen=events.append)
    assert started(events) == []
    assert [event.text.startswith("Seed ") for event in events if isinstance(event, Note)] == [True, True]
    assert (again.mean, again.deviation) == (result.mean, result.deviation)
    assert not any(row.trained_now for row in again.rows)

    more = train_repeats(config, 3, listen=events.append)
    assert started(events) == [2]
    assert (more.run_id, [row.seed for row in more.rows]) == (result.run_id, [0, 1, 2])
    record = store.find(more.run_id, kinds=("repeats",))
    assert record.metrics["seeds"] == 3
    assert record.metrics["test/nll"] == pytest.approx(more.mean["nll"])
    assert again.ensemble == result.ensemble  # not judged a second time
    assert more.ensemble.run_id != result.ensemble.run_id
    assert sorted(one.kind for one in store.latest(10)) == ["eval", "eval", "repeats", "train", "train", "train"]
    # A smaller number takes nothing away.
    assert [row.seed for row in train_repeats(config, 2).rows] == [0, 1, 2]
    assert [one.run_id for one in expand_repeats(store, record)] == [row.run_id for row in more.rows]

    # Another seed, another setting: other repeats.
    for other in (replace(config, seed=1), replace(config, lr=0.02)):
        with pytest.raises(KeyboardInterrupt):
            train_repeats(other, 2, listen=stop_at_once)
    assert len(store.latest(10, kinds=("repeats",))) == 3


def test_a_child_that_died_before_it_knew_its_settings_is_trained_anew(quick: Quick) -> None:
    config = quick()

    with pytest.raises(KeyboardInterrupt):
        train_repeats(config, 2, listen=stop_at_once)
    store = open_store()
    (parent,) = store.latest(10)
    dead = store.start_run(
        experiment="retino", name="dead", kind="train", params={}, tags={SEED_TAG: "0"}, parent=parent.run_id
    )
    dead.finish("KILLED")
    result = train_repeats(config, 2)
    assert dead.run_id not in [row.run_id for row in result.rows]
    assert [record.status for record in find_seeds(store, parent.run_id).values()] == ["FINISHED"] * 2


def test_seeds_are_judged_on_the_same_images(quick: Quick, synthetic_data: Path) -> None:
    config = quick(split="patient")
    cuts = [read_manifest(replace(config, seed=seed)).split_fingerprint() for seed in (0, 1)]
    assert cuts[0] != cuts[1]
    assert read_manifest(replace(config, seed=1, split_seed=0)).split_fingerprint() == cuts[0]
    result = train_repeats(config, 2)
    tags = [open_store().find(row.run_id).tags["retino.split_fingerprint"] for row in result.rows]
    assert tags == [cuts[0]] * 2
    comparison = compare([result.run_id], n_resamples=20)
    assert [group.members for group in comparison.groups] == [(0, 1)]
    assert comparison.groups[0].mean["nll"] == pytest.approx(result.mean["nll"], abs=1e-9)
    assert comparison.groups[0].deviation["nll"] == pytest.approx(result.deviation["nll"], abs=1e-9)
    with pytest.raises(UsageError, match="named twice"):
        compare([result.run_id, result.rows[0].run_id], n_resamples=20)


@pytest.mark.parametrize("repeats", [-1, 0, 1, 101])
def test_numbers_out_of_range_are_refused(quick: Quick, repeats: int) -> None:
    with pytest.raises(UsageError, match="--repeats"):
        train_repeats(quick(), repeats)


def test_what_cannot_be_trained_begins_no_run(quick: Quick, tmp_path: Path) -> None:
    from retino_cli.data.synth import write_dataset

    unjudged = tmp_path / "unjudged"
    write_dataset(unjudged, patients=4, size=48, seed=2, test_fraction=0, workers=1)
    wrong: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
        ({"init": "latest"}, UsageError, "--init latest"),
        ({"init": "nobody"}, RunNotFoundError, "nobody"),
        ({"weights": tmp_path / "nowhere.pth"}, WeightsError, "nowhere"),
        ({"seed": 2**63 - 1}, UsageError, "--seed"),
        ({"data": tmp_path / "nowhere"}, DataError, "nowhere"),
        ({"data": unjudged, "val_fraction": 0.0}, DataError, "nothing to judge by"),
    )
    for changes, kind, message in wrong:
        with pytest.raises(kind, match=message):
            train_repeats(quick(**changes), 2)
    assert open_store().latest(10) == []


def row(seed: int, accuracy: float, **metrics: float) -> SeedRow:
    known = {"accuracy": accuracy, "majority_accuracy": 0.5, **metrics}
    return SeedRow(seed, f"{seed:08}", f"s{seed}", 10 * seed, known, 60.0, 2 if accuracy == 0.5 else None, True)


def test_the_tables_numbers_are_those_of_the_rows() -> None:
    rows = (row(1, 0.5, qwk=0.1, fellow_eye_accuracy=0.8, fellow_eye_qwk=0.7), row(2, 0.7), row(3, 0.9, qwk=0.2))
    together = EnsembleRow("abcdef0123", {"accuracy": 0.8})
    result = RepeatsResult("id", "name", "retino", "test", rows, together, "store", "mlflow ui")
    assert result.mean == {"accuracy": pytest.approx(0.7), "majority_accuracy": 0.5}  # QWK: not defined for all
    assert result.deviation["accuracy"] == pytest.approx(0.2)
    text = result.to_markdown()
    assert "| 1 | 00000001 (collapsed: grade 2) | 10 | 0.5000 | 0.1000 | n/a | n/a | 60 |" in text
    assert "| mean | | 20.0 | 0.7000 | n/a | n/a | n/a | 60 |" in text
    assert "| standard deviation | | | 0.2000 | n/a | n/a | n/a | |" in text
    assert "| ensemble | abcdef01 | | 0.8000 | n/a | n/a | n/a | |" in text
    assert "fellow eye" not in text  # the baseline, too, has to be known for all
    assert [row.seed for row in result.collapsed] == [1]
