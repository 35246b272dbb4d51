"""The compact format of the prepared cache: the same pixels in less space, and as safe as the raw one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retino_cli.config import TrainConfig
from retino_cli.data.audit import audit_pictures
from retino_cli.data.cache_folders import clear_cache, list_cache
from retino_cli.data.manifest import COLUMNS, Manifest, load_manifest
from retino_cli.data.pixels import CompactPixels, encode_picture
from retino_cli.data.prepared import PreparedImages, prepare
from retino_cli.data.slots import COMPACT_RECORD, RECORD
from retino_cli.errors import DataError
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.preprocess import PreprocessSpec, prepare_picture
from retino_cli.tracking import open_store
from retino_cli.training.preparation import prepare_data
from retino_cli.training.train import train

SPEC = PreprocessSpec(48)
RAW = 12 * 48 * 48 * 3
_usage = namedtuple("_usage", "total used free")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve pictures on disk: eight of train, four of test."""
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for number in range(12):
        _draw(root / f"{number:02}.jpg", number)
        split = "train" if number < 8 else "test"
        rows.append((f"{number:02}", str(root / f"{number:02}.jpg"), number % 5, split, "", ""))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Manifest("small set", "folders", root, table, ungradable={}, duplicates=0, validation="none")


def _draw(path: Path, seed: int, size: tuple[int, int] = (300, 200)) -> None:
    noise = np.random.default_rng(seed).integers(60, 255, (9, 12, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size).save(path, "JPEG", quality=90)


def _assert_right(prepared: PreparedImages, manifest: Manifest) -> None:
    assert prepared.format == "compact"
    expected = [prepare_picture(path, prepared.spec) for path in manifest.table["path"]]
    assert np.array_equal(prepared.gather(np.arange(len(expected))), np.stack([one.pixels for one in expected]))
    assert [one.tobytes().hex() for one in prepared.index["sha256"]] == [one.sha256 for one in expected]
    assert [tuple(one) for one in prepared.index["box"]] == [one.box for one in expected]


def _free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let the disk have this much room beyond what is left free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _usage(10**9, 0, (64 << 20) + size))


# -- the pixels --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(8, 40), levels=st.integers(1, 256))
def test_every_picture_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, levels: int
) -> None:
    pictures = np.random.default_rng(seed).integers(0, levels, (3, size, size, 3), dtype=np.uint8)
    encoded = [encode_picture(picture) for picture in pictures]
    path = tmp_path_factory.mktemp("blob") / "pictures.bin"
    path.write_bytes(b"".join(encoded))
    length = np.array([len(one) for one in encoded])
    pixels = CompactPixels(path, offset=np.cumsum(length) - length, length=length, image_size=size)
    slots = np.array([2, 0, 1, 2])
    assert np.array_equal(pixels.gather(slots), pictures[slots])
    assert pixels.gather(np.array([], dtype=np.int64)).shape == (0, size, size, 3)


def test_the_pixels_are_those_of_the_raw_format(manifest: Manifest, cache: Path, tmp_path: Path) -> None:
    raw = prepare(manifest, SPEC, cache=tmp_path / "raw")
    compact = prepare(manifest, SPEC, cache=cache, compact=True)
    assert (raw.format, compact.format, compact.decoded, compact.shape) == ("raw", "compact", 12, (48, 48, 3))
    assert raw.stored_bytes == RAW
    assert 0 < compact.stored_bytes < 0.8 * RAW  # noise; photographs are smaller
    assert compact.stored_bytes == (compact.folder / "pictures.bin").stat().st_size
    everything = np.arange(12)
    assert np.array_equal(raw.gather(everything), compact.gather(everything))
    assert np.array_equal(raw.index, compact.index[list(RECORD.names or ())].astype(RECORD))
    batch = compact.gather(np.array([7, 0, 7]))
    assert batch.flags.c_contiguous
    assert batch.flags.writeable
    assert not [one for one in threading.enumerate() if one.name.startswith("gather")]
    with pytest.raises(IndexError):
        compact.gather(np.array([12]))
    _assert_right(compact, manifest)


def test_what_is_there_is_not_decoded_twice(manifest: Manifest, cache: Path) -> None:
    prepare(manifest.select("test"), SPEC, cache=cache, compact=True)
    everything = prepare(manifest, SPEC, cache=cache)
    assert everything.decoded == 8
    assert everything.why == "compact: these pictures were first prepared so"
    assert prepare(manifest, SPEC, cache=cache).decoded == 0
    _assert_right(everything, manifest)


