"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

STALE_SECONDS: Final = 24 * 3600
"""A file in the making that nothing was written to for so long was left behind by a process that was killed."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The name ``.NAME.PID.partial`` beside ``path``, for the block to write to. It becomes ``path``, or takes the
    place of what stood there, when the block ends without an exception; any exception removes it.

    Missing folders are made. What killed processes left behind of this file a day ago or earlier is removed. Raises
    what the block raises, and OSError where there is no room, no right or no such place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path, ".{}.*.partial")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_stale(path: Path, pattern: str, *, seconds: float = STALE_SECONDS) -> None:
    """Remove the files beside ``path`` that ``pattern`` matches, "{}" standing for its name, and that nothing was
    written to for ``seconds``. What cannot be removed stays."""
    with contextlib.suppress(OSError):  # a folder that cannot be listed
        for file in path.parent.glob(pattern.format(glob.escape(path.name))):
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > seconds:
                    file.unlink()
