"""The pixels of prepared pictures on disk, and reading them: as they are ("raw"), or as lossless WebP ("compact").

Both formats give the same bits, so what a training finds never depends on how much space a disk had. Measured on IDRiD
photographs, cropped to the retina, with one core (mean; size as a share of the raw S x S x 3 bytes):

::

                                    224 px                            512 px
                        size   encode ms  decode ms      size   encode ms  decode ms
    WebP, method 0       .37      1.1        .8           .29       6         3.6      chosen
    WebP, method 1       .29      4.7        .8           .26      25         3.9
    WebP, method 3       .28      7.0        .8           .25      39         3.7
    PNG, run lengths     .32      2.5       1.1           .29      13         5.4
    PNG, level 1         .40      2.9       1.2           .36      13         5.7
    JPEG 4:4:4, 100      .33       .3        .5           .27       1.4       2.0      wrong by .35 and .28 of 255

JPEG at quality 100 is no smaller than what loses nothing. Of the lossless ones WebP is the quickest to decode; its
slower methods would save up to a quarter more and make preparing at 512 px three times slower.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from PIL import Image

from retino_cli.errors import DataError

PixelFormat = Literal["raw", "compact"]


class PixelStore(Protocol):
    """Prepared pictures by slot. ``shape``: (S, S, 3), of one picture."""

    @property
    def format(self) -> PixelFormat: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def gather(self, slots: np.ndarray) -> np.ndarray:
        """Slots (B,) -> a new contiguous array (B, S, S, 3) uint8."""
        ...


class RawPixels:
    """``pixels``: (N, S, S, 3) uint8, in memory or a map of a file."""

    format: Final = "raw"

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.shape: tuple[int, int, int] = (pixels.shape[1], pixels.shape[2], 3)

    def gather(self, slots: np.ndarray) -> np.ndarray:
        batch: np.ndarray = np.take(self._pixels, slots, axis=0)
        return batch


class CompactPixels:
    """Encoded pictures in one file; ``offset`` and ``length`` (N,): where the picture of each slot lies in it.

    Decodes a batch with a thread for each core: Pillow lets go of the interpreter lock meanwhile. Two cores decode
    1,370 pictures of 224 px a second in batches of 32, twenty times what ResNet18 trains on with them (57), so nothing
    is read ahead.
    """

    format: Final = "compact"

    def __init__(self, path: Path, *, offset: np.ndarray, length: np.ndarray, image_size: int) -> None:
        self._path = path
        # A map, not an open file: it stays readable after the file was deleted, and needs no closing.
        self._bytes = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        self._offset, self._length = offset, length
        self.shape: tuple[int, int, int] = (image_size, image_size, 3)

    def gather(self, slots: np.ndarray) -> np.ndarray:
        """Raises ``DataError`` where the file is damaged."""
        batch = np.empty((len(slots), *self.shape), dtype=np.uint8)

        def fill(row: int) -> None:
            batch[row] = self._decode(int(slots[row]))

        workers = min(count_cores(), len(slots))
        if workers < 2:
            for row in range(len(slots)):
                fill(row)
        else:
            # Starting threads takes 0.1 ms; a pool that is kept would have to be ended by somebody.
            with ThreadPoolExecutor(workers, thread_name_prefix="gather") as pool:
                list(pool.map(fill, range(len(slots))))
        return batch

    def _decode(self, slot: int) -> np.ndarray:
        start, length = int(self._offset[slot]), int(self._length[slot])
        try:
            with Image.open(io.BytesIO(self._bytes[start : start + length].data)) as image:
                pixels = np.asarray(image)
            if pixels.shape != self.shape:
                raise ValueError(f"a picture of {pixels.shape} values")
        except (OSError, ValueError) as error:
            folder = self._path.parent
            raise DataError(
                f"the prepared pictures in {folder} are damaged: {self._path.name} at {start}: {error}",
                f"delete {folder}",
            ) from error
        return pixels


def encode_picture(pixels: np.ndarray) -> bytes:
    """(S, S, 3) uint8 -> the bytes of a picture file from which the same bits are decoded."""
    buffer = io.BytesIO()
    # Without loss, "quality" is the effort.
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
