"""Folder listings, each read once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from retino_cli.errors import DataError

_WORDS = re.compile(r"[a-z]+|[0-9]+")
_SPLIT_WORDS = (
    ("train", re.compile(r"train.*")),
    ("val", re.compile(r"val|valset|valid.*|dev")),
    ("test", re.compile(r"test.*|evaluation")),
)


@dataclass(frozen=True, eq=False)
class Listing:
    """What a folder holds: names of files and of folders, both sorted; hidden ones are left out."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


class FolderTree:
    """Folder listings, kept: a folder of 1,000,000 photographs is read from disk once per command."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}

    def listing(self, folder: str | Path) -> Listing:
        """Return what a folder holds; nothing where it does not exist.

        Raises:
            DataError: the folder cannot be read.
        """
        key = os.fspath(folder)
        if key not in self._listings:
            self._listings[key] = _scan(key)
        return self._listings[key]


def words(name: str) -> list[str]:
    """Return the words and numbers of a file or folder name, in lower case: "b. Testing Set" -> b, testing, set."""
    return _WORDS.findall(name.lower())


def split_in_name(name: str) -> str | None:
    """Return the split ("train", "val", "test") that a file or folder name speaks of, or None."""
    found = words(name)
    named = [split for split, pattern in _SPLIT_WORDS if any(pattern.fullmatch(word) for word in found)]
    return named[0] if len(named) == 1 else None


def _scan(folder: str) -> Listing:
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return Listing((), ())
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read: {error.strerror or error}") from error
    return Listing(tuple(sorted(files)), tuple(sorted(folders)))
