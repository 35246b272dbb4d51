"""Exporting graders: the file's answers are the checkpoint's, it describes itself, and nothing half-made is left."""

from __future__ import annotations

import base64
import builtins
import dataclasses
import errno
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import retino_cli
from retino_cli.data.labelled import to_device
from retino_cli.data.pictures import EncodedPicture
from retino_cli.errors import DataError, RetinoError, RunNotFoundError, UsageError, WeightsError
from retino_cli.evaluation.exported import ExportedGrader, open_exported
from retino_cli.evaluation.grader import open_grader
from retino_cli.evaluation.inference import batch_probabilities
from retino_cli.evaluation.prediction import predict_images
from retino_cli.evaluation.prediction_files import read_parquet
from retino_cli.export import export as module
from retino_cli.export.export import draw_inputs, export_grader
from retino_cli.export.graph import GraderGraph
from retino_cli.export.onnx_file import encode_onnx, write_whole
from retino_cli.models.exported import METADATA_KEY, ExportedInfo
from retino_cli.models.factory import build_model
from retino_cli.preprocess import PreprocessSpec, normalise, prepare_picture, to_float
from retino_cli.runtime import choose_runtime

SIZE = 32


def describe(spec: PreprocessSpec, *, arch: str = "resnet18", tta: bool = False, **changes: Any) -> ExportedInfo:
    info = ExportedInfo(
        run_id="0" * 32, run_name="a run", epoch=3, arch=arch, tta=tta, preprocess=spec, metrics={"val/qwk": 0.5},
        data={"name": "eyes"}, calibration={"n_images": 9, "temperature": 1.5}, operating_point={}, retino_version="1",
    )  # fmt: skip
    return dataclasses.replace(info, **changes)


def noise(n: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def run_all(content: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Every output of the file, by name, with nothing of retino between."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": pixels.transpose(0, 3, 1, 2)}), strict=True))


def make_lopsided(arch: str) -> torch.nn.Module:
    """A network whose answers depend on the picture and on which way up it lies, and lie far apart."""
    torch.manual_seed(1)
    network = build_model(arch, head="linear", stem="", dropout=0.0, image_size=SIZE)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def grade(model: torch.nn.Module, pixels: np.ndarray, info: ExportedInfo) -> np.ndarray:
    """What evaluation makes of ``pixels``."""
    images = to_device(pixels, torch.device("cpu"))
    return batch_probabilities(model, images, info.preprocess, choose_runtime("cpu", "float32"), tta=info.tta)


