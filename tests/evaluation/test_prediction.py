"""Predicting images without grades: the numbers of an evaluation, in the order of the input, in bounded memory."""

from __future__ import annotations

import io
import itertools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import retino_cli
from retino_cli.data.image_list import NamedImage
from retino_cli.data.manifest import Manifest, load_manifest
from retino_cli.errors import DataError, RunNotFoundError, UsageError
from retino_cli.evaluation import prediction as module
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.grader import Grader, open_grader
from retino_cli.evaluation.inference import BATCH_SIZE
from retino_cli.evaluation.prediction import predict_each, predict_images
from retino_cli.evaluation.prediction_files import ImagePrediction, read_parquet
from retino_cli.evaluation.shards import Shard
from retino_cli.training.events import Event, Preparing


@pytest.fixture
def manifest(synthetic_data: Path) -> Manifest:
    return load_manifest(synthetic_data, val_fraction=0.25)


@pytest.fixture
def pictures(manifest: Manifest) -> list[str]:
    """The paths of all 48 pictures, in the manifest's order."""
    return [str(path) for path in manifest.table["path"]]


@pytest.fixture
def grader(trained_place: Path) -> Grader:
    return open_grader("first", device="cpu")


def predict_to(folder: Path, *sources: str | Path, run: str = "first", **options: object) -> list[ImagePrediction]:
    out = folder / "predictions.parquet"
    predict_images(run, sources, out=out, device="cpu", **options)  # type: ignore[arg-type] # options of predict_images
    return [row for rows in read_parquet(out) for row in rows]


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_numbers_are_those_of_an_evaluation_bit_for_bit(
    trained_place: Path, tmp_path: Path, manifest: Manifest, pictures: list[str], precision: str
) -> None:
    assert len(pictures) > BATCH_SIZE  # the second batch is not full
    stored = evaluate("first", split="all", device="cpu", precision=precision).predictions
    assert stored.image_id.tolist() == manifest.table["image_id"].tolist()
    rows = predict_to(tmp_path, *pictures, precision=precision)
    assert [row.image for row in rows] == pictures
    assert np.array_equal(np.array([row.probabilities for row in rows]), stored.probabilities)
    assert [row.score for row in rows] == stored.expected_grade.tolist()
    assert [row.grade for row in rows] == stored.predicted.tolist()
    assert [row.referable for row in rows] == stored.referable_score.tolist()
    assert {row.error for row in rows} == {""}


def test_unreadable_files_change_nothing_for_the_others(
    trained_place: Path, tmp_path: Path, pictures: list[str]
) -> None:
    whole = predict_to(tmp_path, *pictures)
    (tmp_path / "text.png").write_text("no picture")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(Path(pictures[0]).read_bytes()[:300])
    sources = [str(tmp_path / "text.png"), *pictures[:20], str(cut), *pictures[20:], str(cut)]
    rows = predict_to(tmp_path, *sources)
    assert [row.image for row in rows] == sources
    assert [row for row in rows if not row.error] == whole
    for row in (rows[0], rows[21], rows[-1]):
        assert (row.probabilities, row.score, row.grade, row.referable) == (None, None, None, None)
    assert "text.png: not a picture" in rows[0].error
    assert "cut.jpg" in rows[21].error


def test_another_composition_of_the_batch_changes_rounding_only(
    trained_place: Path, tmp_path: Path, pictures: list[str]
) -> None:
    whole = np.array([row.probabilities for row in predict_to(tmp_path, *pictures[:9])])
    for place in (0, 8):
        (alone,) = predict_to(tmp_path, pictures[place])
        assert alone.probabilities == pytest.approx(whole[place], abs=1e-5)


def test_the_preprocessing_is_the_checkpoints(trained_place: Path, tmp_path: Path, pictures: list[str]) -> None:
    from retino_cli.preprocess import normalise, prepare_picture, to_float

    grader = open_grader("second", device="cpu")
    pixels = torch.from_numpy(prepare_picture(pictures[3], grader.info.preprocess).pixels.copy())
    with torch.inference_mode():
        logits = grader.model(normalise(to_float(pixels.permute(2, 0, 1)[None]), grader.info.preprocess))
    (row,) = predict_to(tmp_path, pictures[3], run="second")
    assert row.probabilities == pytest.approx(torch.softmax(logits.double(), dim=1)[0].tolist(), abs=1e-6)


