"""Replace a folder as a whole: whoever looks, and whenever the writer dies, finds the old one or the new one.

A folder that is not empty cannot be renamed over, so the old one steps aside first::

    .best.new-4f1c...   written and synced
    best -> .best.old   rename
    .best.new-4f1c... -> best   rename
    .best.old           removed

At every moment ``best`` is whole, or it is absent and ``.best.old`` is whole. One writer per folder is assumed; readers
may be many, and need :func:`locate_folder`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` hold exactly ``files`` (name -> content), durably.

    What a killed writer left behind is removed first. Raises OSError (disk full, no permission); the old folder is then
    as it was. An interruption (Ctrl-C) leaves the old or the new one in place.
    """
    folder = _real(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(folder)
    staged = folder.parent / f".{folder.name}.new-{uuid.uuid4().hex[:12]}"
    try:
        staged.mkdir()
        for name, content in files.items():
            with (staged / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(staged)
        if folder.is_dir():
            os.rename(folder, _aside(folder))
        os.rename(staged, folder)
        _sync(folder.parent)
    except BaseException:
        # Also on Ctrl-C, which may strike between the two renames.
        recover_folder(folder)
        raise
    shutil.rmtree(_aside(folder), ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Finish or undo what a killed writer left: afterwards only ``folder`` is there, whole (or nothing at all)."""
    folder = _real(folder)
    aside = _aside(folder)
    if aside.is_dir():
        if folder.is_dir():
            shutil.rmtree(aside)
        else:
            os.rename(aside, folder)
    if folder.parent.is_dir():
        for leftover in folder.parent.glob(f".{_escaped(folder.name)}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def locate_folder(folder: Path) -> tuple[Path, tuple[int, int]] | None:
    """Where the content of ``folder`` lies right now, and an identity that changes when the folder is replaced.

    None where there is nothing. A reader that fails, and then finds another identity, was overtaken by a writer and
    should read again.
    """
    folder = _real(folder)
    # Twice: it may have come back between the first look and the second.
    for place in (folder, _aside(folder), folder):
        try:
            status = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place, (status.st_ino, status.st_mtime_ns)
    return None


def _real(folder: Path) -> Path:
    """Behind symbolic links: the folder itself is replaced, not the link to it."""
    return Path(os.path.realpath(folder))


def _aside(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _escaped(name: str) -> str:
    """``name`` for use inside a glob pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _sync(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the system can do so (Windows cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
