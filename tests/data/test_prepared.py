"""The prepared cache: complete, shared, restartable, and never silently wrong."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import hear_interrupts
from PIL import Image

from retino_cli.data import filling
from retino_cli.data.manifest import COLUMNS, Manifest, load_manifest
from retino_cli.data.prepared import PreparedImages, prepare
from retino_cli.errors import DataError
from retino_cli.preprocess import PreprocessSpec, prepare_picture

SPEC = PreprocessSpec(48)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve pictures on disk: eight of train, four of test."""
    root = tmp_path / "data"
    root.mkdir()
    paths = [root / f"{number:02}.jpg" for number in range(12)]
    for number, path in enumerate(paths):
        _draw(path, number)
    return _manifest(root, [str(path) for path in paths])


def _draw(path: Path, seed: int, size: tuple[int, int] = (300, 200)) -> None:
    noise = np.random.default_rng(seed).integers(60, 255, (9, 12, 3)).astype(np.uint8)
    Image.fromarray(noise).resize(size).save(path, "JPEG", quality=90)


def _manifest(root: Path, paths: list[str]) -> Manifest:
    rows = [
        (Path(path).stem or f"absent{row}", path, row % 5, "train" if row < 8 else "test", "", "")
        for row, path in enumerate(paths)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Manifest("small set", "folders", root, table, ungradable={}, duplicates=0, validation="none")


def _assert_right(prepared: PreparedImages, manifest: Manifest) -> None:
    expected = [prepare_picture(path, prepared.spec) for path in manifest.table["path"]]
    pixels = prepared.gather(np.arange(len(expected)))
    assert np.array_equal(pixels, np.stack([picture.pixels for picture in expected]))
    for record, picture in zip(prepared.index, expected, strict=True):
        assert tuple(record["box"]) == picture.box
        assert (record["width"], record["height"]) == (picture.width, picture.height)
        assert record["sha256"].tobytes().hex() == picture.sha256
    assert prepared.fallbacks == sum(picture.fallback for picture in expected)


def test_prepare_and_gather(manifest: Manifest, cache: Path) -> None:
    reports: list[tuple[int, int]] = []
    prepared = prepare(manifest, SPEC, cache=cache, on_progress=lambda done, total: reports.append((done, total)))
    assert prepared.decoded == 12
    assert reports[-1] == (12, 12)
    assert reports == sorted(reports)
    assert prepared.unreadable == ()
    assert prepared.readable.all()
    assert prepared.folder.is_relative_to(cache)
    _assert_right(prepared, manifest)
    batch = prepared.gather(np.array([7, 0, 7]))
    assert batch.shape == (3, 48, 48, 3)
    assert batch.flags.c_contiguous
    assert batch.flags.writeable
    assert np.array_equal(batch[0], batch[2])
    assert prepared.gather(np.array([], dtype=np.int64)).shape == (0, 48, 48, 3)
    with pytest.raises(IndexError):
        prepared.gather(np.array([12]))
    assert prepared.shape == (48, 48, 3)
    assert (prepared.format, prepared.stored_bytes) == ("raw", 12 * 48 * 48 * 3)


def test_nothing_is_decoded_twice(manifest: Manifest, cache: Path) -> None:
    assert prepare(manifest.select("test"), SPEC, cache=cache).decoded == 4
    everything = prepare(manifest, SPEC, cache=cache)
    assert everything.decoded == 8
    reports: list[tuple[int, int]] = []
    train = prepare(manifest.select("train"), SPEC, cache=cache, on_progress=lambda *report: reports.append(report))
    assert (train.decoded, train.folder, reports) == (0, everything.folder, [])
    _assert_right(everything, manifest)
    _assert_right(train, manifest.select("train"))
    plain = replace(SPEC, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert prepare(manifest, plain, cache=cache).decoded == 0
    assert prepare(manifest, replace(SPEC, image_size=32), cache=cache).decoded == 12


def test_another_folder_has_another_cache(manifest: Manifest, cache: Path, tmp_path: Path) -> None:
    first = prepare(manifest, SPEC, cache=cache)
    elsewhere = replace(manifest, root=tmp_path / "other")
    assert prepare(elsewhere, SPEC, cache=cache).folder != first.folder


def test_rows_with_one_source_share_a_slot(manifest: Manifest, cache: Path) -> None:
    paths = manifest.table["path"].tolist()
    twice = _manifest(manifest.root, [*paths[:3], *paths[:3]])
    prepared = prepare(twice, SPEC, cache=cache)
    assert prepared.decoded == 3
    assert np.array_equal(prepared.rows[:3], prepared.rows[3:])
    _assert_right(prepared, twice)


def test_npz(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 3), dtype=np.uint8)
    np.savez(path, train_images=images)
    manifest = _manifest(path, [f"{path}#train/{row}" for row in range(40)])
    spec = PreprocessSpec(28)
    prepared = prepare(manifest, spec, cache=cache)
    assert np.array_equal(prepared.gather(np.arange(40)), images)
    np.savez(path, train_images=255 - images)
    again = prepare(manifest, spec, cache=cache)
    assert again.decoded == 40
    assert np.array_equal(again.gather(np.arange(40)), 255 - images)


def test_changed_and_new_sources_alone_are_decoded(manifest: Manifest, cache: Path) -> None:
    prepare(manifest, SPEC, cache=cache)
    paths = manifest.table["path"].tolist()
    _draw(Path(paths[3]), 99, size=(301, 200))
    os.utime(paths[5], ns=(1, 1))
    new = manifest.root / "00b.jpg"  # sorts into the middle
    _draw(new, 100)
    grown = _manifest(manifest.root, [str(new), *paths])
    prepared = prepare(grown, SPEC, cache=cache)
    assert prepared.decoded == 3
    _assert_right(prepared, grown)
    shrunk = _manifest(manifest.root, paths[4:])
    assert prepare(shrunk, SPEC, cache=cache).decoded == 0
    _assert_right(prepare(shrunk, SPEC, cache=cache), shrunk)


def test_missing_pictures(manifest: Manifest, cache: Path) -> None:
    paths = manifest.table["path"].tolist()
    manifest = _manifest(manifest.root, ["", *paths[1:4], ""])
    with pytest.raises(DataError, match="2 of 5 images of small set were not found: absent0, absent4") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert "--skip-unreadable" in caught.value.hint
    assert not cache.exists()
    prepared = prepare(manifest, SPEC, cache=cache, skip_unreadable=True)
    assert prepared.unreadable == ("absent0", "absent4")
    assert prepared.readable.tolist() == [False, True, True, True, False]
    assert prepared.decoded == 3
    with pytest.raises(IndexError, match="unreadable"):
        prepared.gather(np.array([1, 4]))
    assert np.array_equal(prepared.gather(np.array([1]))[0], prepare_picture(paths[1], SPEC).pixels)
    with pytest.raises(DataError, match="none of the 1 pictures"):
        prepare(_manifest(manifest.root, [""]), SPEC, cache=cache, skip_unreadable=True)


def test_unreadable_pictures_are_all_named_at_once(manifest: Manifest, cache: Path) -> None:
    paths = [Path(path) for path in manifest.table["path"]]
    paths[2].write_text("no picture")
    paths[5].write_bytes(paths[5].read_bytes()[:1000])
    paths[11].unlink()
    with pytest.raises(DataError) as caught:
        prepare(manifest, SPEC, cache=cache)
    assert caught.value.message.startswith("3 of 12 pictures cannot be used:")
    for path in (paths[2], paths[5], paths[11]):
        assert f"{path}: " in caught.value.message
    assert "--skip-unreadable" in caught.value.hint
    prepared = prepare(manifest, SPEC, cache=cache, skip_unreadable=True)
    assert prepared.decoded == 0  # the nine that can be read were kept
    assert prepared.unreadable == ("02", "05", "11")
    assert not prepared.index[~prepared.readable]["status"].any()
    _draw(paths[2], 2)
    _draw(paths[11], 11)
    _draw(paths[5], 5)
    _assert_right(prepare(manifest, SPEC, cache=cache), manifest)


def test_a_picture_that_went_bad_is_not_answered_from_the_cache(manifest: Manifest, cache: Path) -> None:
    prepare(manifest, SPEC, cache=cache)
    Path(manifest.table["path"][4]).write_text("no picture")
    with pytest.raises(DataError, match=r"1 of 12 pictures.*\n.*04\.jpg: not a picture"):
        prepare(manifest, SPEC, cache=cache)
    assert prepare(manifest, SPEC, cache=cache, skip_unreadable=True).unreadable == ("04",)


def test_long_lists_are_counted(manifest: Manifest, cache: Path) -> None:
    for path in manifest.table["path"]:
        Path(path).write_text("no picture")
    with pytest.raises(DataError, match="12 of 12") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert caught.value.message.count("not a picture") == 10
    assert caught.value.message.endswith("and 2 more")


def test_no_space(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 64 << 20))
    with pytest.raises(DataError, match=r"12 pictures of 48 px need 0\.07 GB in .*, where 0\.07 GB are free") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert "RETINO_CACHE" in caught.value.hint
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 65 << 20))
    assert prepare(manifest, SPEC, cache=cache).decoded == 12
    # A picture that has a place needs no new one.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    os.utime(manifest.table["path"][0], ns=(1, 1))
    assert prepare(manifest, SPEC, cache=cache).decoded == 1


