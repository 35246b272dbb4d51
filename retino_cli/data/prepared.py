"""Decode every picture of a data set once, into memory-mapped uint8 on disk, or where that is too large, lossless WebP.

The cache on disk is described in ``slots``, its two formats in ``pixels``, the work of filling it in ``filling``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from retino_cli.cache import cache_root
from retino_cli.data.filling import fill_slots
from retino_cli.data.pixels import PixelFormat, PixelStore
from retino_cli.data.slots import SlotFiles
from retino_cli.data.space import ELSEWHERE
from retino_cli.errors import DataError
from retino_cli.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from retino_cli.data.manifest import Manifest

_NAMED: Final = 10  # how many images a message names before it only counts


@dataclass(frozen=True)
class PreparedImages:
    """The prepared pictures of a manifest.

    ``store``: where the pixels are, by slot, one for each picture of the data set's cache; ``gather`` reads them.
    ``rows``: (M,) int64, the slot of each row of the manifest given to ``prepare``; -1 where it is ``unreadable``.
    ``index``: (M,) ``slots.RECORD``: source size and time, crop box, fall-back, SHA-256 of each row of the manifest.
    ``fallbacks``: how many of the M show the whole frame because no field was found.
    ``unreadable``: the image ids left out, in the manifest's order; empty unless they were to be skipped.
    ``decoded``: how many pictures this call decoded; 0: everything was there.
    ``why``: the format on disk, and why it is that one, for people.
    """

    spec: PreprocessSpec
    store: PixelStore
    rows: np.ndarray
    index: np.ndarray
    fallbacks: int
    unreadable: tuple[str, ...]
    decoded: int
    folder: Path
    why: str = ""

    @property
    def readable(self) -> np.ndarray:
        """(M,) bool: the rows of the manifest that have pixels. ``table[prepared.readable]`` drops the others."""
        return self.rows >= 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, S, 3), of one picture as ``gather`` gives it."""
        return self.store.shape

    @property
    def format(self) -> PixelFormat:
        """On disk: "raw", or "compact", without loss."""
        return self.store.format

    @property
    def stored_bytes(self) -> int:
        """What the pixels of the readable rows take on disk."""
        if self.format == "compact":
            return int(self.index["length"].sum())
        return int(self.readable.sum()) * int(np.prod(self.shape))

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Rows of the manifest (B,) -> a new contiguous array (B, S, S, 3) uint8, RGB, the same in both formats.

        Raises ``IndexError`` for a row that is out of range or was left out as unreadable, ``DataError`` where a
        compact cache is damaged.
        """
        slots: np.ndarray = self.rows[index]
        if slots.size and slots.min() < 0:
            raise IndexError("gather: a row was left out as unreadable; use only rows where `readable` is true")
        return self.store.gather(slots)


def prepare(
    manifest: Manifest,
    spec: PreprocessSpec,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    expected: int = 0,
    compact: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> PreparedImages:
    """Decode what is not in the cache yet, or has changed since, and return all of the manifest's pictures.

    All selections of one data set share one cache, and so do specs that differ only in mean and std. It may be killed
    at any moment and goes on where it was; several processes may call it at once (one decodes, the others wait).

    ``cache``: folder for all caches, ``cache_root()`` by default. ``workers``: threads, one per core by default.
    ``skip_unreadable``: leave out pictures that are missing or damaged instead of raising an error.
    ``expected``: pictures of the whole data set, where ``manifest`` is a part of it: a new cache is compact, a third of
    the size and somewhat slower to read, where the raw pixels of that many would not fit. ``compact``: make a new cache
    compact in any case. Pixels are the same, bit for bit; a cache that is there keeps its format.
    ``on_progress``: called in this thread with (done, to do) about ten times a second while pictures are decoded.

    Raises ``DataError``: images missing or unreadable (all of them are tried first, and those that can be read are
    kept), no space, a cache folder that cannot be written to.
    """
    ids = manifest.table["image_id"].astype(str).tolist()
    sources = manifest.table["path"].astype(str).tolist()
    missing = [image_id for image_id, source in zip(ids, sources, strict=True) if not source]
    if missing and not skip_unreadable:
        raise DataError(
            f"{len(missing)} of {len(ids)} images of {manifest.name} were not found: {_some(missing, ', ')}",
            f"check that {manifest.root} holds the pictures, too, or leave these out with --skip-unreadable",
        )
    wanted = sorted({source for source in sources if source})
    folder = (cache or cache_root()) / _cache_name(manifest) / spec.geometry_hash
    files = SlotFiles(folder, spec.image_size)
    with _cache_errors(folder):
        filled = fill_slots(
            files,
            wanted,
            spec,
            root=manifest.root,
            workers=workers,
            expected=expected,
            compact=compact,
            on_progress=on_progress,
        )
    failures = filled.failures
    if failures and not skip_unreadable:
        reasons = [failures[source] for source in wanted if source in failures]
        raise DataError(
            f"{len(failures)} of {len(wanted)} pictures cannot be used:\n  {_some(reasons, chr(10) + '  ')}",
            "put them right, or leave them out with --skip-unreadable",
        )
    slots = {source: slot for source, slot in filled.slots.items() if source not in failures}
    rows = np.array([slots.get(source, -1) for source in sources], dtype=np.int64)
    if not (rows >= 0).any():
        raise DataError(f"none of the {len(ids)} pictures of {manifest.name} can be read", f"look into {manifest.root}")
    with _cache_errors(folder):
        records = files.read_records(len(filled.slots))
        store = files.open_pixels(records)
        files.mark_used()
    index = records[rows]
    index[rows < 0] = np.zeros((), dtype=records.dtype)
    return PreparedImages(
        spec=spec,
        store=store,
        rows=rows,
        index=index,
        fallbacks=int(index["fallback"].sum()),
        unreadable=tuple(image_id for image_id, row in zip(ids, rows.tolist(), strict=True) if row < 0),
        decoded=filled.decoded,
        folder=folder,
        why=filled.why,
    )


def _cache_name(manifest: Manifest) -> str:
    # The folder, not the list of pictures: a data set that grows keeps what was decoded of it.
    root = hashlib.sha256(os.fsencode(manifest.root)).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', manifest.name).strip('.-') or 'data'}-{root}"


def _some(items: list[str], separator: str) -> str:
    more = [f"and {len(items) - _NAMED} more"] if len(items) > _NAMED else []
    return separator.join(items[:_NAMED] + more)


@contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the cache's own files into a message; those of the pictures have become ``DataError`` before."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"no space left for prepared pictures in {folder}", ELSEWHERE) from error
        raise DataError(
            f"prepared pictures cannot be kept in {folder}: {error.strerror or error}", ELSEWHERE
        ) from error
    except ValueError as error:
        raise DataError(f"the prepared pictures in {folder} are damaged: {error}", f"delete {folder}") from error