def test_an_output_that_is_not_finite_is_an_error(grader: Grader, pictures: list[str]) -> None:
    for parameter in grader.model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    rows = list(predict_each(grader, [NamedImage("a", pictures[0])]))
    assert rows == [ImagePrediction("a", error="the model's output is not finite")]


def test_an_operating_point_is_the_one_that_eval_chooses(
    trained_place: Path, tmp_path: Path, synthetic_data: Path
) -> None:
    rows = {}
    for specificity in (None, 0.7, 0.3):
        report = predict_images("first", [synthetic_data / "test"], out=tmp_path / "p.parquet", specificity=specificity)
        rows[specificity] = [row for group in read_parquet(tmp_path / "p.parquet") for row in group]
        if specificity is None:
            assert (report.threshold, report.referred) == (None, None)
            continue
        point = evaluate("first", specificity=specificity).point
        assert point is not None
        assert report.threshold == point.threshold
        assert report.referred == sum(row.refer is True for row in rows[specificity])
    assert {row.refer for row in rows[None]} == {None}
    assert sum(row.refer is True for row in rows[0.7]) < sum(row.refer is True for row in rows[0.3])
    with pytest.raises(UsageError, match="chosen on predictions of one view"):
        predict_images("first", [synthetic_data / "test"], out=tmp_path / "q.csv", tta=True, sensitivity=0.9)
    events: list[Event] = []
    with pytest.raises(UsageError, match="chosen on predictions of one view"):
        evaluate("first", tta=True, sensitivity=0.9, listen=events.append)
    assert events == []  # before any picture is prepared
    with pytest.raises(UsageError, match="both be wanted"):
        predict_images("first", ["x"], out=tmp_path / "q.csv", specificity=0.9, sensitivity=0.9)


def test_parts_with_other_thresholds_are_not_put_together(
    trained_place: Path, tmp_path: Path, synthetic_data: Path
) -> None:
    for index, wanted in enumerate((0.7, 0.3)):
        report = predict_images(
            "first", [synthetic_data / "test"], out=tmp_path / "p.csv", shard=Shard(index, 2), specificity=wanted
        )
    assert report.merged == ""
    report = predict_images(
        "first", [synthetic_data / "test"], out=tmp_path / "p.csv", shard=Shard(0, 2), specificity=0.3
    )
    assert report.merged == str(tmp_path / "p.csv")


# -- how it goes about it ----------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources decoded so far; each is decoded to the same picture, or not at all if it is called "bad"."""
    sources: list[str] = []
    real = module.prepare_picture
    kept: dict[str, object] = {}

    def prepare(source: str, spec: object) -> object:
        sources.append(source)
        threading.Event().wait(0.001)  # slower than the loop that asks for it
        if source == "bad":
            raise DataError("bad: no such file")
        if source not in kept:
            kept[source] = real(source, spec)  # type: ignore[arg-type] # a PreprocessSpec
        return kept[source]

    monkeypatch.setattr(module, "prepare_picture", prepare)
    return sources


