"""Whatever a person can get wrong: a message with cause and next step, exit code 1 or 2, no run left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Ended, Retino
from PIL import Image

from retino_cli.errors import RetinoError
from retino_cli.tracking import open_store

Flags = tuple[object, ...]


def assert_told(ended: Ended, code: int, *texts: str) -> None:
    """A message on stderr that holds ``texts`` and a next step; nothing on stdout; nothing left RUNNING."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    shown = " ".join(ended.err.split())
    for text in texts:
        assert text in shown
    message, _, hint = ended.err.partition("Error: ")[2].strip().partition("\n")
    assert message
    assert hint.strip(), f"no next step: {ended.err}"
    assert all(record.status != "RUNNING" for record in open_store().latest(100))


@pytest.fixture
def copied(workplace: Path, synthetic_data: Path) -> Path:
    """A data set to break."""
    return Path(shutil.copytree(synthetic_data, workplace / "copied"))


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def with_data(flags: Flags, data: object) -> Flags:
    """``flags`` with another ``--data``."""
    changed = list(flags)
    changed[changed.index("--data") + 1] = data
    return tuple(changed)


# -- data --------------------------------------------------------------------------------------------------------------


def test_a_wrong_path(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    for arguments in (("train", *with_data(quick_flags, "nowhere")), ("data", "inspect", "nowhere")):
        assert_told(retino(*arguments), 1, "nowhere")


def test_an_empty_folder(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    (workplace / "empty").mkdir()
    for arguments in (("train", *with_data(quick_flags, "empty")), ("data", "inspect", "empty")):
        assert_told(retino(*arguments), 1, "empty")


def test_no_data_at_all_where_none_is_named(workplace: Path, retino: Retino) -> None:
    assert_told(retino("train"), 1, str(workplace / "data"))


def test_a_csv_without_the_column(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    (workplace / "labels.csv").write_text("picture,level\na.jpg,1\n")
    flags = ("--image-column", "picture", "--label-column", "grade")
    for arguments in (
        ("train", *with_data(quick_flags, "labels.csv"), *flags),
        ("data", "inspect", "labels.csv", *flags),
    ):
        assert_told(retino(*arguments), 1, "labels.csv", "grade", "level")


def test_columns_that_are_half_given(workplace: Path, retino: Retino) -> None:
    assert_told(retino("data", "inspect", ".", "--image-column", "a"), 2, "--label-column")
    assert_told(retino("data", "inspect", ".", "--split-column", "a"), 2, "--image-column")


def test_a_grade_out_of_range(copied: Path, retino: Retino, quick_flags: Flags) -> None:
    file = next(copied.glob("*rain*.csv"))
    lines = file.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ",7"
    file.write_text("\n".join(lines) + "\n")
    assert_told(retino("train", *with_data(quick_flags, copied)), 1, file.name, "7", "line 4")


def test_missing_pictures(copied: Path, retino: Retino, quick_flags: Flags) -> None:
    gone = pictures(copied)[0]
    gone.unlink()
    assert_told(retino("train", *with_data(quick_flags, copied)), 1, gone.stem, "--skip-unreadable")
    assert open_store().latest(10) == []


def test_all_pictures_missing(copied: Path, retino: Retino, quick_flags: Flags) -> None:
    for path in pictures(copied):
        path.unlink()
    assert_told(retino("train", *with_data(quick_flags, copied)), 1, "not found")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def write_text(path: Path) -> None:
    path.write_text("This is no picture.\n")


def write_one_pixel(path: Path) -> None:
    Image.fromarray(np.zeros((1, 1, 3), dtype=np.uint8)).save(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, write_text, write_one_pixel, empty])
def test_a_picture_that_is_none(
    copied: Path, retino: Retino, quick_flags: Flags, spoil: Callable[[Path], None]
) -> None:
    spoiled = pictures(copied)[0]
    spoil(spoiled)
    assert_told(retino("train", *with_data(quick_flags, copied)), 1, spoiled.name, "--skip-unreadable")
    assert open_store().latest(10) == []


def test_too_few_training_images(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    (workplace / "few").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(workplace / "few" / "a.png")
    (workplace / "few" / "labels.csv").write_text("image,level\na.png,1\n")
    flags = (*with_data(quick_flags, "few"), "--image-column", "image", "--label-column", "level")
    assert_told(retino("train", *flags), 1, "training images")


# -- flags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--arch", "resnet19"), "resnet18, resnet34, resnet50"),
        (("--recipe", "weak"), "strong"),
        (("--epochs", "0"), "--epochs 0"),
        (("--lr", "nan"), "--lr nan"),
        (("--batch-size", "1"), "--batch-size 1"),
        (("--val-fraction", "1.5"), "--val-fraction 1.5"),
        (("--device", "tpu9"), "--device tpu9"),
        (("--pretrained", "--init", "latest"), "--pretrained and --init"),
        (("--format", "dicom"), "dicom"),
        (("--experiment", ""), "--experiment"),
    ],
)
def test_flags_that_cannot_be_right(
    workplace: Path, retino: Retino, quick_flags: Flags, flags: Flags, text: str
) -> None:
    assert_told(retino("train", *quick_flags, *flags), 2, text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--epochs", "many"),
        ("train", "--epoch", "3"),
        ("trian",),
        ("compare",),
        ("runs", "-n", "0"),
    ],
)
def test_what_the_parser_refuses(workplace: Path, retino: Retino, arguments: Flags) -> None:
    ended = retino(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert "Usage: retino" in ended.err


def test_the_environment_stands_between_flag_and_recipe(
    workplace: Path, retino: Retino, quick_flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETINO_ARCH", "resnet19")
    assert_told(retino("train", "--data", "nowhere"), 2, "resnet19")
    monkeypatch.setenv("RETINO_EPOCHS", "0")
    assert_told(retino("train", "--arch", "resnet18", "--data", "nowhere"), 2, "--epochs 0")
    ended = retino("train", "--arch", "resnet18", "--epochs", "1", "--data", "nowhere")
    assert_told(ended, 1, "nowhere")


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("eval", "nobody"), ("confusion", "nobody"), ("compare", "nobody", "noone"), ("eval", "latest")]
)
def test_an_unknown_run_in_an_empty_store(workplace: Path, retino: Retino, arguments: Flags) -> None:
    assert_told(retino(*arguments), 1, "no")


