"""What a training tells MLflow of itself, and what it says when it is resumed after stopping early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from retino_cli.config import TrainConfig
from retino_cli.errors import TrainingError
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.tracking import open_store
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]


def test_a_training_and_its_evaluation_are_arranged(workplace: Path, quick: Quick) -> None:
    result = train(quick())
    store = open_store()
    record = store.find(result.run_id)
    text = record.tags["mlflow.note.content"]
    test = result.evaluations["test"]
    accuracy, majority = test.metrics["accuracy"], test.metrics["majority_accuracy"]
    headline = text.splitlines()[0]
    assert f"QWK {test.metrics['qwk']:.3f} [" in headline
    assert f"accuracy {accuracy:.3f} [" in headline
    assert f"{majority:.3f}" in headline
    assert f"| accuracy | {accuracy:.3f} | " in text
    assert test.confusion is not None
    for true, row in enumerate(test.confusion.tolist()):
        cells = " | ".join(f"**{count}**" if k == true else str(count) for k, count in enumerate(row))
        assert f"| {cells} | {sum(row)} |" in text
    assert f"retino eval {result.run_id[:8]}" in text
    assert ("LEAK" in text) == (record.tags["retino.leaky"] == "yes")
    assert ("COLLAPSED" in text) == (record.tags["retino.collapsed"] != "no")
    assert (record.tags["retino.start"], record.tags["retino.epochs_done"]) == ("scratch", "1")

    client = store._connection.client
    run = client.get_run(result.run_id)
    inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "validation", "testing"}
    (model,) = client.search_logged_models([run.info.experiment_id])
    values = {one.key: one.value for one in model.metrics if one.dataset_digest == inputs["testing"].digest}
    assert values == {name: value for name, value in record.metrics.items() if name.startswith("test/")}

    judged = evaluate(result.run_id, device="cpu", workers=1)
    told = client.get_run(judged.evaluation_run_id)
    assert [one.model_id for one in told.inputs.model_inputs] == [model.model_id]
    assert [one.dataset.digest for one in told.inputs.dataset_inputs] == [inputs["testing"].digest]
    assert told.data.tags["mlflow.note.content"].splitlines()[0] == headline


def test_a_run_that_stopped_early_says_so_and_goes_on_with_more_patience(workplace: Path, quick: Quick) -> None:
    # Always the same model: the first epoch stays the best.
    first = train(quick(epochs=4, patience=1, lr=1e-12, optimizer="sgd", weight_decay=0.0, select_by="loss"))
    if first.epochs == 4:
        pytest.fail("the training did not stop early")
    tags = open_store().find(first.run_id).tags
    assert (tags["retino.stopped_early"], tags["retino.epochs_done"]) == ("yes", str(first.epochs))
    assert f"epoch {first.best_epoch} of {first.epochs} (of 4: stopped early)" in tags["mlflow.note.content"]
    with pytest.raises(TrainingError, match=f"stopped early after {first.epochs} of 4 epochs") as caught:
        train(TrainConfig(workers=1), resume=first.run_id)
    assert "--patience 2" in caught.value.hint
    longer = train(TrainConfig(epochs=5, patience=9, workers=1), resume=first.run_id)
    assert longer.epochs == 5
    record = open_store().find(first.run_id)
    assert (record.params["epochs"], record.params["patience"]) == ("5", "9")
    assert record.tags["retino.stopped_early"] == "no"
