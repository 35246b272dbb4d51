"""The prepared cache on disk: a slot of pixels and a record for each source, safe against kill and a full disk.

::

    <root>/<data set>-<hash of its folder>/<geometry hash of the spec>/
        sources.json   the source of each slot; only ever appended to, replaced as a whole
        pixels.u8      raw format: slot after slot, S x S x 3 uint8
        index.bin      raw format: record after record, see RECORD
        pictures.bin   compact format: encoded picture after encoded picture, in the order in which they were made
        compact.bin    compact format: record after record, see COMPACT_RECORD
        spec.json      for people: the data set's folder, the spec, the format; its time is that of the last use
        writing        while a process writes
        lock           held by whoever writes

Which of the two indexes is there says which format the folder has (``pixels``), from its first picture on until it is
deleted. In the compact format nothing is ever written over: a picture whose source has changed is appended again, and
the space of the old one comes back only when the folder is deleted.

A slot is valid where its record's ``status`` is READY. That byte is cleared before anything else of the slot changes,
and set after everything else is written, so a process that is killed at any moment leaves whole slots and empty ones. A
machine that crashes may have kept that byte and lost the pixels: the file ``writing`` is there from before the first
write until everything has reached the disk, and names the machine's boot; a later boot that finds it checks every slot
against its SHA-256.

Files are written with ``pwrite`` and only read through memory maps: on a full disk a write through a map kills the
process with SIGBUS, where ``pwrite`` raises an error.
"""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.data.pixels import CompactPixels, PixelFormat, PixelStore, RawPixels, count_cores
from retino_cli.errors import DataError
from retino_cli.preprocess import PreprocessSpec, digest_picture

READY: Final = 1

_FIELDS: Final[list[tuple[Any, ...]]] = [
    ("status", "u1"),  # READY, or 0: nothing there yet
    ("fallback", "u1"),  # 1: no field was found, the whole frame was kept
    ("box", "<i4", (4,)),  # left, top, right, bottom of what was kept, in pixels of the upright original
    ("width", "<i4"),  # of the upright original, in pixels
    ("height", "<i4"),
    ("size", "<i8"),  # of the source file, in bytes
    ("mtime_ns", "<i8"),  # when the source file was last changed
    ("sha256", "u1", (32,)),  # PreparedPicture.sha256
]
RECORD: Final = np.dtype(_FIELDS)

COMPACT_RECORD: Final = np.dtype(
    [
        *_FIELDS,
        ("offset", "<i8"),  # of the encoded picture in pictures.bin, in bytes
        ("length", "<i4"),  # in bytes; 0: never written
    ]
)
"""Another layout of records is another name of the index: a file that is found is never read as what it is not."""

INDEX_FILES: Final[dict[PixelFormat, tuple[str, np.dtype]]] = {
    "raw": ("index.bin", RECORD),
    "compact": ("compact.bin", COMPACT_RECORD),
}
PIXEL_FILES: Final[dict[PixelFormat, str]] = {"raw": "pixels.u8", "compact": "pictures.bin"}


