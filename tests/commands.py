"""How commands are run in tests: the types of the fixtures in cli/conftest.py."""

from __future__ import annotations

import signal
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
SignalInEpoch = Callable[[signal.Signals, int], None]


def hear_interrupts() -> None:
    """In a new process: heed Ctrl-C, also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