def test_disk_fills_up_while_writing(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, left = os.pwrite, [20_000]

    def filling_up(file: int, data: memoryview, offset: int) -> int:
        room = max(0, left[0])
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = pwrite(file, bytes(data)[:room], offset)
        left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", filling_up)
    with pytest.raises(DataError, match="no space left for prepared pictures") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert "RETINO_CACHE" in caught.value.hint
    monkeypatch.undo()
    prepared = prepare(manifest, SPEC, cache=cache)
    assert 0 < prepared.decoded <= 11
    _assert_right(prepared, manifest)


def test_a_cache_that_cannot_be_written_to(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(DataError, match="prepared pictures cannot be kept in") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert "RETINO_CACHE" in caught.value.hint


def test_a_complete_cache_needs_no_writing(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare(manifest, SPEC, cache=cache).folder

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "read-only")

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(filling, "FileLock", refuse)
    monkeypatch.setattr(os, "pwrite", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", refuse)  # the time of the last use is noted where that is possible
        _assert_right(prepare(manifest.select("test"), SPEC, cache=cache), manifest.select("test"))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    os.utime(manifest.table["path"][0], ns=(1, 1))
    with pytest.raises(DataError, match="cannot be kept.*read-only"):
        prepare(manifest, SPEC, cache=cache)


_PREPARE = """
import os, sys, time
from pathlib import Path
import retino_cli.data.filling as filling
from retino_cli.data.manifest import load_manifest
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec

slow, plain = float(sys.argv[3]), filling.prepare_picture
def slowly(source, spec):
    time.sleep(slow)
    return plain(source, spec)
filling.prepare_picture = slowly
manifest = load_manifest(Path(sys.argv[1]))
report = lambda done, total: print(done, flush=True)
prepared = prepare(manifest, PreprocessSpec(48), cache=Path(sys.argv[2]), workers=2, on_progress=report)
print("decoded", prepared.decoded, flush=True)
"""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Forty pictures in folders by grade, which ``load_manifest`` reads."""
    for number in range(40):
        path = tmp_path / "graded" / str(number % 5) / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(path, number)
    return tmp_path / "graded"


def _start(folders: Path, cache: Path, slow: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PREPARE, str(folders), str(cache), str(slow)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_interrupts)


def _wait_for(process: subprocess.Popen[str], done: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= done:
            return
    raise AssertionError("ended early")


def test_kill_loses_only_what_was_in_hand(folders: Path, cache: Path) -> None:
    process = _start(folders, cache, 0.03)
    _wait_for(process, 10)
    process.kill()
    process.communicate()
    manifest = load_manifest(folders)
    prepared = prepare(manifest, SPEC, cache=cache)
    assert 0 < prepared.decoded <= 30
    _assert_right(prepared, manifest)


def test_interrupt_ends_quickly(folders: Path, cache: Path) -> None:
    process = _start(folders, cache, 0.5)
    _wait_for(process, 4)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 6  # about ten seconds of work were left
    assert "KeyboardInterrupt" in errors
    assert 0 < prepare(load_manifest(folders), SPEC, cache=cache).decoded <= 36


def test_two_processes_share_the_work(folders: Path, cache: Path) -> None:
    processes = [_start(folders, cache, 0.01) for _ in range(2)]
    decoded = [int(process.communicate(timeout=60)[0].split()[-1]) for process in processes]
    assert sorted(decoded) == [0, 40]
    manifest = load_manifest(folders)
    prepared = prepare(manifest, SPEC, cache=cache)
    assert prepared.decoded == 0
    _assert_right(prepared, manifest)


def test_waiting_is_said(
    manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(filling, "_SAY_WAITING_AFTER", 0.05)
    folder = prepare(manifest.select("test"), SPEC, cache=cache).folder
    lock = filling.FileLock(folder / "lock")
    done: list[PreparedImages] = []
    waiting = threading.Thread(target=lambda: done.append(prepare(manifest, SPEC, cache=cache)))
    with lock, caplog.at_level(logging.WARNING):
        waiting.start()
        waiting.join(0.4)
        assert waiting.is_alive()
        assert "another process is preparing these pictures" in caplog.text
    waiting.join(10)
    assert done[0].decoded == 8


def test_errors_in_the_caller_end_the_threads(manifest: Manifest, cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(manifest, SPEC, cache=cache, on_progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]
    _assert_right(prepare(manifest, SPEC, cache=cache), manifest)


def _damage(folder: Path, slot: int) -> None:
    with (folder / "pixels.u8").open("r+b") as file:
        file.seek(slot * 48 * 48 * 3 + 24 * 48 * 3)
        file.write(bytes(500))


def test_a_crash_of_the_machine_is_found_out(manifest: Manifest, cache: Path) -> None:
    folder = prepare(manifest, SPEC, cache=cache).folder
    assert not (folder / "writing").exists()
    _damage(folder, 3)
    _damage(folder, 7)
    (folder / "writing").write_text("another boot")
    prepared = prepare(manifest, SPEC, cache=cache)
    assert prepared.decoded == 2
    _assert_right(prepared, manifest)
    assert not (folder / "writing").exists()
    (folder / "writing").write_text("another boot")
    assert prepare(manifest, SPEC, cache=cache).decoded == 0
    assert not (folder / "writing").exists()


def test_incomplete_files_are_filled_up(manifest: Manifest, cache: Path) -> None:
    folder = prepare(manifest, SPEC, cache=cache).folder
    os.truncate(folder / "pixels.u8", 5 * 48 * 48 * 3 + 17)
    prepared = prepare(manifest, SPEC, cache=cache)
    assert prepared.decoded == 7
    _assert_right(prepared, manifest)
    os.truncate(folder / "index.bin", 90)
    assert prepare(manifest, SPEC, cache=cache).decoded == 11
    (folder / "sources.json").unlink()
    paths = manifest.table["path"].tolist()
    fewer = _manifest(manifest.root, paths[6:])  # slot 0 would be another picture's now
    prepared = prepare(fewer, SPEC, cache=cache)
    assert prepared.decoded == 6
    _assert_right(prepared, fewer)
    (folder / "sources.json").write_text("[")
    with pytest.raises(DataError, match="are damaged") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert caught.value.hint == f"delete {folder}"


def test_the_folder_says_what_it_holds(manifest: Manifest, cache: Path) -> None:
    folder = prepare(manifest, SPEC, cache=cache).folder
    assert folder.name == SPEC.geometry_hash
    assert folder.parent.name.startswith("small-set-")
    described = json.loads((folder / "spec.json").read_text())
    assert described["root"] == str(manifest.root)
    assert described["spec"]["image_size"] == 48


@pytest.mark.real_data
def test_identical_photographs_collide(real_data: Path, cache: Path) -> None:
    manifest = load_manifest(real_data / "idrid")
    prepared = prepare(manifest, PreprocessSpec(64), cache=cache)
    assert (prepared.decoded, prepared.fallbacks) == (516, 0)
    digests = pd.Series([record.tobytes() for record in prepared.index["sha256"]])
    pairs = manifest.table["image_id"].groupby(digests.to_numpy()).agg(list)
    pairs = pairs[pairs.str.len() > 1]
    assert pairs.str.len().tolist() == [2] * 6
    assert ["test/IDRiD_064", "train/IDRiD_118"] in pairs.map(sorted).tolist()


@pytest.mark.real_data
def test_retinamnist_is_kept_as_it_is(real_data: Path, cache: Path) -> None:
    path = real_data / "retinamnist" / "retinamnist.npz"
    manifest = load_manifest(path)
    prepared = prepare(manifest.select("test"), PreprocessSpec(28), cache=cache)
    assert prepared.fallbacks == 0
    with np.load(path) as arrays:
        assert np.array_equal(prepared.gather(np.arange(400)), arrays["test_images"])