def test_changed_sources_are_appended(manifest: Manifest, cache: Path) -> None:
    before = prepare(manifest, SPEC, cache=cache, compact=True)
    old = before.gather(np.arange(12))
    _draw(Path(manifest.table["path"][3]), 99, size=(301, 200))
    after = prepare(manifest, SPEC, cache=cache)
    assert after.decoded == 1
    _assert_right(after, manifest)
    assert after.index["offset"][3] == before.stored_bytes  # behind the others
    assert np.array_equal(before.gather(np.arange(12)), old)  # whoever reads meanwhile goes on with what he had


# -- which format ------------------------------------------------------------------------------------------------------


def test_free_space_decides(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, RAW)
    assert prepare(manifest, SPEC, cache=cache / "1").format == "raw"
    _free(monkeypatch, RAW - 1)
    compact = prepare(manifest, SPEC, cache=cache / "2")
    assert compact.why == "compact: the raw pixels would need 0.07 GB, 0.07 GB are free"
    _assert_right(compact, manifest)
    _free(monkeypatch, RAW // 2)
    with pytest.raises(
        DataError, match=r"12 pictures of 48 px need 0\.07 GB in .* \(compact format\), where"
    ) as caught:
        prepare(manifest, SPEC, cache=cache / "3")
    assert "RETINO_CACHE" in caught.value.hint
    assert not list((cache / "3").rglob("*.bin"))  # no format yet: with more space it is chosen anew
    _free(monkeypatch, RAW)
    assert prepare(manifest, SPEC, cache=cache / "3").format == "raw"


def test_the_format_is_chosen_for_the_whole_data_set(
    manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, RAW - 1)
    assert prepare(manifest.select("test"), SPEC, cache=cache, expected=12).format == "compact"
    # Even where the whole would not fit: this part does.
    _free(monkeypatch, RAW // 3)
    assert prepare(manifest.select("test"), SPEC, cache=cache / "other", expected=12).format == "compact"


def test_a_cache_keeps_its_format(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = prepare(manifest.select("test"), SPEC, cache=cache)
    again = prepare(manifest.select("test"), SPEC, cache=cache, compact=True)
    (listed,) = list_cache()
    assert again.format == "raw"
    assert f"retino data cache --clear {listed.name}" in again.why
    _free(monkeypatch, 0)
    with pytest.raises(DataError, match=r"8 pictures .* \(raw format\)") as caught:
        prepare(manifest, SPEC, cache=cache)
    assert f"retino data cache --clear {listed.name}, then retino data prepare --compact" in caught.value.hint
    assert np.array_equal(raw.gather(np.arange(4)), again.gather(np.arange(4)))


def test_the_sizes_that_are_there_foretell_the_others(
    manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retino_cli.data.space._ENOUGH", 8)
    first = prepare(manifest.select("train"), SPEC, cache=cache, compact=True)
    needed = 4 * first.stored_bytes / 8
    _free(monkeypatch, int(needed) - 1)
    with pytest.raises(DataError, match="4 pictures"):
        prepare(manifest, SPEC, cache=cache)
    _free(monkeypatch, int(needed) + 1)
    assert prepare(manifest, SPEC, cache=cache).decoded == 4


def test_a_cache_from_before_this_format_is_read(manifest: Manifest, cache: Path) -> None:
    folder = prepare(manifest, SPEC, cache=cache).folder
    assert {one.name for one in folder.iterdir()} == {"index.bin", "lock", "pixels.u8", "sources.json", "spec.json"}
    layout = ["u1", "u1", "4i4", "i4", "i4", "i8", "i8", "32u1"]  # as it was written then
    expected = [prepare_picture(path, SPEC) for path in manifest.table["path"]]
    records = np.zeros(12, dtype=[(str(k), kind) for k, kind in enumerate(layout)])
    for record, path, one in zip(records, manifest.table["path"], expected, strict=True):
        status = os.stat(path)
        digest = np.frombuffer(bytes.fromhex(one.sha256), dtype=np.uint8)
        values = (1, one.fallback, one.box, one.width, one.height, status.st_size, status.st_mtime_ns, digest)
        for name, value in enumerate(values):
            record[str(name)] = value
    records.tofile(folder / "index.bin")
    np.stack([one.pixels for one in expected]).tofile(folder / "pixels.u8")
    prepared = prepare(manifest, SPEC, cache=cache)
    assert (prepared.decoded, prepared.format) == (0, "raw")
    assert np.array_equal(prepared.gather(np.arange(12)), np.stack([one.pixels for one in expected]))


def test_raw_files_beside_the_compact_ones_are_not_read(manifest: Manifest, cache: Path) -> None:
    """An older version, which does not know the compact format, fills up what it takes for an empty cache."""
    folder = prepare(manifest, SPEC, cache=cache, compact=True).folder
    records = np.zeros(12, dtype=RECORD)
    records["status"] = 1
    records.tofile(folder / "index.bin")
    (folder / "pixels.u8").write_bytes(bytes(RAW))
    prepared = prepare(manifest, SPEC, cache=cache)
    assert prepared.decoded == 0
    _assert_right(prepared, manifest)
    assert len(clear_cache(["all"]).removed) == 1
    assert not folder.exists()


# -- kill, crash, full disk --------------------------------------------------------------------------------------------

_PREPARE = """
import sys, time
from pathlib import Path
import retino_cli.data.filling as filling
from retino_cli.data.manifest import load_manifest
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec

plain = filling.prepare_picture
def slowly(source, spec):
    time.sleep(float(sys.argv[3]))
    return plain(source, spec)
filling.prepare_picture = slowly
report = lambda done, total: print(done, flush=True)
prepared = prepare(load_manifest(Path(sys.argv[1])), PreprocessSpec(48), cache=Path(sys.argv[2]), workers=2,
                   compact=True, on_progress=report)
print(prepared.decoded, flush=True)
"""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Forty pictures in folders by grade, which ``load_manifest`` reads."""
    for number in range(40):
        _draw(tmp_path / "graded" / str(number % 5) / f"{number:02}.jpg", number)
    return tmp_path / "graded"


def _start(folders: Path, cache: Path, slow: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PREPARE, str(folders), str(cache), str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_loses_only_what_was_in_hand(folders: Path, cache: Path) -> None:
    manifest = load_manifest(folders)
    decoded = []
    for upto in (5, 8):  # twice: the second run finds what the first left half done
        process = _start(folders, cache, 0.03)
        assert process.stdout is not None
        next(line for line in process.stdout if int(line) >= upto)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        decoded.append(upto)
    with next(cache.rglob("pictures.bin")).open("ab") as file:
        file.write(b"half a picture")
    prepared = prepare(manifest, SPEC, cache=cache)
    assert 0 < prepared.decoded <= 40 - sum(decoded)
    _assert_right(prepared, manifest)
    # At most the two pictures in hand at each kill are left without a record.
    assert (prepared.folder / "pictures.bin").stat().st_size <= prepared.stored_bytes * 44 / 40


def test_two_processes_share_the_work(folders: Path, cache: Path) -> None:
    processes = [_start(folders, cache, 0.01) for _ in range(2)]
    assert sorted(int(process.communicate(timeout=60)[0].split()[-1]) for process in processes) == [0, 40]
    prepared = prepare(load_manifest(folders), SPEC, cache=cache)
    assert prepared.decoded == 0
    _assert_right(prepared, load_manifest(folders))


@pytest.mark.parametrize("room", [0, 700, 10_000, 17_000])
def test_disk_fills_up_while_writing(
    manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    pwrite, left = os.pwrite, [room]

    def filling_up(file: int, data: memoryview, offset: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = pwrite(file, bytes(data)[: left[0]], offset)
        left[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", filling_up)
        with pytest.raises(DataError, match="no space left for prepared pictures") as caught:
            prepare(manifest, SPEC, cache=cache, compact=True)
    assert "RETINO_CACHE" in caught.value.hint
    (listed,) = list_cache()
    prepared = prepare(manifest, SPEC, cache=cache)
    assert prepared.decoded == 12 - listed.images
    assert (listed.images > 0) == (room >= 10_000)
    _assert_right(prepared, manifest)


def test_a_crash_of_the_machine_is_found_out(manifest: Manifest, cache: Path) -> None:
    prepared = prepare(manifest, SPEC, cache=cache, compact=True)
    blob, places = prepared.folder / "pictures.bin", prepared.index[["offset", "length"]]
    other = encode_picture(np.zeros((48, 48, 3), dtype=np.uint8))
    with blob.open("r+b") as file:
        file.seek(int(places["offset"][2]))
        file.write(bytes(int(places["length"][2])))  # pages that never reached the disk
        file.seek(int(places["offset"][5]))
        file.write(other)  # a whole picture, but not this one
    (prepared.folder / "writing").write_text("another boot")
    again = prepare(manifest, SPEC, cache=cache)
    assert again.decoded == 2
    _assert_right(again, manifest)
    assert not (prepared.folder / "writing").exists()


def test_damage_is_said(manifest: Manifest, cache: Path) -> None:
    prepared = prepare(manifest, SPEC, cache=cache, compact=True)
    blob = prepared.folder / "pictures.bin"
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises(DataError, match=r"are damaged: pictures\.bin at \d+") as caught:
        prepare(manifest, SPEC, cache=cache).gather(np.arange(12))
    assert caught.value.hint == f"delete {prepared.folder}"
    blob.write_bytes(encode_picture(np.zeros((16, 16, 3), dtype=np.uint8)).ljust(prepared.stored_bytes, b"\0"))
    first = prepared.index["offset"].argmin()
    with pytest.raises(DataError, match=r"\(16, 16, 3\)"):
        prepare(manifest, SPEC, cache=cache).gather(np.array([first]))


@pytest.mark.parametrize(("compact", "file", "each"), [(True, "pictures.bin", 0), (False, "pixels.u8", 48 * 48 * 3)])
def test_what_was_cut_off_is_not_called_valid_when_the_file_has_grown_again(
    manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch, compact: bool, file: str, each: int
) -> None:
    prepared = prepare(manifest, SPEC, cache=cache, compact=compact)
    expected = prepared.gather(np.arange(12))
    os.truncate(prepared.folder / file, 5 * each or int(np.sort(prepared.index["offset"])[5]))

    def stop(source: str, spec: PreprocessSpec) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("retino_cli.data.filling.prepare_picture", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(manifest, SPEC, cache=cache)
    again = prepare(manifest, SPEC, cache=cache)
    assert again.decoded == 7
    assert np.array_equal(again.gather(np.arange(12)), expected)


def test_lost_indexes_and_sources_are_made_anew(manifest: Manifest, cache: Path) -> None:
    folder = prepare(manifest, SPEC, cache=cache, compact=True).folder
    os.truncate(folder / "compact.bin", 5 * COMPACT_RECORD.itemsize + 3)
    assert prepare(manifest, SPEC, cache=cache).decoded == 7
    (folder / "sources.json").unlink()
    test = manifest.select("test")  # slot 0 would be another picture's now
    prepared = prepare(test, SPEC, cache=cache)
    assert prepared.decoded == 4
    _assert_right(prepared, test)


# -- using it ----------------------------------------------------------------------------------------------------------


def test_the_cache_is_listed_and_deleted(manifest: Manifest, cache: Path) -> None:
    prepared = prepare(manifest, SPEC, cache=cache, compact=True)
    (listed,) = list_cache()
    assert (listed.format, listed.images, listed.folder) == ("compact", 12, prepared.folder)
    assert listed.to_dict()["format"] == "compact"
    assert listed.bytes < RAW
    before = prepared.gather(np.arange(12))
    clear_cache(["all"])
    assert list_cache() == ()
    assert np.array_equal(prepared.gather(np.arange(12)), before)


def test_the_audit_finds_the_same(manifest: Manifest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = manifest.table["path"]
    shutil.copy(paths[0], paths[9])
    Image.new("RGB", (300, 200), (5, 5, 5)).save(paths[4])
    raw = audit_pictures(manifest)
    clear_cache(["all"])
    _free(monkeypatch, 12 * 64 * 64 * 3 - 1)
    assert audit_pictures(manifest) == raw
    assert [one.format for one in list_cache()] == ["compact"]
    assert raw.black == ("04",)
    assert [one.image_ids for one in raw.identical] == [("00", "09")]


@pytest.mark.usefixtures("one_thread")
def test_a_training_gives_the_same_weights(
    workplace: Path, cache: Path, quick: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(deterministic=True, precision="float32", device="cpu")
    weights, histories = [], []
    for compact in (False, True):
        clear_cache(["all"])
        done = prepare_data(config, compact=compact)
        assert done.format == done.to_dict()["format"] == ("compact" if compact else "raw")
        result = train(config)
        weights.append(load_checkpoint(open_store().download(result.run_id, "checkpoint/last"))[0].state_dict())
        histories.append([{k: v for k, v in row.items() if k != "images_per_second"} for row in result.history])
    raw, compacted = weights
    assert all(torch.equal(raw[name], compacted[name]) for name in raw)
    assert histories[0] == histories[1]


@pytest.mark.real_data
def test_photographs_take_a_third_of_the_space(real_data: Path, cache: Path, tmp_path: Path) -> None:
    manifest = load_manifest(real_data / "idrid")
    manifest = manifest.select("test")
    for size, share in ((64, 0.6), (224, 0.45)):
        spec = PreprocessSpec(size)
        compact = prepare(manifest, spec, cache=cache, compact=True)
        largest = compact.index["length"].max() / (size * size * 3)
        assert 0.2 < largest < share
        raw = prepare(manifest, spec, cache=tmp_path / "raw")
        assert np.array_equal(compact.gather(np.arange(103)), raw.gather(np.arange(103)))