@pytest.mark.parametrize("bad", [False, True])
def test_an_endless_list_is_predicted_in_bounded_memory(
    grader: Grader, pictures: list[str], decoded: list[str], bad: bool
) -> None:
    endless = (NamedImage(str(number), "bad" if bad else pictures[0]) for number in itertools.count())
    rows = predict_each(grader, endless, workers=2)
    taken = [row.image for row in itertools.islice(rows, 4 * BATCH_SIZE)]
    rows.close()
    assert taken == [str(number) for number in range(4 * BATCH_SIZE)]
    waiting = len(decoded) - len(taken)
    assert waiting <= (2 * module._MOST_WAITING if bad else 4 * BATCH_SIZE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_next_pictures_are_decoded_while_the_model_works(
    grader: Grader, pictures: list[str], decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = Grader.probabilities, []

    def wait(self: Grader, pixels: np.ndarray) -> np.ndarray:
        before, patience = len(decoded), 500
        while not seen and len(decoded) < before + 8 and patience:
            threading.Event().wait(0.01)
            patience -= 1
        seen.append(len(decoded) - before)
        return real(self, pixels)

    monkeypatch.setattr(Grader, "probabilities", wait)
    images = [NamedImage(str(number), pictures[0]) for number in range(6 * BATCH_SIZE)]
    assert len(list(predict_each(grader, images, workers=1))) == len(images)
    assert seen[0] >= 8


def test_progress_counts_every_image_once(trained_place: Path, tmp_path: Path, pictures: list[str]) -> None:
    events: list[Event] = []
    predict_to(tmp_path, *pictures, listen=events.append)
    told = [(event.done, event.total, event.verb) for event in events if isinstance(event, Preparing)]
    assert told == [(32, 48, "predicted"), (48, 48, "predicted")]


# -- in and out --------------------------------------------------------------------------------------------------------


def test_from_python(trained_place: Path, tmp_path: Path, synthetic_data: Path, pictures: list[str]) -> None:
    report = retino_cli.predict("first", [synthetic_data], out=str(tmp_path / "deep" / "p.csv"), device="cpu")
    assert (report.images, report.errors, report.run_name, report.precision) == (48, 0, "first", "float32")
    lines = (tmp_path / "deep" / "p.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == sorted(pictures)
    stream = io.StringIO()
    retino_cli.predict("first", [synthetic_data], out=stream, device="cpu")
    assert stream.getvalue().splitlines() == lines


def test_a_csv_of_the_data_set_itself_is_a_list_of_images(
    trained_place: Path, tmp_path: Path, synthetic_data: Path
) -> None:
    (labels,) = [path for path in synthetic_data.glob("*.csv") if "rain" in path.name]
    folder = next(path.parent for path in synthetic_data.rglob("*.jpeg") if "rain" in path.parent.name)
    rows = predict_to(tmp_path, labels, images=folder)
    wanted = [line.split(",")[0] for line in labels.read_text().splitlines()[1:]]
    assert [row.image for row in rows] == wanted
    assert not any(row.error for row in rows)


def test_what_cannot_be_right_leaves_nothing_behind(trained_place: Path, tmp_path: Path, pictures: list[str]) -> None:
    out = tmp_path / "p.csv"
    attempts: list[tuple[type[Exception], Callable[[], object]]] = [
        (DataError, lambda: predict_images("first", ["nowhere"], out=out)),
        (UsageError, lambda: predict_images("first", [], out=out)),
        (UsageError, lambda: predict_images("first", pictures, out=tmp_path / "p.xlsx")),
        (UsageError, lambda: predict_images("first", pictures, out=out, device="tpu9")),
        (RunNotFoundError, lambda: predict_images("nobody", pictures, out=out)),
        (UsageError, lambda: predict_images("first", pictures, out=io.StringIO(), shard=module.Shard(0, 2))),
    ]
    for kind, attempt in attempts:
        with pytest.raises(kind):
            attempt()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        predict_images("first", pictures, out=tmp_path / "file" / "p.csv", device="cpu")
    assert [path.name for path in tmp_path.iterdir() if path.name != "workplace"] == ["file"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_stop_leaves_the_file_of_before(
    trained_place: Path, tmp_path: Path, pictures: list[str], suffix: str
) -> None:
    out = tmp_path / f"p{suffix}"
    out.write_text("of before")

    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_images("first", pictures, out=out, device="cpu", listen=stop)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "of before"


# -- shards ------------------------------------------------------------------------------------------------------------


def run_shard(out: Path, sources: list[str], index: int, count: int, **options: object) -> module.PredictionReport:
    shard = module.Shard(index, count)
    return predict_images("first", sources, out=out, shard=shard, device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_shards_put_together_are_the_whole(
    trained_place: Path, tmp_path: Path, pictures: list[str], suffix: str
) -> None:
    sources = [*pictures[:10], str(tmp_path / "bad.png"), *pictures[10:12]]
    (tmp_path / "bad.png").touch()
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"p{suffix}"
    # In batches of the shards' sizes: only then are the numbers the same, bit for bit.
    for index in range(3):
        rows = module.Shard(index, 3).rows(len(sources))
        predict_images("first", sources[rows.start : rows.stop], out=whole.with_name(f"{index}{suffix}"), device="cpu")
    for index in (2, 0):
        report = run_shard(out, sources, index, 3)
        assert (report.merged, out.exists()) == ("", False)
    report = run_shard(out, sources, 1, 3)
    assert report.merged == str(out)
    assert report.shard == "1/3"
    parts = [tmp_path / f"{index}{suffix}" for index in range(3)]
    if suffix == ".parquet":
        assert list(read_parquet(out))[0] == [row for part in parts for rows in read_parquet(part) for row in rows]
    else:
        lines = [line for part in parts for line in part.read_text().splitlines() if not line.startswith("image,")]
        assert [line for line in out.read_text().splitlines() if not line.startswith("image,")] == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["bad.png", out.name, *(part.name for part in parts)]
    )


def test_finished_shards_are_kept_and_those_of_another_list_or_grader_are_not(
    trained_place: Path, tmp_path: Path, pictures: list[str], decoded: list[str]
) -> None:
    out, some = tmp_path / "p.csv", pictures[:8]
    run_shard(out, some, 0, 2)
    assert decoded == some[:4]
    report = run_shard(out, some, 0, 2)
    assert (report.already_there, report.images, len(decoded)) == (True, 4, 4)
    run_shard(out, pictures[1:9], 0, 2)  # another list
    assert len(decoded) == 8
    predict_images("second", some, out=out, shard=module.Shard(1, 2), device="cpu")  # the second half, another grader
    assert not out.exists()
    run_shard(out, some, 0, 2, precision="bfloat16")  # the first half again, in another precision
    assert not out.exists()
    run_shard(out, some, 0, 2)
    run_shard(out, some, 1, 2)
    assert len(out.read_text().splitlines()) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_a_damaged_shard_is_made_again(trained_place: Path, tmp_path: Path, pictures: list[str]) -> None:
    out = tmp_path / "p.csv"
    run_shard(out, pictures[:4], 0, 2)
    shard = tmp_path / "p.csv.shard-0-of-2"
    shard.write_bytes(shard.read_bytes()[:100])
    run_shard(out, pictures[:4], 1, 2)
    assert not out.exists()
    assert not run_shard(out, pictures[:4], 0, 2).already_there
    assert len(out.read_text().splitlines()) == 5


def test_a_merge_that_was_killed_is_done_by_whoever_comes_next(
    trained_place: Path, tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.csv"
    with monkeypatch.context() as patch:
        patch.setattr(module, "merge", lambda *_: False)
        for index in range(2):
            run_shard(out, pictures[:4], index, 2)
    report = run_shard(out, pictures[:4], 0, 2)
    assert (report.already_there, report.merged) == (True, str(out))
    assert len(out.read_text().splitlines()) == 5


def test_more_shards_than_images(trained_place: Path, tmp_path: Path, pictures: list[str]) -> None:
    for index in range(3):
        run_shard(tmp_path / "p.csv", pictures[:2], index, 3)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 3


# -- real photographs --------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_photographs_as_in_an_evaluation(trained_place: Path, tmp_path: Path, real_data: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    found = sorted((real_data / "idrid").rglob("*.jpg"))[:4]
    for path in found:
        shutil.copy(path, folder)
    (folder / "labels.csv").write_text("image,level\n" + "".join(f"{path.name},1\n" for path in found))
    columns = {"image_column": "image", "label_column": "level"}
    grader = open_grader("first", device="cpu")
    from retino_cli.config import TrainConfig
    from retino_cli.data.configured import read_manifest
    from retino_cli.evaluation.inference import predict
    from retino_cli.training.events import ignore
    from retino_cli.training.setup import prepare_split

    manifest = read_manifest(TrainConfig(data=folder, **columns))  # type: ignore[arg-type] # two columns
    labelled = prepare_split(manifest, "all", grader.spec, workers=1, skip_unreadable=False, listen=ignore)
    expected = predict(grader.model, labelled, grader.spec, grader.runtime)
    rows = predict_to(tmp_path, folder / "labels.csv")
    by_name = {row.image: row.probabilities for row in rows}
    for image_id, probabilities in zip(expected.image_id, expected.probabilities, strict=True):
        (name,) = [name for name in by_name if image_id in name]
        assert by_name[name] == tuple(probabilities.tolist())
