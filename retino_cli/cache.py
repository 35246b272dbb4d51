"""Where retino keeps what it can make again: prepared pictures, downloads, and values waiting for a tracking server."""

from __future__ import annotations

import os
from pathlib import Path

from retino_cli.errors import RetinoError


def cache_root() -> Path:
    """``RETINO_CACHE``, else ``$XDG_CACHE_HOME/retino``, else ``~/.cache/retino``. It need not exist yet."""
    chosen = os.environ.get("RETINO_CACHE", "")
    # A relative XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification 0.8).
    shared = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(chosen) if chosen else Path(shared if os.path.isabs(shared) else "~/.cache") / "retino"
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise RetinoError("There is no home folder for the cache.", "Set RETINO_CACHE to a folder.") from error
