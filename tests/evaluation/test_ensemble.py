"""Seeds that answer together: the mean of their probabilities, wherever a grader stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import make_predictions
from torch import nn

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, RunNotFoundError, UsageError
from retino_cli.evaluation.compare import compare
from retino_cli.evaluation.ensemble import average_predictions
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.exported import open_exported
from retino_cli.evaluation.fitted import fit
from retino_cli.evaluation.grader import open_grader
from retino_cli.evaluation.operating_point import choose_threshold
from retino_cli.evaluation.prediction import predict_images
from retino_cli.evaluation.predictions import Predictions, read_predictions
from retino_cli.explain.explain import explain_images
from retino_cli.explain.gradcam import heat_maps
from retino_cli.export.export import export_grader
from retino_cli.models.ensemble import Ensemble
from retino_cli.models.exported import ExportedInfo
from retino_cli.models.factory import build_model
from retino_cli.preprocess import PreprocessSpec
from retino_cli.report.report import make_report
from retino_cli.runtime import Runtime
from retino_cli.tracking import open_store
from retino_cli.tracking.repeats import SEED_TAG, SEEDS_TAG
from retino_cli.training.repeats import train_repeats
from retino_cli.training.seeds import RepeatsResult

GRADE = [0, 1, 2, 3, 4, 0]


def drawn(seed: int) -> Predictions:
    values = np.random.default_rng(seed).dirichlet(np.ones(5), len(GRADE))
    return replace(make_predictions(GRADE, GRADE), probabilities=values)


def test_an_ensembles_probabilities_are_the_mean_of_its_members() -> None:
    class Fixed(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) * 30  # as far as 1e-30 apart

        def forward(self, _images: torch.Tensor) -> torch.Tensor:
            return self.logits

    members = [Fixed(seed) for seed in range(4)]
    given = torch.softmax(Ensemble(members)(torch.zeros(3, 3, 8, 8)), dim=1)
    wanted = torch.stack([torch.softmax(one.logits.double(), dim=1) for one in members]).mean(dim=0)
    assert torch.allclose(given.double(), wanted, atol=1e-6)


def test_stored_predictions_are_averaged_by_image() -> None:
    first, second = drawn(1), drawn(2)
    turned = np.arange(len(GRADE))[::-1]
    other = Predictions(
        image_id=second.image_id[turned],
        patient_id=second.patient_id[turned],
        eye=second.eye[turned],
        grade=second.grade[turned],
        probabilities=second.probabilities[turned],
    )
    mean = average_predictions([first, other])
    assert mean.image_id.tolist() == first.image_id.tolist()
    np.testing.assert_allclose(mean.probabilities, (first.probabilities + second.probabilities) / 2, atol=1e-15)
    assert (average_predictions([first]).probabilities == first.probabilities).all()


@pytest.mark.parametrize("change", ["grade", "name", "fewer"])
def test_other_images_have_no_mean(change: str) -> None:
    first, other = drawn(1), drawn(2)
    if change == "grade":
        other = replace(other, grade=np.array([1, *GRADE[1:]]))
    elif change == "name":
        other = replace(other, image_id=np.array(["another", *other.image_id[1:]]))
    else:
        other = Predictions(*(getattr(other, name)[1:] for name in other.__dataclass_fields__))
    with pytest.raises(DataError, match="different images or grades"):
        average_predictions([first, other])


def test_a_map_of_an_ensemble_is_the_mean_of_its_members_maps() -> None:
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        members.append(build_model("resnet18", head="linear", stem="3x3", dropout=0.0, image_size=32).eval())
    spec = PreprocessSpec(image_size=32, crop="none", mean=(0.5,) * 3, std=(0.3,) * 3)
    runtime = Runtime(torch.device("cpu"), "float32")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ensemble = Ensemble(members).eval()
    found = heat_maps(ensemble, images, spec, runtime, target=np.array([0, 2, 4]))
    mean = np.mean([heat_maps(one, images, spec, runtime, target=np.array([0, 2, 4])) for one in members], axis=0)
    np.testing.assert_allclose(found, mean / mean.max(axis=(1, 2), keepdims=True), atol=1e-6)
    with torch.no_grad():
        said = ensemble((images / 255.0 - 0.5) / 0.3).argmax(dim=1).numpy()
    np.testing.assert_array_equal(
        heat_maps(ensemble, images, spec, runtime), heat_maps(ensemble, images, spec, runtime, target=said)
    )


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repeats")


@pytest.fixture
def repeats(
    _place: Path,
    workplace: Path,
    quick: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    empty_database: Path,
) -> RepeatsResult:
    """Two seeds, trained once for all tests here, in a place of their own."""
    monkeypatch.chdir(_place)
    if not (_place / "mlflow.db").exists():
        (_place / "mlflow.db").write_bytes(empty_database.read_bytes())
    return train_repeats(quick(run_name="two"), 2)


def test_repeats_report_what_their_seeds_score_together(repeats: RepeatsResult) -> None:
    store = open_store()
    seeds = [read_predictions(store.download(row.run_id, "test/predictions.csv")) for row in repeats.rows]
    together = read_predictions(store.download(repeats.ensemble.run_id, "test/predictions.csv"))
    np.testing.assert_allclose(
        together.probabilities, (seeds[0].probabilities + seeds[1].probabilities) / 2, atol=1e-12
    )
    record = store.find(repeats.ensemble.run_id, kinds=("eval",))
    assert record.parent == repeats.run_id
    assert record.tags["retino.ensemble"] == "0,1"
    assert record.metrics["test/accuracy"] == repeats.ensemble.metrics["accuracy"]
    assert repeats.ensemble.metrics["accuracy"] == (together.predicted == together.grade).mean()
    document = json.loads(store.download(record.run_id, "test/metrics.json").read_text())
    validation = [read_predictions(store.download(row.run_id, "val/predictions.csv")) for row in repeats.rows]
    assert document["fitted"] == fit(average_predictions(validation)).to_dict()  # on validation, together


def test_the_grader_of_repeats_answers_with_the_mean(
    repeats: RepeatsResult, synthetic_data: Path, tmp_path: Path
) -> None:
    evaluation = evaluate("two", sensitivity=0.8)
    store = open_store()
    stored = read_predictions(store.download(repeats.ensemble.run_id, "test/predictions.csv"))
    computed = read_predictions(store.download(evaluation.evaluation_run_id, "test/predictions.csv"))
    np.testing.assert_allclose(computed.probabilities, stored.probabilities, atol=1e-6)
    grader = open_grader("two")
    assert (grader.seeds, grader.info.epoch, len(grader.members)) == ("0,1", 0, 2)
    assert evaluation.point == choose_threshold(grader.read_validation(), sensitivity=0.8)
    assert grader.fingerprint != open_grader(repeats.rows[0].run_id).fingerprint

    report = predict_images("two", [synthetic_data], out=tmp_path / "p.csv")
    assert (report.run_name, report.images) == ("two", 48)
    alone = evaluate(repeats.rows[0].run_id)
    comparison = compare([evaluation.evaluation_run_id, alone.evaluation_run_id])
    assert comparison.differing["ensemble"] == ("seeds 0,1", "")
    assert [run.history == [] for run in comparison.runs] == [True, False]


def test_what_is_made_of_a_training_is_made_of_repeats(
    repeats: RepeatsResult, synthetic_data: Path, tmp_path: Path
) -> None:
    store = open_store()
    explained = explain_images("two", [synthetic_data], out=tmp_path / "heat", limit=2)
    assert (explained.images, explained.errors) == (2, 0)
    page = make_report(repeats.ensemble.run_id, out=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert page.n_heat_maps > 0
    assert "Each of the 2 seeds has curves of its own" in text
    assert "--repeats 2" in text
    exported = export_grader("two", out=tmp_path / "two.onnx", specificity=0.7)
    assert exported.largest_difference < 1e-5
    info = open_exported(tmp_path / "two.onnx").info
    assert (info.seeds, info.epoch, info.run_id) == ("0,1", 0, repeats.run_id)
    validation = [read_predictions(store.download(row.run_id, "val/predictions.csv")) for row in repeats.rows]
    assert info.threshold == choose_threshold(average_predictions(validation), specificity=0.7).threshold
    assert ExportedInfo.from_json(json.dumps({k: v for k, v in json.loads(info.to_json()).items() if k != "seeds"}))


def test_repeats_that_cannot_answer_together(repeats: RepeatsResult, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    with (
        store.start_run(experiment="retino", name="half", kind="repeats", params={}, tags={SEEDS_TAG: "0,1"}) as parent,
        store.start_run(
            experiment="retino", name="half-s0", kind="train", params={}, tags={SEED_TAG: "0"}, parent=parent.run_id
        ),
    ):
        pass
    with pytest.raises(RunNotFoundError, match="not complete: seed 1 is not finished"):
        open_grader("half")

    from retino_cli.evaluation import grader as module

    load, loaded = module.load_checkpoint, []

    def load_other(*args: object, **options: object) -> object:
        model, info = load(*args, **options)  # type: ignore[arg-type]
        loaded.append(model)
        other = replace(info.preprocess, image_size=info.preprocess.image_size + 1)
        return model, replace(info, preprocess=other) if len(loaded) > 1 else info

    monkeypatch.setattr(module, "load_checkpoint", load_other)
    with pytest.raises(UsageError, match="prepare photographs in different ways"):
        open_grader("two")