def test_an_unknown_run_is_answered_with_near_ones(trained_place: Path, retino: Retino) -> None:
    for command in (("eval",), ("confusion",), ("compare", "second"), ("train", "--resume")):
        ended = retino(*command, "frist")
        assert_told(ended, 1, "frist", "first")


def test_a_split_that_is_not_there(trained_place: Path, retino: Retino) -> None:
    assert_told(retino("eval", "first", "--split", "tset", "--device", "cpu"), 1, "train", "val", "test")
    assert_told(retino("confusion", "first", "--split", "tset"), 2, "test, val, train, all")


def test_compare_needs_two(trained_place: Path, retino: Retino) -> None:
    assert_told(retino("compare", "first"), 2, "two runs or more")
    assert_told(retino("compare", "first", "first"), 2, "named twice")


def test_resume_takes_no_flag_that_would_make_another_run_of_it(trained_place: Path, retino: Retino) -> None:
    for flag, value in (("--lr", "0.1"), ("--arch", "resnet50"), ("--seed", "3"), ("--format", "eyepacs")):
        assert_told(retino("train", "--resume", "first", flag, value), 2, flag)
    assert_told(retino("train", "--resume", "first", "--pretrained"), 2, "--pretrained")
    assert_told(retino("train", "--resume", "first"), 1, "is finished", "--epochs")


def test_weights_that_are_none(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    (workplace / "weights.pth").write_text("no weights")
    assert_told(retino("train", *quick_flags, "--weights", "weights.pth"), 1, "weights.pth", "text file")
    assert open_store().latest(10) == []


def test_lab_without_weights(
    workplace: Path, retino: Retino, synthetic_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workplace / "torch"))
    monkeypatch.setattr("retino_cli.models.weights.BASE_URL", "http://127.0.0.1:9/")
    assert_told(retino("lab", "--data", synthetic_data), 1, "--weights-resnet18", "--scratch-only")
    assert open_store().latest(10) == []


def test_a_server_that_does_not_answer(workplace: Path, retino: Retino, quick_flags: Flags) -> None:
    from retino_cli.cli import app

    ended = retino("train", *quick_flags, "--tracking-uri", "http://127.0.0.1:9")
    assert ended.code == 1
    assert "does not answer" in ended.err
    assert "Traceback" not in ended.err
    assert app._state["debug"] is False


def test_a_folder_for_pictures_that_cannot_be(trained_place: Path, retino: Retino, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = retino("confusion", "first", "--out", tmp_path / "file" / "figures")
    assert_told(ended, 1, str(tmp_path / "file"))


@pytest.mark.usefixtures("retino")
def test_debug_shows_where_an_error_comes_from(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retino_cli.cli import app

    monkeypatch.setattr(sys, "argv", ["retino", "--debug", "data", "inspect", "nowhere"])
    with pytest.raises(RetinoError, match="nowhere"):
        app.main()