def check_answers(found: dict[str, np.ndarray], expected: np.ndarray) -> None:
    """Probabilities, and what predictions are made of them."""
    assert found["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert found["score"] == pytest.approx(expected @ np.arange(5), abs=1e-4)
    assert found["grade"].tolist() == expected.argmax(axis=1).tolist()
    assert found["referable"] == pytest.approx(expected[:, 2:].sum(axis=1), abs=1e-5)


# -- the graph ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def transformer() -> tuple[torch.nn.Module, ExportedInfo, bytes]:
    """A small network of timm with eight views and an operating point: network, description and file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec = PreprocessSpec(image_size=SIZE, crop="none", mean=(0.4, 0.3, 0.2), std=(0.3, 0.2, 0.1))
    info = describe(spec, arch="timm:test_vit", tta=True, operating_point={"threshold": 0.6, "wanted": 0.9})
    model = make_lopsided(info.arch)
    content = encode_onnx(GraderGraph(model, spec, tta=True, threshold=info.threshold), info)
    torch.set_num_threads(threads)
    return model, info, content


def test_eight_views_and_an_operating_point(
    transformer: tuple[torch.nn.Module, ExportedInfo, bytes], one_thread: None
) -> None:
    model, info, content = transformer
    exported = ExportedGrader(content, source="file", threads=1)
    for n in (1, 5, 9):  # four pictures make a piece
        pixels = noise(n)
        expected = grade(model, pixels, info)
        assert np.ptp(expected) > 0.05
        assert exported.probabilities(pixels) == pytest.approx(expected, abs=1e-5)
        found = run_all(content, pixels)
        check_answers(found, expected)
        assert found["refer"].tolist() == (expected[:, 2:].sum(axis=1) >= 0.6).tolist()
    assert 0 < found["refer"].sum() < 9
    turned = np.ascontiguousarray(np.rot90(pixels, axes=(1, 2)))
    assert exported.probabilities(turned) == pytest.approx(expected, abs=1e-5)
    one_view = dataclasses.replace(info, tta=False)
    assert np.abs(grade(model, pixels, one_view) - expected).max() > 1e-3


def test_the_preprocessing_inside_is_the_trainings(one_thread: None) -> None:
    """The second half of it, bit for bit: what the network inside the graph is given."""
    seen: list[torch.Tensor] = []

    class Listening(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean(dim=(2, 3)) @ torch.ones(3, 5)

    for spec in (PreprocessSpec(image_size=SIZE), PreprocessSpec(image_size=SIZE, mean=(0, 0, 0), std=(1, 1, 1))):
        pixels = to_device(noise(3), torch.device("cpu"))
        GraderGraph(Listening(), spec, tta=False, threshold=None)(pixels)
        assert torch.equal(seen.pop(), normalise(to_float(pixels), spec))


def test_the_description_comes_back(transformer: tuple[torch.nn.Module, ExportedInfo, bytes]) -> None:
    import onnx

    _model, info, content = transformer
    exported = ExportedGrader(content, source="file")
    assert exported.info == info
    assert (exported.spec, exported.run_id, exported.name) == (info.preprocess, info.run_id, "a run")
    document = onnx.load_model_from_string(content)
    assert "Not a medical device" in document.doc_string
    assert "refer: bool" in document.doc_string
    props = {prop.key: prop.value for prop in document.metadata_props}
    assert json.loads(props[METADATA_KEY])["grades"][2] == "Moderate NPDR"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "format"),
        (json.dumps({"format": 2}), "format 2; this retino reads format 1"),
        (json.dumps({"format": 1, "run_id": ""}), "lacks arch"),
        (describe(PreprocessSpec()).to_json().replace('"version": 2', '"version": 99'), "version 99"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(text: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        ExportedInfo.from_json(text)


# -- a run -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def exported_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def file(trained_place: Path, exported_place: Path) -> Path:
    """The run ``first``, exported once, with an operating point."""
    out = exported_place / "new folder" / "first.onnx"
    if not out.exists():
        report = export_grader("first", out=out, sensitivity=0.8)
        assert report.largest_difference < 1e-5
        assert (report.n_checked, report.n_bytes, report.tta) == (5, out.stat().st_size, False)
        assert report.trained_difference is None
    return out


def test_predict_with_the_file_is_predict_with_the_run(
    file: Path, tmp_path: Path, synthetic_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, thresholds, referred = {}, [], []
    for run, out in (("first", tmp_path / "a.parquet"), (str(file), tmp_path / "b.parquet")):
        if out.name == "b.parquet":
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")  # no store here
        report = predict_images(run, [synthetic_data / "test"], out=out, sensitivity=0.8 if run == "first" else None)
        assert (report.run_name, report.errors) == ("first", 0)
        thresholds.append(report.threshold)
        assert report.referred is not None
        referred.append(report.referred)
        rows[run] = [row for group in read_parquet(out) for row in group]
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [row.image for row in rows["first"]] == [row.image for row in rows[str(file)]]
    mine, theirs = (np.array([row.probabilities for row in rows[run]]) for run in ("first", str(file)))
    assert theirs == pytest.approx(mine, abs=1e-5)
    assert np.ptp(mine, axis=0).max() > 1e-3  # else any answer would do
    assert thresholds[0] == thresholds[1]
    for one, count in zip(rows.values(), referred, strict=True):
        assert [row.refer for row in one] == [row.referable >= thresholds[0] for row in one]
        assert sum(bool(row.refer) for row in one) == count


def test_one_view(file: Path, one_thread: None) -> None:
    grader = open_grader("first", device="cpu")
    pixels = noise(3)
    expected = grader.probabilities(pixels)
    check_answers(run_all(file.read_bytes(), pixels), expected)
    assert np.ptp(expected) > 1e-3


def test_the_operating_point_is_the_one_that_eval_chooses(file: Path) -> None:
    point = open_exported(file).info.operating_point
    shown = retino_cli.evaluate("first", sensitivity=0.8, device="cpu").point
    assert shown is not None
    assert point["threshold"] == shown.threshold
    assert (point["criterion"], point["wanted"], point["n_images"]) == ("sensitivity", 0.8, 10)


def test_parts_know_the_file(file: Path, tmp_path: Path, synthetic_data: Path) -> None:
    from retino_cli.evaluation.shards import Shard

    for index in (0, 1):
        report = predict_images(
            str(file), [synthetic_data / "test"], out=tmp_path / "p.csv", shard=Shard(index, 2)
        )  # fmt: skip
    assert report.merged == str(tmp_path / "p.csv")


def test_a_difference_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file.read_bytes()
    monkeypatch.setattr(module, "encode_onnx", lambda _graph, _info: content)
    honest = ExportedGrader.probabilities
    monkeypatch.setattr(ExportedGrader, "probabilities", lambda self, pixels: honest(self, pixels) + 0.002)
    with pytest.raises(RetinoError, match=r"differs by 0\.002"):
        export_grader("first", out=tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(ExportedGrader, "probabilities", lambda self, pixels: honest(self, pixels) * np.nan)
    with pytest.raises(RetinoError, match="differs by nan"):
        export_grader("first", out=tmp_path / "x.onnx")


def test_a_run_in_bfloat16_says_how_far_the_file_is_from_predict(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "encode_onnx", lambda _graph, _info: file.read_bytes())
    opened = open_grader("first", device="cpu", precision="bfloat16")
    monkeypatch.setattr(module, "open_grader", lambda *_arguments, **_options: opened)
    report = export_grader("first", out=tmp_path / "x.onnx")
    assert report.largest_difference < 1e-5
    assert report.trained_difference is not None
    assert report.trained_difference > report.largest_difference


def test_a_full_disk_leaves_what_was_there(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x.onnx"
    out.write_bytes(b"older")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="cannot be written: No space left") as caught:
        write_whole(out, b"newer")
    assert "--out" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert out.read_bytes() == b"older"
    monkeypatch.undo()
    write_whole(out, b"newer")
    assert out.read_bytes() == b"newer"


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"out": Path("grader.pt")}, UsageError, r"does not end in \.onnx"),
        ({"out": Path("g.onnx"), "format": "torchscript"}, UsageError, "onnx, mlflow"),
        ({"out": Path("g.onnx"), "sensitivity": 1.5}, UsageError, "out of range"),
        ({"out": Path("g.onnx"), "sensitivity": 0.9, "specificity": 0.9}, UsageError, "cannot both"),
        ({"out": Path("g.onnx"), "sensitivity": 0.9, "tta": True}, UsageError, "one view of each image"),
        ({"out": Path("g.onnx"), "run": "nobody"}, RunNotFoundError, "nobody"),
        ({"out": Path("mlruns"), "format": "mlflow"}, DataError, "not an empty folder"),
        ({"out": Path("mlflow.db/below/g.onnx")}, DataError, "nothing can be written in .*mlflow.db"),
    ],
)
def test_what_cannot_be_exported(
    trained_place: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kind: type[RetinoError],
    says: str,
) -> None:
    def refuse(*_arguments: Any) -> bytes:
        raise AssertionError("computed before it was checked")

    monkeypatch.setattr(module, "encode_onnx", refuse)
    with pytest.raises(kind) as caught:
        export_grader(**({"run": "first"} | options))
    assert re.search(says, f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra_the_error_says_how_to_get_it(
    trained_place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    _hide(monkeypatch, missing)
    with pytest.raises(UsageError, match=f"{missing}, which is not installed") as caught:
        export_grader("first", out=tmp_path / "x.onnx")
    assert "retino[onnx]" in caught.value.hint


def test_files_that_are_none_of_ours(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    with pytest.raises(WeightsError, match="no such file") as caught:
        open_exported(tmp_path / "x.onnx")
    assert "retino export" in caught.value.hint
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"cut\.onnx cannot be used as an ONNX file"):
        open_exported(cut)
    document = onnx.load(file)
    del document.metadata_props[:]
    onnx.save(document, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="not exported by retino"):
        open_exported(tmp_path / "other.onnx")
    onnx.helper.set_model_props(document, {METADATA_KEY: '{"format": 7}'})
    onnx.save(document, tmp_path / "newer.onnx")
    with pytest.raises(WeightsError, match=r"newer\.onnx: it was exported in format 7"):
        open_exported(tmp_path / "newer.onnx")
    _hide(monkeypatch, "onnxruntime")
    with pytest.raises(UsageError, match="needs ONNX Runtime"):
        open_exported(file)


def _hide(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def find(name: str, *rest: Any) -> Any:
        if name == missing:
            raise ImportError(f"No module named '{name}'", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", find)


@pytest.mark.parametrize(("text", "threads"), [(None, 0), ("3", 3), ("4,2", 4), ("", 0), ("many", 0)])
def test_threads_are_those_that_torch_would_take(
    monkeypatch: pytest.MonkeyPatch, text: str | None, threads: int
) -> None:
    from retino_cli.evaluation import exported

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert exported._wanted_threads() == threads


def test_drawn_inputs_are_photographs_as_the_spec_wants_them() -> None:
    for spec in (PreprocessSpec(image_size=28), PreprocessSpec(image_size=96, crop="none")):
        pixels = draw_inputs(spec)
        assert pixels.shape == (5, spec.image_size, spec.image_size, 3)
        assert pixels.std(axis=(1, 2, 3)).min() > 10


# -- pictures in memory ------------------------------------------------------------------------------------------------


def test_a_picture_in_memory_is_the_picture_on_disk(synthetic_data: Path) -> None:
    path = sorted(synthetic_data.rglob("*.jpeg"))[0]
    spec = PreprocessSpec(image_size=16)
    on_disk, in_memory = (
        prepare_picture(source, spec) for source in (str(path), EncodedPicture("a", path.read_bytes()))
    )
    assert np.array_equal(on_disk.pixels, in_memory.pixels)
    assert on_disk.sha256 == in_memory.sha256


@pytest.mark.parametrize(("content", "says"), [(b"", "0 bytes"), (b"text", "not a picture")])
def test_a_picture_in_memory_that_is_none(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=f"picture 7: .*{says}"):
        prepare_picture(EncodedPicture("picture 7", content), PreprocessSpec())


# -- MLflow ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow warns of itself as it is imported
def test_the_folder_that_mlflow_serves(
    file: Path, tmp_path: Path, synthetic_data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow.pyfunc

    monkeypatch.setattr(module, "encode_onnx", lambda _graph, _info: file.read_bytes())
    out = tmp_path / "served"
    out.mkdir()  # an empty folder is as good as none
    capfd.readouterr()
    report = export_grader("first", out=out, format="mlflow", sensitivity=0.8)
    assert capfd.readouterr() == ("", "")
    assert (report.out, report.format) == (str(out), "mlflow")
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    requirements = (out / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in requirements} >= {"torch", "pillow", "numpy", "onnxruntime", "mlflow"}
    assert all("+" not in line for line in requirements)
    assert (out / "code" / "retino_cli" / "preprocess.py").is_file()
    monkeypatch.setattr(sys, "path", list(sys.path))
    served = mlflow.pyfunc.load_model(str(out))
    photographs = sorted((synthetic_data / "test").iterdir())[:3]
    contents = [path.read_bytes() for path in photographs] + [b"text"]
    answers = served.predict(pd.DataFrame({"image": contents}))
    assert answers.columns.tolist() == ["p0", "p1", "p2", "p3", "p4", "score", "grade", "referable", "refer", "error"]
    predict_images("first", photographs, out=tmp_path / "p.parquet")
    rows = [row for group in read_parquet(tmp_path / "p.parquet") for row in group]
    threshold = open_exported(file).info.threshold
    for place, row in enumerate(rows):
        assert row.probabilities == pytest.approx(answers.loc[place, "p0":"p4"].tolist(), abs=1e-5)
        assert answers.loc[place, "grade"] == row.grade
        assert answers.loc[place, "refer"] == (answers.loc[place, "referable"] >= threshold)
    assert "picture 4: not a picture" in answers.loc[3, "error"]
    assert answers.loc[3, "p0":"refer"].isna().all()
    # As a client sends it, and as the server answers: base64 in, null for what is not there.
    from mlflow.pyfunc.scoring_server import invocations

    body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(c).decode()] for c in contents]}}
    reply = invocations(json.dumps(body), "application/json", served, served.metadata.get_input_schema())
    assert reply.status == 200
    sent = json.loads(reply.response)["predictions"]
    assert sent[0]["p0"] == pytest.approx(answers.loc[0, "p0"])
    assert (sent[3]["grade"], sent[3]["refer"]) == (None, None)
    with pytest.raises(DataError, match="not an empty folder"):
        export_grader("first", out=out, format="mlflow")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_that_cannot_be_finished_is_not_there(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retino_cli.tracking import packaging

    monkeypatch.setattr(module, "encode_onnx", lambda _graph, _info: file.read_bytes())

    def full(folder: Path, *_rest: Any) -> None:
        folder.mkdir()
        (folder / "MLmodel").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packaging, "save_served", full)
    with pytest.raises(DataError, match="cannot be written: No space left"):
        export_grader("first", out=tmp_path / "served", format="mlflow")
    assert list(tmp_path.iterdir()) == []


def test_png_bytes_of_a_request_may_be_any_format(file: Path) -> None:
    """What a browser or a camera sends: the same answer from PNG and from WebP without loss."""
    eye = np.full((64, 96, 3), 20, dtype=np.uint8)
    eye[16:48, 24:72] = (200, 90, 40)
    pixels = []
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        encoded = io.BytesIO()
        Image.fromarray(eye).save(encoded, kind, **options)
        pixels.append(prepare_picture(EncodedPicture(kind, encoded.getvalue()), open_exported(file).spec).pixels)
    assert np.array_equal(*pixels)