@dataclass(frozen=True)
class SlotFiles:
    """The files of one cache folder."""

    folder: Path
    image_size: int

    @property
    def slot_bytes(self) -> int:
        return self.image_size * self.image_size * 3

    def read_sources(self) -> list[str]:
        """The source of each slot; empty for a new cache."""
        try:
            sources: list[str] = json.loads((self.folder / "sources.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return sources

    @property
    def name(self) -> str:
        """As ``retino data cache`` names the folder."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def format(self) -> PixelFormat:
        """Of a folder that is there; "raw" of one that has none yet."""
        return find_format(self.folder) or "raw"

    @property
    def started(self) -> bool:
        """Whether the folder has a format."""
        return find_format(self.folder) is not None

    def start(self, chosen: PixelFormat) -> None:
        """Give a new folder its format; does nothing to one that has it."""
        (self.folder / INDEX_FILES[chosen][0]).touch()

    def read_records(self, count: int) -> np.ndarray:
        """(count,) RECORD, or COMPACT_RECORD, which has the same fields and two more.

        Slots that the files do not reach, as after an interrupted copy, are not READY.
        """
        records = self._read_index(count)
        try:
            size = (self.folder / PIXEL_FILES[self.format]).stat().st_size
        except FileNotFoundError:
            size = 0
        if self.format == "raw":
            records["status"][size // self.slot_bytes :] = 0
        else:
            start, length = records["offset"], records["length"].astype(np.int64)
            records["status"][(length <= 0) | (start < 0) | (start > size - length)] = 0
        return records

    def _read_index(self, count: int) -> np.ndarray:
        name, dtype = INDEX_FILES[self.format]
        records = np.zeros(count, dtype=dtype)
        with contextlib.suppress(FileNotFoundError):
            stored = np.fromfile(self.folder / name, dtype=dtype, count=count)
            records[: len(stored)] = stored
        return records

    def open_pixels(self, records: np.ndarray) -> PixelStore:
        """The pixels of the slots (N,) that ``records`` describe, read-only. At least one of them must be READY."""
        path = self.folder / PIXEL_FILES[self.format]
        if self.format == "compact":
            offset, length = records["offset"].copy(), records["length"].copy()
            return CompactPixels(path, offset=offset, length=length, image_size=self.image_size)
        shape = (len(records), self.image_size, self.image_size, 3)
        # A plain array over the map: np.memmap would wrap every slice of it anew.
        return RawPixels(np.asarray(np.memmap(path, dtype=np.uint8, mode="r", shape=shape)))

    def describe(self, spec: PreprocessSpec, root: Path) -> None:
        """Write down whose pictures these are, and how they were made."""
        geometry = {name: value for name, value in spec.to_dict().items() if name not in ("mean", "std")}
        _replace(self.folder / "spec.json", {"root": str(root), "format": self.format, "spec": geometry})

    def mark_used(self) -> None:
        """Let the folder's age be counted from now on, where it can be written to."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / "spec.json")

    def write_sources(self, sources: list[str], *, known: int) -> None:
        """Give each source a slot; the first ``known`` have theirs. New ones are holes in the files: no space taken."""
        (index, dtype), pixels = INDEX_FILES[self.format], self.folder / PIXEL_FILES[self.format]
        stored, records = self._read_index(known), self.read_records(known)
        # What the files do not reach would be called valid as soon as they have grown again.
        self._clear(np.flatnonzero(stored["status"] != records["status"]).tolist())
        with (self.folder / index).open("ab") as file:
            # Whatever lies behind the known slots belongs to nobody: back to a hole.
            file.truncate(known * dtype.itemsize)
            file.truncate(len(sources) * dtype.itemsize)
        with pixels.open("ab") as file:
            if self.format == "raw":
                file.truncate(known * self.slot_bytes)
                file.truncate(len(sources) * self.slot_bytes)
            elif known:
                # What a killed process or a full disk left without a record. Never less than what any reader knows: a
                # slot's newer bytes lie behind its older ones.
                end = int((stored["offset"] + stored["length"]).max())
                file.truncate(min(end, pixels.stat().st_size))
        _replace(self.folder / "sources.json", sources)

    def _clear(self, slots: list[int]) -> None:
        name, dtype = INDEX_FILES[self.format]
        if slots:
            with (self.folder / name).open("r+b") as file:
                for slot in slots:
                    write_at(file.fileno(), b"\0", slot * dtype.itemsize)

    @property
    def crashed(self) -> bool:
        """Whether the machine went down before everything that was written had reached the disk."""
        try:
            return (self.folder / "writing").read_text(encoding="utf-8") != boot_id()
        except FileNotFoundError:
            return False

    def drop_damaged(self, count: int) -> None:
        """Clear every slot whose pixels are not those of its SHA-256."""
        records = self.read_records(count)
        ready = np.flatnonzero(records["status"] == READY)
        if not len(ready):
            return
        pixels = self.open_pixels(records[: ready[-1] + 1])

        def is_damaged(slot: np.intp) -> bool:
            record = records[slot]
            try:
                picture = pixels.gather(np.array([slot]))[0]
            except DataError:
                return True
            found = digest_picture(picture, int(record["width"]), int(record["height"]))
            return found != bytes(record["sha256"]).hex()

        with ThreadPoolExecutor(count_cores()) as pool:
            damaged = list(pool.map(is_damaged, ready))
        self._clear(ready[damaged].tolist())


def find_format(folder: Path) -> PixelFormat | None:
    """The format of a cache folder; None where nothing was prepared in it yet."""
    # The compact one first: an older retino, which does not know it, may have put raw pictures beside it.
    if (folder / INDEX_FILES["compact"][0]).exists():
        return "compact"
    return "raw" if (folder / INDEX_FILES["raw"][0]).exists() else None


def count_ready(folder: Path) -> int:
    """How many pictures of a cache folder are ready."""
    name, dtype = INDEX_FILES[find_format(folder) or "raw"]
    try:
        count = (folder / name).stat().st_size // dtype.itemsize
        if not count:
            return 0
        status = np.memmap(folder / name, dtype=dtype, mode="r", shape=(count,))["status"]
    except FileNotFoundError:
        return 0
    return int(np.count_nonzero(status == READY))


def write_at(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file."""
    # A disk that fills up takes a part of the bytes first, and refuses only the rest.
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def boot_id() -> str:
    """Names the running system from its start to its end."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Not Linux. Never equal to another one, so that an interrupted run is always checked.
        return f"unknown {os.urandom(8).hex()}"


def _replace(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, whole."""
    # One name is enough: only the holder of the lock writes.
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
