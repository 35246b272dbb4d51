"""What may be logged: names that MLflow takes on every platform, and values that are numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

_MAX_NAME = 250


def select_defined(metrics: Mapping[str, object]) -> dict[str, float]:
    """The finite numbers among ``metrics``; None, NaN, infinity and objects that stand for "undefined" are left out.

    Raises ValueError for a name that MLflow refuses.
    """
    values: dict[str, float] = {}
    for name, value in metrics.items():
        check_name(name)
        if hasattr(value, "__float__") and math.isfinite(number := float(value)):
            values[name] = number
    return values


def check_name(name: str) -> None:
    """Raise ValueError unless MLflow takes ``name`` for a metric or a parameter, on every platform."""
    parts = name.split("/")
    if not re.fullmatch(r"[/\w.\- ]+", name) or len(name) > _MAX_NAME or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r}: MLflow takes letters, digits, '_', '-', '.', ' ' and single '/' in a name")


def check_artifact(artifact: str) -> None:
    """Raise ValueError unless ``artifact`` is a plain relative path with "/"."""
    path = PurePosixPath(artifact)
    if not artifact or path.is_absolute() or ".." in path.parts or "\\" in artifact or str(path) != artifact:
        raise ValueError(f"{artifact!r}: an artifact is named by a relative path with '/', such as 'test/metrics.json'")
