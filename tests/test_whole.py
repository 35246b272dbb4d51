"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retino_cli.whole import STALE_SECONDS, remove_stale, whole_file


def test_it_appears_at_the_end_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a [1].csv"
    for text in ("first", "second"):
        with whole_file(path) as partial:
            partial.write_text(text)
            assert partial.parent == path.parent
            assert path.exists() == (text == "second")
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / "a [1].csv"
    old, young, other = (
        tmp_path / name for name in (".a [1].csv.12.partial", ".a [1].csv.13.partial", ".b.csv.12.partial")
    )
    for file in (old, young, other):
        file.write_text("half")
    for file in (old, other):
        long_ago = file.stat().st_mtime - STALE_SECONDS - 60
        os.utime(file, (long_ago, long_ago))
    with whole_file(path) as partial:
        partial.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([young, other, path])


def test_what_cannot_be_removed_stays_and_the_rest_goes(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / f".a.{number}.partial").touch()
    (tmp_path / ".a.2.partial").mkdir()  # cannot be unlinked, by whomever
    remove_stale(tmp_path / "a", ".{}.*.partial", seconds=-1)
    assert [path.name for path in tmp_path.iterdir()] == [".a.2.partial"]


def test_a_folder_that_cannot_be_listed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_named: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    remove_stale(tmp_path / "a", ".{}.*.partial")
