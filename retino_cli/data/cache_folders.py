"""The folders of prepared images in the cache: list them, delete them, touch nothing else."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from retino_cli.cache import cache_root
from retino_cli.data.slots import count_ready, find_format
from retino_cli.errors import DataError, UsageError

_DATA_SET: Final = re.compile(r".+-[0-9a-f]{12}")
_SPEC: Final = re.compile(r"[0-9a-f]{12}")
# In the order in which they are deleted: without its index and sources a folder counts as empty.
_FILES: Final = (
    "index.bin", "compact.bin", "sources.json", "sources.new", "pixels.u8", "pictures.bin", "writing", "spec.json",
    "spec.new", "lock",
)  # fmt: skip


@dataclass(frozen=True)
class CacheFolder:
    """One data set's prepared images for one preprocessing.

    ``name``: "DATA-xxxxxxxxxxxx/yyyyyyyyyyyy", below the cache folder. ``root``: where the data set lay, ``spec``: its
    preprocessing; "" and {} where the folder does not say. ``format``: "raw", "compact", or "" where nothing was
    prepared yet. ``images``: that are ready. ``bytes``: taken on the disk.
    ``last_used``: local time when it was last filled or read by a command.
    """

    name: str
    folder: Path
    root: str
    spec: dict[str, Any]
    format: str
    images: int
    bytes: int
    last_used: datetime

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "root": self.root,
            "spec": self.spec,
            "format": self.format,
            "images": self.images,
            "bytes": self.bytes,
            "last_used": self.last_used.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Cleared:
    """``removed``: what is gone; ``busy``: names of folders that another process was writing, which were left."""

    removed: tuple[CacheFolder, ...]
    busy: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """What has become free."""
        return sum(one.bytes for one in self.removed)


def list_cache(root: Path | None = None) -> tuple[CacheFolder, ...]:
    """The folders of prepared images below ``root`` (``cache_root()``), by name.

    Only folders that are named as retino names them and hold nothing but its files are ours: others are not listed.
    """
    root = cache_root() if root is None else root
    try:
        data_sets = sorted(one for one in root.iterdir() if _DATA_SET.fullmatch(one.name) and _is_real_folder(one))
        found = [_describe(folder) for one in data_sets for folder in sorted(one.iterdir())]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(
            f"{root}: the cache cannot be read: {error.strerror or error}", "Set RETINO_CACHE to the right folder."
        ) from error
    return tuple(one for one in found if one is not None)


def clear_cache(names: list[str], root: Path | None = None) -> Cleared:
    """Delete the folders that ``names`` name: "all", a folder's name, or its data set's, with or without its hash.

    A folder that a process is writing is left alone. Processes that read one keep their images until they end.

    Raises ``UsageError``, listing what there is, for a name that means nothing, before anything is deleted.
    """
    root = cache_root() if root is None else root
    there = list_cache(root)
    chosen: dict[str, CacheFolder] = {}
    for name in names:
        matching = [one for one in there if name in ("all", *_names(one))]
        if not matching and name != "all":
            listed = ", ".join(one.name for one in there) or "none"
            raise UsageError(f"{root} holds no prepared images {name!r}.", f"There are: {listed}.")
        chosen |= {one.name: one for one in matching}
    removed, busy = [], []
    for name, one in chosen.items():
        if _delete(one.folder):
            removed.append(one)
        else:
            busy.append(name)
    return Cleared(tuple(removed), tuple(busy))


def _names(one: CacheFolder) -> tuple[str, str, str]:
    data_set = one.folder.parent.name
    return one.name, data_set, data_set.rpartition("-")[0]


def _delete(folder: Path) -> bool:
    lock = FileLock(folder / "lock")
    try:
        with lock.acquire(timeout=0):
            if not _is_ours(folder):  # changed since it was listed
                return False
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    except Timeout:
        return False
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be deleted: {error.strerror or error}", "Grant access to it, or delete it yourself."
        ) from error
    with contextlib.suppress(OSError):  # other preprocessings of the data set are there
        folder.parent.rmdir()
    return True


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_ours(folder: Path) -> bool:
    if not _SPEC.fullmatch(folder.name) or not _is_real_folder(folder):
        return False
    return all(entry.name in _FILES and not entry.is_symlink() for entry in folder.iterdir())


def _describe(folder: Path) -> CacheFolder | None:
    """None for a folder that is not ours, or was deleted while it was looked at."""
    try:
        if not _is_ours(folder):
            return None
        root, spec = _read_spec(folder)
        entries = [entry.stat() for entry in folder.iterdir()]
        changed = folder.stat().st_mtime
    except FileNotFoundError:
        return None
    return CacheFolder(
        name=f"{folder.parent.name}/{folder.name}",
        folder=folder,
        root=root,
        spec=spec,
        format=find_format(folder) or "",
        images=count_ready(folder),
        # Slots that are not filled yet are holes: what counts is what the disk gave, in blocks of 512 bytes.
        bytes=sum(getattr(entry, "st_blocks", -(-entry.st_size // 512)) * 512 for entry in entries),
        last_used=datetime.fromtimestamp(max([changed, *(entry.st_mtime for entry in entries)])),
    )


def _read_spec(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        described = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        return str(described["root"]), dict(described["spec"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}  # killed before it was written, or damaged: still ours by its name and files
