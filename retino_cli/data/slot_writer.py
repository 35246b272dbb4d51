"""Write prepared pictures into the slots of a cache folder; ``slots`` says what makes that safe."""

from __future__ import annotations

import os
import threading

import numpy as np

from retino_cli.data.pixels import encode_picture
from retino_cli.data.slots import INDEX_FILES, PIXEL_FILES, READY, SlotFiles, boot_id, write_at
from retino_cli.preprocess import PreparedPicture


class SlotWriter:
    """Writes slots; safe to share between threads. A context manager: it holds two open files."""

    def __init__(self, files: SlotFiles) -> None:
        self._slot_bytes = files.slot_bytes
        self._compact = files.format == "compact"
        (index, self._dtype), pixels = INDEX_FILES[files.format], PIXEL_FILES[files.format]
        self._marker = files.folder / "writing"
        self._marker.write_text(boot_id(), encoding="utf-8")
        self._pixels = os.open(files.folder / pixels, os.O_WRONLY)
        try:
            self._end = os.fstat(self._pixels).st_size
            self._index = os.open(files.folder / index, os.O_WRONLY)
        except OSError:
            os.close(self._pixels)
            raise
        self._appending = threading.Lock()

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
        record = np.zeros((), dtype=self._dtype)
        record["fallback"] = picture.fallback
        record["box"] = picture.box
        record["width"], record["height"] = picture.width, picture.height
        record["size"], record["mtime_ns"] = size, mtime_ns
        record["sha256"] = np.frombuffer(bytes.fromhex(picture.sha256), dtype=np.uint8)
        at = slot * self._dtype.itemsize
        if self._compact:
            encoded = encode_picture(picture.pixels)
            with self._appending:
                start, self._end = self._end, self._end + len(encoded)
            record["offset"], record["length"] = start, len(encoded)
            write_at(self._pixels, encoded, start)
            write_at(self._index, b"\0", at)
        else:
            write_at(self._index, b"\0", at)
            write_at(self._pixels, picture.pixels.data.cast("B"), slot * self._slot_bytes)
        write_at(self._index, record.tobytes(), at)
        write_at(self._index, bytes([READY]), at)
