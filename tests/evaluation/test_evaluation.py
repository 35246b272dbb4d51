"""``evaluate``: the numbers of the training again, on any split and any data, with the checkpoint's preprocessing."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retino_cli.config import TrainConfig
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import load_manifest
from retino_cli.data.prepared import prepare
from retino_cli.errors import DataError, RunNotFoundError, UsageError
from retino_cli.evaluation.artifacts import write_evaluation
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.evaluation import Evaluation, judge
from retino_cli.evaluation.inference import (
    N_SYMMETRIES,
    batch_probabilities,
    predict,
    predict_logits,
    symmetries,
)
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.models.checkpoint import load_checkpoint, save_checkpoint
from retino_cli.preprocess import PreprocessSpec, normalise, prepare_picture, to_float
from retino_cli.runtime import choose_runtime
from retino_cli.tracking import open_store
from retino_cli.training.augment import AUGMENTATIONS, augment
from retino_cli.training.events import Event, Note
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]


def make_predictions(grade: list[int], predicted: list[int], **changes: object) -> Predictions:
    probabilities = np.full((len(grade), 5), 0.05)
    probabilities[np.arange(len(grade)), predicted] = 0.8
    values: dict[str, object] = {
        "image_id": np.array([f"image {k}" for k in range(len(grade))]),
        "patient_id": np.array([""] * len(grade)),
        "eye": np.array([""] * len(grade)),
        "grade": np.array(grade),
        "probabilities": probabilities,
    }
    return Predictions(**(values | changes))  # type: ignore[arg-type] # a dictionary of the right things


def warnings_of(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note) and event.level == "warning"]


def test_it_gives_exactly_the_numbers_that_the_training_stored(trained_place: Path) -> None:
    store = open_store()
    record = store.find("first")
    events: list[Event] = []
    evaluation = evaluate("first", device="cpu", listen=events.append)
    stored = {k.removeprefix("test/"): v for k, v in record.metrics.items() if k.startswith("test/")}
    assert evaluation.defined() == stored
    mine = evaluation.predictions
    theirs = read_predictions(store.download(record.run_id, "test/predictions.csv"))
    for name in ("image_id", "patient_id", "eye", "grade", "probabilities"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    assert not any("leak" in text for text in warnings_of(events))


@pytest.mark.figures
def test_it_is_a_run_of_its_own_below_the_training(trained_place: Path) -> None:
    evaluation = evaluate("first", split="val", device="cpu")
    store = open_store()
    record, training = store.find(evaluation.evaluation_run_id, kinds=("eval",)), store.find("first")
    assert evaluation.run_id == training.run_id
    assert (record.kind, record.status, record.parent) == ("eval", "FINISHED", training.run_id)
    assert record.tags["retino.judged_run"] == training.run_id
    assert record.tags["retino.data_fingerprint"] == training.tags["retino.data_fingerprint"]
    assert record.params["split"] == "val"
    assert {name: value for name, value in record.metrics.items() if name.startswith("val/")} == evaluation.defined(
        "val"
    )
    files = {path.split("/")[-1] for path in store.artifacts(record.run_id, "val")}
    assert {"predictions.csv", "metrics.json", "confusion_matrix.png", "confusion_matrix.svg"} <= files
    document = json.loads(store.download(record.run_id, "val/metrics.json").read_text())
    assert document == json.loads(json.dumps(evaluation.to_dict()))


def test_train_and_all_are_possible_and_warned_of(trained_place: Path, synthetic_data: Path) -> None:
    counts = {}
    for split in ("train", "val", "test", "all"):
        events: list[Event] = []
        counts[split] = evaluate("first", split=split, device="cpu", listen=events.append).n_images
        assert any("trained on" in text for text in warnings_of(events)) == (split in ("train", "all"))
    assert counts["all"] == counts["train"] + counts["val"] + counts["test"] == 48


def test_a_split_that_is_not_there_lists_those_that_are(trained_place: Path) -> None:
    before = len(open_store().latest(1000))
    with pytest.raises(DataError, match=r"no split 'tset'; there are train \(\d+ images\), val .*, test .*, and all"):
        evaluate("first", split="tset", device="cpu")
    assert len(open_store().latest(1000)) == before


def test_an_unknown_run_is_not_found(trained_place: Path) -> None:
    with pytest.raises(RunNotFoundError, match="frist") as caught:
        evaluate("frist")
    assert "first" in f"{caught.value.message} {caught.value.hint}"


def test_another_data_set_is_prepared_as_the_checkpoint_says(
    trained_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retino_cli.data.synth import write_dataset

    write_dataset(tmp_path / "other", patients=4, size=64, seed=9, test_fraction=0.5, workers=1)
    # Neither flags nor the recipe have a say: evaluate has no argument for it.
    allowed = {"run", "data", "layout", "split", "device", "precision", "workers", "skip_unreadable", "tracking_uri"}
    allowed |= {"sensitivity", "specificity", "prevalence", "ungradable", "pair_eyes", "tta"}
    assert set(inspect.signature(evaluate).parameters) == allowed | {"listen"}
    evaluation = evaluate("first", data=tmp_path / "other", split="test", device="cpu")
    assert evaluation.n_images == 4
    record = open_store().find(evaluation.evaluation_run_id, kinds=("eval",))
    training = open_store().find("first")
    assert record.params["preprocess"] == training.params["preprocess"]
    assert record.tags["retino.data_fingerprint"] != training.tags["retino.data_fingerprint"]


def test_data_that_has_moved_is_asked_for_and_then_gives_the_same(
    workplace: Path, quick: Quick, synthetic_data: Path
) -> None:
    shutil.copytree(synthetic_data, workplace / "here")
    result = train(quick(data=Path("here"), run_name="moving", seed=4))
    (workplace / "here").rename(workplace / "there")
    with pytest.raises(DataError, match=r"moving was trained on cannot be read") as caught:
        evaluate("moving", device="cpu")
    assert f"retino eval {result.run_id[:8]} --data" in caught.value.hint
    events: list[Event] = []
    for split in ("val", "test"):
        moved = evaluate("moving", data=Path("there"), split=split, device="cpu", listen=events.append)
        assert moved.defined() == result.evaluations[split].defined()
    assert not any("leak" in text for text in warnings_of(events))


def test_data_with_columns_of_its_own_is_read_by_them_also_in_another_place(
    workplace: Path, quick: Quick, synthetic_data: Path
) -> None:
    table = load_manifest(synthetic_data).table
    (workplace / "here").mkdir()
    rows = ["who,picture,level,part"]
    for path, grade, split, patient in zip(
        table["path"], table["grade"], table["split"], table["patient_id"], strict=True
    ):
        shutil.copy(path, workplace / "here")
        rows.append(f"{patient},{Path(path).name},{grade},{split}")
    (workplace / "here" / "what.csv").write_text("\n".join(rows) + "\n")
    columns = {
        "image_column": "picture",
        "label_column": "level",
        "split_column": "part",
        "patient_column": "who",
    }
    result = train(quick(data=Path("here"), run_name="own-columns", **columns))
    assert evaluate("own-columns", device="cpu").defined() == result.evaluations["test"].defined()
    (workplace / "here").rename(workplace / "there")
    moved = evaluate("own-columns", data=Path("there"), device="cpu")
    assert moved.defined() == result.evaluations["test"].defined()


def test_the_precision_is_the_trainings_unless_another_is_asked_for(trained_place: Path) -> None:
    store = open_store()
    used = {}
    for precision in ("auto", "bfloat16"):
        evaluation = evaluate("first", device="cpu", precision=precision)
        used[precision] = store.find(evaluation.evaluation_run_id, kinds=("eval",)).params["precision"]
    assert used == {"auto": "float32", "bfloat16": "bfloat16"}


def test_a_model_that_says_one_grade_is_called_collapsed(workplace: Path, quick: Quick) -> None:
    result = train(quick())
    folder = open_store().download(result.run_id, "checkpoint/best")
    model, info = load_checkpoint(folder)
    with torch.no_grad():
        model.fc.bias[2] = 100.0
    save_checkpoint(folder, model, info)
    evaluation = evaluate(result.run_id, device="cpu")
    assert evaluation.collapsed == 2
    assert evaluation.metrics["accuracy"] == float((evaluation.predictions.grade == 2).mean())
    assert evaluation.warning is not None
    assert "COLLAPSED: 100.0% of the predictions on test are grade 2 (Moderate)" in evaluation.warning
    record = open_store().find(evaluation.evaluation_run_id, kinds=("eval",))
    assert record.tags["retino.collapsed"] == "grade 2"


def test_a_run_without_a_checkpoint_says_so(workplace: Path, quick: Quick) -> None:
    def listen(_event: Event) -> None:
        if type(_event).__name__ == "StepDone":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(quick(), listen=listen)
    with pytest.raises(RunNotFoundError):
        evaluate("latest", device="cpu")


# -- one preprocessing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_training_without_augmentation_and_evaluation_see_the_same_tensor(
    synthetic_data: Path, shared_cache: Path, plain: bool
) -> None:
    no_scaling = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    spec = replace(PreprocessSpec(image_size=32), **(no_scaling if plain else {}))
    manifest = load_manifest(synthetic_data).select("test")
    images = LabelledImages.of(manifest, prepare(manifest, spec, cache=shared_cache, workers=1))
    cpu = torch.device("cpu")
    index = np.array([3, 0, 5])
    training = normalise(augment(to_float(images.batch(index, cpu)), torch.rand(3, 9), AUGMENTATIONS["none"]), spec)

    class Witness(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            self.seen = pictures
            return pictures[:, 0, 0, :5]

    witness = Witness()
    predict_logits(witness, images, spec, choose_runtime("cpu", "float32"))
    assert torch.equal(training, witness.seen[index])
    # ... and both are what the one function for single pictures gives, bit for bit.
    for row, place in enumerate(index):
        pixels = prepare_picture(str(manifest.table["path"].iat[place]), spec).pixels
        alone = normalise(to_float(torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2)), spec)
        assert torch.equal(training[row : row + 1], alone)


def test_predictions_do_not_depend_on_the_batch_size_and_keep_the_order(
    synthetic_data: Path, shared_cache: Path, trained_place: Path
) -> None:
    model, info = load_checkpoint(open_store().download(open_store().find("first").run_id, "checkpoint/best"))
    manifest = load_manifest(synthetic_data).select("test")
    images = LabelledImages.of(manifest, prepare(manifest, info.preprocess, cache=shared_cache, workers=1))
    runtime = choose_runtime("cpu", "float32")
    whole, single = (
        predict_logits(model, images, info.preprocess, runtime, batch_size=size) for size in (len(images), 1)
    )
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-5)
    predictions = predict(model, images, info.preprocess, runtime)
    assert list(predictions.image_id) == list(manifest.table["image_id"])
    np.testing.assert_array_equal(predictions.grade, manifest.table["grade"])
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(predictions.probabilities, torch.softmax(whole.double(), 1).numpy(), atol=1e-6)


def test_test_time_averaging_takes_the_mean_over_eight_views_and_does_not_care_which_way_up(
    synthetic_data: Path, shared_cache: Path, trained_place: Path
) -> None:
    model, info = load_checkpoint(open_store().download(open_store().find("first").run_id, "checkpoint/best"))
    manifest = load_manifest(synthetic_data).select("test")
    images = LabelledImages.of(manifest, prepare(manifest, info.preprocess, cache=shared_cache, workers=1))
    runtime = choose_runtime("cpu", "float32")
    batch = images.batch(np.arange(6), runtime.device)
    views = list(symmetries(batch))
    assert len({view.numpy().tobytes() for view in views}) == N_SYMMETRIES == len(views)
    assert torch.equal(views[0], batch)
    one_by_one = [batch_probabilities(model, view, info.preprocess, runtime) for view in views]
    averaged = batch_probabilities(model, batch, info.preprocess, runtime, tta=True)
    np.testing.assert_allclose(averaged, np.mean(one_by_one, axis=0), atol=1e-7)
    assert np.abs(averaged - one_by_one[0]).max() > 1e-4  # the network itself does care
    for view in views:
        found = batch_probabilities(model, view, info.preprocess, runtime, tta=True)
        np.testing.assert_allclose(found, averaged, atol=1e-6)
    predictions = predict(model, images, info.preprocess, runtime, tta=True, batch_size=6)
    np.testing.assert_allclose(predictions.probabilities[:6], averaged, atol=1e-12)


# -- the object --------------------------------------------------------------------------------------------------------


def test_undefined_metrics_are_null_with_a_reason(tmp_path: Path) -> None:
    evaluation = judge(make_predictions([2, 2, 2], [2, 2, 1]), split="test", data="made up")
    assert isinstance(evaluation.metrics["referable_auc"], Undefined)
    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert document["metrics"]["referable_auc"] is None
    assert "every image is referable" in document["undefined"]["referable_auc"]
    assert "test/referable_auc" not in evaluation.defined("test")
    write_evaluation(evaluation, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == document


def test_the_fellow_eye_baseline_stands_beside_the_numbers_where_patients_are_in_both(tmp_path: Path) -> None:
    from retino_cli.evaluation.baselines import fellow_eye_baseline

    lines = ["image,level"]
    for patient in range(6):
        for eye in ("left", "right"):
            lines.append(f"{patient}_{eye},{patient % 5}")
    (tmp_path / "trainLabels.csv").write_text("\n".join(lines) + "\n")
    manifest = load_manifest(tmp_path, val_fraction=0)
    table = manifest.table.copy()
    table.loc[table["eye"] == "right", "split"] = "test"  # left eyes in train, right ones in test: as in the lab
    manifest = replace(manifest, table=table)
    test = table[table["split"] == "test"]
    evaluation = judge(
        make_predictions(
            test["grade"].tolist(),
            [0] * 6,
            image_id=test["image_id"].to_numpy(str),
            patient_id=test["patient_id"].to_numpy(str),
            eye=test["eye"].to_numpy(str),
        ),
        split="test",
        data="lab",
        manifest=manifest,
    )
    expected = fellow_eye_baseline(table[table["split"] == "train"], test)
    assert expected.found.all()
    assert evaluation.baselines == {"fellow_eye_share": 1.0, "fellow_eye_accuracy": 1.0, "fellow_eye_qwk": 1.0}


def test_predictions_without_patients_have_no_fellow_eye_baseline(synthetic_data: Path) -> None:
    manifest = load_manifest(synthetic_data)
    assert judge(make_predictions([0, 1], [0, 0]), split="test", data="x", manifest=manifest).baselines == {}


def test_collapse_is_said_with_the_numbers_that_hide_it() -> None:
    evaluation: Evaluation = judge(make_predictions([0] * 7 + [1, 2, 4], [0] * 10), split="test", data="x")
    assert evaluation.collapsed == 0
    assert evaluation.warning is not None
    assert "Accuracy 0.700" in evaluation.warning
    assert "majority baseline 0.700" in evaluation.warning
    assert judge(make_predictions([0, 1, 2], [0, 1, 1]), split="test", data="x").warning is None


def test_an_unknown_device_or_precision_is_a_usage_error(trained_place: Path) -> None:
    with pytest.raises(UsageError, match="--device tpu9"):
        evaluate("first", device="tpu9")
