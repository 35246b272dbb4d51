"""The space that prepared pictures need: which format a new cache folder gets, and whether there is room for it."""

from __future__ import annotations

import shutil
from typing import Final

import numpy as np
from PIL import features

from retino_cli.data.pixels import PixelFormat
from retino_cli.data.slots import READY, SlotFiles
from retino_cli.errors import DataError

ELSEWHERE: Final = "set RETINO_CACHE to a folder that can be written to and has enough space"

SPARE_BYTES: Final = 64 << 20
"""Left free on the disk, for whatever else runs there."""

_ENOUGH: Final = 100  # pictures whose mean size foretells the others'
_LARGEST_SHARE: Final = ((128, 0.6), (4096, 0.45))
"""Up to this side in pixels, compact pictures take less than this share of the raw bytes on average. Measured, mean and
largest: RetinaMNIST at 28 px .58, .72; IDRiD at 64 px .45, .53, at 128 px .40, .48, at 224 px .36, .44, at 512 px
.29, .35."""


def reserve_space(files: SlotFiles, *, jobs: int, fresh: int, expected: int, compact: bool) -> str:
    """Give a new cache folder its format, see that there is room, and say which format it is and why.

    ``jobs``: pictures to be written now, ``fresh`` of them into slots that were never filled; ``expected``: pictures
    that the folder will hold some day. A folder that has a format keeps it. A new one gets the compact format where
    ``compact`` asks for it, or where the raw pixels of ``expected`` pictures would not fit.

    Raises ``DataError`` where the pictures to be written now will not fit.
    """
    free = shutil.disk_usage(files.folder).free
    raw = max(jobs, expected) * files.slot_bytes + SPARE_BYTES
    chosen: PixelFormat
    if files.started:
        chosen, why = files.format, explain_format(files, compact=compact)
    elif compact:
        chosen, why = "compact", "compact: as asked for"
    elif raw > free and features.check("webp"):
        chosen, why = "compact", f"compact: the raw pixels would need {_gb(raw)}, {_gb(free)} are free"
    else:
        chosen, why = "raw", f"raw: the pixels need {_gb(raw)}, {_gb(free)} are free"
    if chosen == "compact" and not features.check("webp"):
        raise DataError("this Pillow was built without WebP, the compact format", "install another build of Pillow")
    # A slot's new raw pixels replace the old ones; in the compact format the old ones are left behind.
    more = fresh if chosen == "raw" else jobs
    needed = int(more * (files.slot_bytes if chosen == "raw" else _bytes_each(files))) + SPARE_BYTES
    if more and needed > free:
        smaller = f", or make it smaller: retino data cache --clear {files.name}, then retino data prepare --compact"
        raise DataError(
            f"{more} pictures of {files.image_size} px need {_gb(needed)} in {files.folder} "
            f"({chosen} format), where {_gb(free)} are free",
            f"free some space, or {ELSEWHERE}" + (smaller if chosen == "raw" and files.started else ""),
        )
    files.start(chosen)
    return why


def explain_format(files: SlotFiles, *, compact: bool) -> str:
    """Which format a folder has that was there before; ``compact``: whether the compact one was asked for."""
    why = f"{files.format}: these pictures were first prepared so"
    if compact and files.format == "raw":
        why += f"; to change it, delete them first: retino data cache --clear {files.name}"
    return why


def _bytes_each(files: SlotFiles) -> float:
    """What a compact picture takes: the mean of those that are there, else a bound."""
    if files.format == "compact":
        records = files.read_records(len(files.read_sources()))
        lengths = records["length"][records["status"] == READY]
        if len(lengths) >= _ENOUGH:
            return float(np.mean(lengths))
    return files.slot_bytes * next(share for side, share in _LARGEST_SHARE if files.image_size <= side)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
