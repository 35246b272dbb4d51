"""The prepared cache on disk: a slot of pixels and a record for each source, safe against kill and a full disk.

::

    <root>/<data set>-<hash of its folder>/<geometry hash of the spec>/
        sources.json   the source of each slot; only ever appended to, replaced as a whole
        pixels.u8      slot after slot, S x S x 3 uint8
        index.bin      record after record, see RECORD
        spec.json      for people: the data set's folder and the spec; its time is that of the last use
        writing        while a process writes
        lock           held by whoever writes

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.preprocess import PreparedPicture, PreprocessSpec, digest_picture

READY: Final = 1

RECORD: Final = np.dtype(
    [
        ("status", "u1"),  # READY, or 0: nothing there yet
        ("fallback", "u1"),  # 1: no field was found, the whole frame was kept
        ("box", "<i4", (4,)),  # left, top, right, bottom of what was kept, in pixels of the upright original
        ("width", "<i4"),  # of the upright original, in pixels
        ("height", "<i4"),
        ("size", "<i8"),  # of the source file, in bytes
        ("mtime_ns", "<i8"),  # when the source file was last changed
        ("sha256", "u1", (32,)),  # PreparedPicture.sha256
    ]
)


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

    def read_records(self, count: int) -> np.ndarray:
        """(count,) RECORD. Slots that the files do not reach, as after an interrupted copy, are not READY."""
        records = np.zeros(count, dtype=RECORD)
        if not count:
            return records
        try:
            stored = np.fromfile(self.folder / "index.bin", dtype=RECORD, count=count)
            whole = (self.folder / "pixels.u8").stat().st_size // self.slot_bytes
        except FileNotFoundError:
            return records
        records[: len(stored)] = stored
        records["status"][whole:] = 0
        return records

    def map_pixels(self, count: int) -> np.ndarray:
        """(count, S, S, 3) uint8, read-only."""
        shape = (count, self.image_size, self.image_size, 3)
        # A plain array over the map: np.memmap would wrap every slice of it anew.
        return np.asarray(np.memmap(self.folder / "pixels.u8", dtype=np.uint8, mode="r", shape=shape))

    def describe(self, spec: PreprocessSpec, root: Path) -> None:
        """Write down whose pictures these are, and how they were made."""
        geometry = {name: value for name, value in spec.to_dict().items() if name not in ("mean", "std")}
        _replace(self.folder / "spec.json", {"root": str(root), "spec": geometry})

    def mark_used(self) -> None:
        """Let the folder's age be counted from now on, where it can be written to."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / "spec.json")

    def write_sources(self, sources: list[str], *, known: int) -> None:
        """Give each source a slot; the first ``known`` have theirs. New ones are holes in the files: no space taken."""
        for name, size in (("pixels.u8", self.slot_bytes), ("index.bin", RECORD.itemsize)):
            with (self.folder / name).open("ab") as file:
                # Whatever lies behind the known slots belongs to nobody: back to a hole.
                file.truncate(known * size)
                file.truncate(len(sources) * size)
        _replace(self.folder / "sources.json", sources)

    @property
    def crashed(self) -> bool:
        """Whether the machine went down before everything that was written had reached the disk."""
        try:
            return (self.folder / "writing").read_text(encoding="utf-8") != _boot()
        except FileNotFoundError:
            return False

    def drop_damaged(self, count: int) -> None:
        """Clear every slot whose pixels are not those of its SHA-256."""
        records = self.read_records(count)
        ready = np.flatnonzero(records["status"] == READY)
        if not len(ready):
            return
        pixels = self.map_pixels(int(ready[-1]) + 1)
        with (self.folder / "index.bin").open("r+b") as file:
            for slot in ready.tolist():
                record = records[slot]
                found = digest_picture(pixels[slot], int(record["width"]), int(record["height"]))
                if found != record["sha256"].tobytes().hex():
                    _write_at(file.fileno(), b"\0", slot * RECORD.itemsize)


class SlotWriter:
    """Writes slots; safe to share between threads. A context manager: it holds two open files."""

    def __init__(self, files: SlotFiles) -> None:
        self._slot_bytes = files.slot_bytes
        self._marker = files.folder / "writing"
        self._marker.write_text(_boot(), encoding="utf-8")
        self._pixels = os.open(files.folder / "pixels.u8", os.O_WRONLY)
        try:
            self._index = os.open(files.folder / "index.bin", os.O_WRONLY)
        except OSError:
            os.close(self._pixels)
            raise

    def __enter__(self) -> SlotWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.sync()
            self._marker.unlink()
        finally:
            os.close(self._pixels)
            os.close(self._index)

    def sync(self) -> None:
        """Wait until everything written so far has reached the disk."""
        os.fsync(self._pixels)
        os.fsync(self._index)

    def write(self, slot: int, picture: PreparedPicture, *, size: int, mtime_ns: int) -> None:
        """Fill a slot; ``size`` and ``mtime_ns`` are the source file's, from before it was read."""
        record = np.zeros((), dtype=RECORD)
        record["fallback"] = picture.fallback
        record["box"] = picture.box
        record["width"], record["height"] = picture.width, picture.height
        record["size"], record["mtime_ns"] = size, mtime_ns
        record["sha256"] = np.frombuffer(bytes.fromhex(picture.sha256), dtype=np.uint8)
        at = slot * RECORD.itemsize
        _write_at(self._index, b"\0", at)
        _write_at(self._pixels, picture.pixels.data.cast("B"), slot * self._slot_bytes)
        _write_at(self._index, record.tobytes(), at)
        _write_at(self._index, bytes([READY]), at)


def _write_at(file: int, data: bytes | memoryview, offset: int) -> None:
    # A disk that fills up takes a part of the bytes first, and refuses only the rest.
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _boot() -> str:
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
