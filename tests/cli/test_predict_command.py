"""``retino predict``, ``retino data prepare`` and ``retino data cache``: output, exit codes, wrong input, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from commands import Retino, Spawn

from retino_cli.data.cache_folders import list_cache


@pytest.fixture
def photographs(tmp_path: Path, synthetic_data: Path) -> Path:
    """Five pictures, and a file that is none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, path in enumerate(sorted(synthetic_data.rglob("*.jpeg"))[:5]):
        shutil.copy(path, folder / f"{number}.jpeg")
    (folder / "2bad.png").write_text("no picture")
    return folder


def test_a_folder_to_a_file(trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    ended = retino("predict", "first", photographs, "--out", out, "--device", "cpu")
    assert ended.code == 0
    assert str(out) in ended.out
    assert "6 images by first" in ended.out
    assert "1 of 6 images have no prediction" in ended.err
    assert "2bad.png: not a picture" in ended.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == [
        "0.jpeg", "1.jpeg", "2.jpeg", "2bad.png", "3.jpeg", "4.jpeg",
    ]  # fmt: skip
    assert [bool(row["error"]) for row in rows] == [False, False, False, True, False, False]
    assert sum(float(rows[0][f"p{grade}"]) for grade in range(5)) == pytest.approx(1)


def test_stdout_holds_the_rows_and_nothing_else(trained_place: Path, retino: Retino, photographs: Path) -> None:
    ended = retino("predict", "first", photographs / "0.jpeg", photographs / "1.jpeg", "--out", "-", "--device", "cpu")
    assert ended.code == 0
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["image"] for row in rows] == [str(photographs / "0.jpeg"), str(photographs / "1.jpeg")]


def test_strict_and_nothing_readable_end_with_1(
    trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path
) -> None:
    options = ("--out", tmp_path / "p.jsonl", "--device", "cpu")
    assert retino("predict", "first", photographs, *options, "--strict").code == 1
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 6
    (tmp_path / "list.csv").write_text("image\n0.jpeg\n")
    ended = retino("predict", "first", tmp_path / "list.csv", *options)
    assert ended.code == 1
    assert "--images" in ended.err
    assert retino("predict", "first", tmp_path / "list.csv", *options, "--images", photographs, "--strict").code == 0


def test_json(trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    ended = retino("predict", "first", photographs, "--out", out, "--device", "cpu", "--json", "--shard", "0/1")
    report = json.loads(ended.out)
    assert (report["images"], report["errors"], report["out"], report["run_name"]) == (6, 1, str(out), "first")


def test_parts_by_hand_and_by_a_launcher(
    trained_place: Path, retino: Retino, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("predict", "first", photographs, "--out", tmp_path / "p.csv", "--device", "cpu")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert retino(*command).code == 0
    assert (tmp_path / "p.csv.shard-1-of-2").is_file()
    assert "were predicted before" in retino(*command).out
    assert "All parts are there" in retino(*command, "--shard", "0/2").out
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 7
    assert retino(*command[:3], "--out", "-").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (("nowhere",), 1, ("nowhere: no such file or folder",)),
        (("empty",), 1, ("empty: there is no image", ".jpg")),
        (("list.csv",), 1, ("list.csv, line 1", "'picture'", "--image-column")),
        (("list.csv", "--image-column", "file"), 1, ("no column file",)),
        (("photographs", "--image-column", "file"), 2, ("--image-column",)),
        (("photographs", "--images", "photographs"), 2, ("--images",)),
        (("photographs", "--out", "p.xlsx"), 2, ("p.xlsx", ".parquet")),
        (("photographs", "--out", "-", "--json"), 2, ("--json",)),
        (("photographs", "--shard", "3/3"), 2, ("--shard 3/3",)),
        (("photographs", "--device", "tpu9"), 2, ("--device tpu9",)),
        ((), 2, ("Missing argument",)),
    ],
)
def test_wrong_input(
    workplace: Path,
    retino: Retino,
    photographs: Path,
    arguments: tuple[str, ...],
    code: int,
    texts: tuple[str, ...],
) -> None:
    (workplace / "empty").mkdir()
    (workplace / "list.csv").write_text("picture,grade\na.jpg,1\n")
    (workplace / "photographs").symlink_to(photographs)
    before = sorted(workplace.iterdir())
    ended = retino("predict", "latest", *arguments)
    assert ended.code == code, ended.err
    assert ended.out == ""
    shown = " ".join(ended.err.split())
    for text in texts:
        assert text in shown
    assert "Traceback" not in ended.err
    assert sorted(workplace.iterdir()) == before


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_stopped_prediction_leaves_no_file(
    spawn: Spawn, trained_place: Path, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.csv").write_text("image\n" + f"{photographs / '0.jpeg'}\n" * 20_000)
    out = tmp_path / "out" / "p.csv"
    process = spawn(
        *("predict", "first", tmp_path / "long.csv", "--out", out, "--device", "cpu"),
        *("--tracking-uri", f"sqlite:///{trained_place}/mlflow.db"),
    )
    while process.poll() is None and not (out.parent.exists() and any(p.stat().st_size for p in out.parent.iterdir())):
        time.sleep(0.05)  # until it has written its first rows
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(out.parent.iterdir()) == []


# -- data prepare, data cache ------------------------------------------------------------------------------------------


def test_prepare_list_and_clear(
    workplace: Path, retino: Retino, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))
    assert "0 sets" in retino("data", "cache").out
    ended = retino("data", "prepare", synthetic_data, "--image-size", 16, "--workers", 1)
    assert ended.code == 0
    assert "48 decoded" in ended.out
    assert "decoded 48 of 48 photographs" in ended.err
    assert "Format raw: the pixels need 0.07 GB" in ended.out
    report = json.loads(retino("data", "prepare", synthetic_data, "--image-size", 16, "--json").out)
    assert (report["images"], report["decoded"], report["already_there"]) == (48, 0, 48)
    (one,) = list_cache()
    shown = retino("data", "cache").out
    assert one.name in shown
    assert " 48 " in shown
    assert json.loads(retino("data", "cache", "--json").out)["folders"][0]["name"] == one.name
    ended = retino("data", "cache", "--clear", "idrid")
    assert (ended.code, ended.out) == (2, "")
    assert one.name in ended.err
    assert "1 deleted" in retino("data", "cache", "--clear", one.name).out
    assert json.loads(retino("data", "cache", "--clear", "all", "--json").out) == {"removed": [], "busy": []}
    ended = retino("data", "prepare", synthetic_data, "--image-size", 16, "--workers", 1, "--compact")
    assert "Format compact: as asked for" in ended.out
    assert " compact " in retino("data", "cache").out
    report = json.loads(retino("data", "prepare", synthetic_data, "--image-size", 16, "--json").out)
    assert (report["format"], report["why"]) == ("compact", "compact: these pictures were first prepared so")


def test_prepare_of_what_is_not_there(workplace: Path, retino: Retino) -> None:
    ended = retino("data", "prepare", "nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert "nowhere" in ended.err
    assert retino("data", "prepare", ".", "--crop", "circle").code == 2
