"""How commands are run in tests: the types of the fixtures in cli/conftest.py."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Retino = Callable[..., Ended]
Spawn = Callable[..., subprocess.Popen[str]]
