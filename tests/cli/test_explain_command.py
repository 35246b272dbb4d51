"""``retino explain``: files, the index, what cannot be read, wrong input."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Retino
from PIL import Image

from retino_cli.evaluation.grader import open_grader
from retino_cli.explain import drawing
from retino_cli.explain.explain import explain_images
from retino_cli.explain.files import COLUMNS


@pytest.fixture
def photographs(tmp_path: Path, synthetic_data: Path) -> Path:
    """Four pictures, and a file that is none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, path in enumerate(sorted(synthetic_data.rglob("*.jpeg"))[:4]):
        shutil.copy(path, folder / f"{number}.jpeg")
    (folder / "2bad.png").write_text("no picture")
    return folder


def read_index(folder: Path) -> list[dict[str, str]]:
    with (folder / "explain.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_photographs(trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "heat"
    ended = retino("explain", "first", photographs, "--out", out, "--device", "cpu", "--maps", "npy")
    assert ended.code == 0, ended.err
    assert "5 images by first" in ended.out
    assert "of the heat is inside the field" in ended.out
    assert "1 of 5 images have no heat map" in ended.err
    assert "2bad.png: not a picture" in ended.err
    rows = read_index(out)
    assert tuple(rows[0]) == COLUMNS
    assert [Path(row["image"]).name for row in rows] == ["0.jpeg", "1.jpeg", "2.jpeg", "2bad.png", "3.jpeg"]
    good = [row for row in rows if not row["error"]]
    assert len(good) == 4
    bad = rows[3]
    assert not any(bad[name] for name in COLUMNS if name not in ("image", "error"))
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["explain.csv", *(f"{number}.gradcam.{ending}" for number in range(4) for ending in ("jpg", "npy"))]
    )
    for row in good:
        with Image.open(row["image"]) as original, Image.open(out / row["overlay"]) as drawn:
            width, height = original.size
            assert drawn.format == "JPEG"
            assert drawn.width == 320  # as wide as the legend needs
            assert drawn.height > 320 * height // width + 40
        heat = np.load(out / row["map"])
        assert heat.shape == (32, 32)
        assert heat.max() in (0.0, 1.0)
        assert row["explained"] == f"grade {row['grade']}"
        if heat.any():
            assert 0 <= int(row["peak_x"]) < width
            assert 0 <= int(row["peak_y"]) < height
            assert 0 <= float(row["in_field"]) <= 1
        left, top, right, bottom = (int(row[name]) for name in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_predictions_are_those_of_predict(
    trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path
) -> None:
    assert retino("predict", "first", photographs, "--out", tmp_path / "p.csv", "--device", "cpu", "--tta").code == 0
    options = ("--device", "cpu", "--out", tmp_path / "heat", "--tta", "--target", "referable", "--image-format", "png")
    ended = retino("explain", "first", photographs, *options, "--maps", "png", "--no-legend", "--size", 64)
    assert ended.code == 0, ended.err
    assert "means of eight views" in ended.out
    rows = read_index(tmp_path / "heat")
    with (tmp_path / "p.csv").open(newline="") as file:
        for row, predicted in zip(rows, csv.DictReader(file), strict=True):
            for name in ("image", "grade", "p0", "p4", "referable", "error"):
                assert row[name] == predicted[name]
    assert {row["explained"] for row in rows if not row["error"]} == {"referable"}
    with Image.open(tmp_path / "heat" / rows[0]["overlay"]) as drawn:
        assert (drawn.format, max(drawn.size)) == ("PNG", 64)
    with Image.open(tmp_path / "heat" / rows[0]["map"]) as heat:
        assert heat.size == (32, 32)
        assert int(np.asarray(heat).max()) in (0, 65535)


def test_limit_json_and_a_second_call(trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image\n3\n1.jpeg\n0.jpeg\n")
    command = ("explain", "first", tmp_path / "list.csv", "--images", photographs, "--out", tmp_path / "heat", "--json")
    report = json.loads(retino(*command, "--device", "cpu", "--limit", 2, "--target", 4).out)
    assert (report["images"], report["errors"], report["target"]) == (2, 0, "4")
    assert [row["image"] for row in read_index(tmp_path / "heat")] == ["3", "1.jpeg"]
    before = (tmp_path / "heat" / "3.gradcam.jpg").read_bytes()
    assert json.loads(retino(*command, "--device", "cpu", "--target", 4).out)["images"] == 3
    assert len(read_index(tmp_path / "heat")) == 3
    assert (tmp_path / "heat" / "3.gradcam.jpg").read_bytes() == before
    assert not list((tmp_path / "heat").glob(".*"))


def test_nothing_readable_and_strict_end_with_1(
    trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path
) -> None:
    options = ("--device", "cpu", "--out", tmp_path / "heat")
    assert retino("explain", "first", photographs / "2bad.png", *options).code == 1
    assert len(read_index(tmp_path / "heat")) == 1
    assert retino("explain", "first", photographs / "2bad.png", photographs / "0.jpeg", *options).code == 0
    assert retino("explain", "first", photographs / "2bad.png", photographs / "0.jpeg", *options, "--strict").code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (("first", "nowhere"), 1, ("nowhere: no such file or folder",)),
        (("first", "empty"), 1, ("empty: there is no image",)),
        (("nobody", "photographs"), 1, ("nobody",)),
        (("first", "photographs", "--target", "severe"), 2, ("--target severe", "referable", "4")),
        (("first", "photographs", "--target", "5"), 2, ("--target 5",)),
        (("first", "photographs", "--size", "10"), 2, ("--size 10", "64")),
        (("first", "photographs", "--maps", "tiff"), 2, ("--maps tiff", "npy")),
        (("first", "photographs", "--image-format", "bmp"), 2, ("--image-format bmp", "png")),
        (("first", "photographs", "--limit", "0"), 2, ("limit",)),
        (("first", "photographs", "--out", "photographs/heat"), 2, ("lies in photographs",)),
        (("first", "photographs", "--out", "full"), 2, ("--out full holds other files",)),
        (("first", "photographs", "--out", "full/note.txt"), 2, ("is no folder",)),
        (("first",), 2, ("Missing argument",)),
    ],
)
def test_wrong_input(
    trained_place: Path,
    monkeypatch: pytest.MonkeyPatch,
    retino: Retino,
    photographs: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    texts: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    store = f"sqlite:///{trained_place}/mlflow.db"
    ended = retino("explain", *arguments, "--device", "cpu", "--tracking-uri", store)
    assert ended.code == code, ended.err
    assert ended.out == ""
    shown = " ".join(ended.err.split())
    for text in texts:
        assert text in shown
    assert "Traceback" not in ended.err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_goes_wrong_on_the_way_leaves_no_index(
    trained_place: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_images("first", [photographs], out=tmp_path / "heat", device="cpu", listen=interrupt)
    assert {path.suffix for path in (tmp_path / "heat").iterdir()} <= {".jpg"}


def test_a_photograph_that_vanishes_has_a_row_that_says_so(
    trained_place: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = drawing.read_photograph

    def read(source: str, *, size: int) -> Image.Image:
        if source.endswith("1.jpeg"):
            Path(source).unlink()
        return real(source, size=size)

    monkeypatch.setattr(drawing, "read_photograph", read)
    report = explain_images("first", [photographs], out=tmp_path / "heat", device="cpu")
    assert report.errors == 2
    assert "1.jpeg: no such file" in read_index(tmp_path / "heat")[1]["error"]


def test_maps_without_heat_are_counted(
    trained_place: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grader = open_grader("first", device="cpu")
    for parameter in grader.model.fc.parameters():  # type: ignore[union-attr] # a ResNet
        parameter.data.zero_()
    monkeypatch.setattr("retino_cli.explain.explain.open_grader", lambda *_args, **_options: grader)
    report = explain_images("first", [photographs], out=tmp_path / "heat", device="cpu")
    assert (report.images, report.errors, report.empty, report.in_field) == (5, 1, 4, None)
    row = read_index(tmp_path / "heat")[0]
    assert (row["peak_x"], row["peak_y"], row["in_field"], row["error"]) == ("", "", "", "")
    assert (tmp_path / "heat" / row["overlay"]).is_file()
