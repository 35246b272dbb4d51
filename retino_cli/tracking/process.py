"""Which process writes a run, and whether it is still there.

A run that was killed hard (``kill -9``, power cut) stays RUNNING in MLflow for ever. Its tags name the host, the
process and the moment that the process started, so that a later command can tell that it is gone, also where the number
of the process has been given to another one since.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOST_TAG = "retino.host"
PID_TAG = "retino.pid"
STARTED_TAG = "retino.process_started"


@dataclass(frozen=True)
class ProcessMark:
    """A process, told apart from all others that ever were.

    ``started`` is ``boot id/pid namespace/start in clock ticks`` on Linux, else what ``ps`` prints; empty if unknown.
    """

    host: str
    pid: int
    started: str

    def to_tags(self) -> dict[str, str]:
        return {HOST_TAG: self.host, PID_TAG: str(self.pid), STARTED_TAG: self.started}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> ProcessMark | None:
        """The mark in a run's tags; None for a run that has none (not one of ours)."""
        pid = tags.get(PID_TAG, "")
        if HOST_TAG not in tags or not pid.isdigit():
            return None
        return cls(host=tags[HOST_TAG], pid=int(pid), started=tags.get(STARTED_TAG, ""))


def current_process() -> ProcessMark:
    """The mark of this process."""
    pid = os.getpid()
    return ProcessMark(host=socket.gethostname(), pid=pid, started=_read_start(pid) or "")


def is_gone(mark: ProcessMark) -> bool | None:
    """True if the process has ended, False if it runs, None if that cannot be told from here (another host)."""
    if mark.host != socket.gethostname() or not mark.started:
        return None
    then, now = mark.started.split("/"), (_read_start(os.getpid()) or "").split("/")
    if len(then) == len(now) == 3:
        if then[0] != now[0]:
            return True  # this host was started anew since
        if then[1] != now[1]:
            return None  # a container with its own process numbers
    return _read_start(mark.pid) != mark.started


def _read_start(pid: int) -> str | None:
    """When process ``pid`` started, in a form that is only compared; None if there is no such process."""
    if Path("/proc/self/stat").exists():  # Linux
        try:
            # Field 2 is the command in parentheses, which may hold spaces and parentheses itself: count from its end.
            state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        if state in "ZX":
            return None  # dead, only not yet collected by its parent
        return f"{_read_boot_id()}/{_read_namespace()}/{fields[18]}"
    if os.name == "posix":
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""
