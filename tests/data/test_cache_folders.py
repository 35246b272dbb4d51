"""Listing and clearing the cache: what is ours, what is busy, and that nothing else is ever touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from retino_cli.config import TrainConfig
from retino_cli.data.cache_folders import clear_cache, list_cache
from retino_cli.data.manifest import load_manifest
from retino_cli.data.prepared import prepare
from retino_cli.errors import DataError, UsageError
from retino_cli.preprocess import PreprocessSpec
from retino_cli.training import setup as starting
from retino_cli.training.events import Event, Preparing
from retino_cli.training.preparation import prepare_data
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(cache: Path, synthetic_data: Path) -> Path:
    """Two preprocessings of one data set, beside files that are not prepared images."""
    manifest = load_manifest(synthetic_data)
    for size in (16, 32):
        prepare(manifest, PreprocessSpec(image_size=size), workers=1)
    for name in ("runs/1234/run.json", "downloads/abc/model.safetensors", "README", "mine-0123456789ab/notes.txt"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("keep me")
    foreign = cache / "mine-0123456789ab" / "0123456789ab"
    foreign.mkdir()
    (foreign / "index.bin").touch()
    (foreign / "thesis.tex").write_text("keep me")
    return cache


def others(cache: Path) -> set[str]:
    return {
        str(path.relative_to(cache)) for path in cache.rglob("*") if "synthetic" not in str(path.relative_to(cache))
    }


def test_it_lists_what_there_is(filled: Path, synthetic_data: Path) -> None:
    first, second = sorted(list_cache(), key=lambda one: int(one.spec["image_size"]))
    assert [one.spec["image_size"] for one in (first, second)] == [16, 32]
    for one, size in ((first, 16), (second, 32)):
        assert one.images == 48
        assert one.root == str(synthetic_data.resolve())
        assert one.spec["crop"] == "retina"
        assert 48 * size * size * 3 <= one.bytes <= 48 * size * size * 3 + 65536
        assert one.folder == filled / one.name
        assert abs((datetime.now() - one.last_used).total_seconds()) < 60
        assert one.to_dict()["images"] == 48


def test_an_empty_or_absent_cache(cache: Path) -> None:
    assert list_cache() == ()
    assert clear_cache(["all"]).removed == ()
    cache.mkdir()
    assert list_cache() == ()
    with pytest.raises(UsageError, match="'idrid'") as caught:
        clear_cache(["idrid"])
    assert "none" in caught.value.hint


def test_using_one_counts_as_its_last_use(filled: Path, synthetic_data: Path) -> None:
    (used,) = [one for one in list_cache() if one.spec["image_size"] == 32]
    for one in list_cache():
        for path in [*one.folder.iterdir(), one.folder]:
            os.utime(path, (1e9, 1e9))
    assert {one.last_used.year for one in list_cache()} == {2001}
    prepare(load_manifest(synthetic_data), PreprocessSpec(image_size=32))
    assert {one.name for one in list_cache() if one.last_used.year > 2001} == {used.name}


def test_clearing_one_leaves_the_other_and_everything_else(filled: Path, synthetic_data: Path) -> None:
    kept, gone = list_cache()
    before = others(filled)
    cleared = clear_cache([gone.name])
    assert [one.name for one in cleared.removed] == [gone.name]
    assert cleared.bytes == gone.bytes
    assert not gone.folder.exists()
    assert [one.name for one in list_cache()] == [kept.name]
    assert others(filled) == before
    again = prepare(load_manifest(synthetic_data), PreprocessSpec(image_size=gone.spec["image_size"]), workers=1)
    assert again.decoded == 48


@pytest.mark.parametrize("which", ["all", "synthetic", "whole name"])
def test_clearing_a_data_set_takes_its_folder_too(filled: Path, which: str) -> None:
    folder = list_cache()[0].folder.parent
    before = others(filled)
    assert len(clear_cache([folder.name if which == "whole name" else which]).removed) == 2
    assert not folder.exists()
    assert others(filled) == before


@pytest.mark.parametrize("name", ["", "s", "synth", "runs", "mine", "..", "mine-0123456789ab/0123456789ab", "/"])
def test_names_that_mean_nothing_delete_nothing(filled: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no prepared images") as caught:
        clear_cache(["synthetic", name])
    assert all(one.name in caught.value.hint for one in list_cache())
    assert len(list_cache()) == 2


def test_links_are_not_followed(filled: Path, tmp_path: Path) -> None:
    one = list_cache()[0]
    elsewhere = tmp_path / "elsewhere"
    one.folder.rename(elsewhere)
    one.folder.symlink_to(elsewhere)
    assert one.name not in [other.name for other in list_cache()]
    clear_cache(["all"])
    assert (elsewhere / "index.bin").is_file()


def test_a_folder_that_is_being_written_is_left(filled: Path) -> None:
    busy, idle = list_cache()
    with FileLock(busy.folder / "lock"):
        cleared = clear_cache(["all"])
    assert cleared.busy == (busy.name,)
    assert [one.name for one in cleared.removed] == [idle.name]
    assert (busy.folder / "pixels.u8").is_file()


def test_pictures_that_are_in_use_stay_readable(filled: Path, synthetic_data: Path) -> None:
    prepared = prepare(load_manifest(synthetic_data), PreprocessSpec(image_size=32))
    everything = np.arange(48)
    before = prepared.gather(everything)
    clear_cache(["all"])
    assert np.array_equal(prepared.gather(everything), before)


def test_a_folder_whose_writer_was_killed_is_ours(filled: Path) -> None:
    one = list_cache()[0]
    for name in ("spec.json", "pixels.u8"):
        (one.folder / name).unlink()
    (one.folder / "index.bin").write_bytes(b"")
    (one.folder / "sources.new").touch()
    (found,) = [other for other in list_cache() if other.name == one.name]
    assert (found.root, found.spec, found.images) == ("", {}, 0)
    assert clear_cache([one.name]).removed == (found,)


def test_a_cache_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: the cache cannot be read"):
        list_cache(tmp_path / "file")


# -- preparing ahead ---------------------------------------------------------------------------------------------------


def test_a_training_finds_everything_that_was_prepared_ahead(
    workplace: Path, cache: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(image_size=None)
    events: list[Event] = []
    done = prepare_data(TrainConfig(data=config.data, workers=1), listen=events.append)
    assert (done.images, done.decoded, done.unreadable) == (48, 48, ())
    assert events[-1] == Preparing(48, 48)
    assert done.bytes == 48 * done.spec.image_size**2 * 3
    assert done.to_dict()["already_there"] == 0
    assert prepare_data(config).decoded == 0
    decoded: list[int] = []
    real = starting.prepare

    def watch(*arguments: object, **options: object) -> object:
        prepared = real(*arguments, **options)  # type: ignore[arg-type] # what it was called with
        decoded.append(prepared.decoded)
        return prepared

    monkeypatch.setattr(starting, "prepare", watch)
    result = train(config)
    assert result.config.image_size == done.spec.image_size
    assert decoded
    assert set(decoded) == {0}


def test_size_and_crop_come_from_the_recipe_or_as_asked(cache: Path, synthetic_data: Path) -> None:
    strong, lab = (prepare_data(TrainConfig(data=synthetic_data, recipe=recipe)).spec for recipe in ("strong", "lab"))
    assert (strong.crop, lab.crop) == ("retina", "none")
    asked = prepare_data(TrainConfig(data=synthetic_data, image_size=24, crop="none"))
    assert (asked.spec.image_size, asked.spec.crop) == (24, "none")
    assert asked.folder.is_relative_to(cache)


def test_unreadable_images_are_named(cache: Path, tmp_path: Path, synthetic_data: Path) -> None:
    import shutil

    copied = Path(shutil.copytree(synthetic_data, tmp_path / "copied"))
    spoiled = sorted(copied.rglob("*.jpeg"))[0]
    spoiled.write_text("no picture")
    with pytest.raises(DataError, match=spoiled.name) as caught:
        prepare_data(TrainConfig(data=copied))
    assert "--skip-unreadable" in caught.value.hint
    done = prepare_data(TrainConfig(data=copied, skip_unreadable=True))
    assert done.images == 47
    assert len(done.unreadable) == 1
    assert spoiled.stem in done.unreadable[0]
    assert done.decoded == 0  # those that can be read were kept the first time
