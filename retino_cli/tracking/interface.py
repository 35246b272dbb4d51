"""MLflow's page: ``mlflow ui`` as a child process with light settings, waited for, ended with all its workers."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Self

import requests

from retino_cli.errors import TrackingError, UsageError
from retino_cli.tracking.location import Location, shorten_path

LIGHT: Final = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""One worker in place of four, and no job queue: a second of start and 0.4 GB for one who looks at runs."""
FIRST_PORT: Final = 5000
_PORTS_TRIED: Final = 50
_PATIENCE: Final = 180.0
"""Seconds: the first start on a busy machine imports for a minute."""
_FAREWELL: Final = 10.0


def choose_port(host: str, port: int | None) -> int:
    """``port`` if it is free, or the first free one from 5000 on where it is None. Raises UsageError."""
    if port is not None:
        if not _is_free(host, port):
            raise UsageError(
                f"--port {port} cannot be taken on {host}: another program uses it, or it is not allowed.",
                "Leave --port out: the first free one is taken then.",
            )
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED):
        if _is_free(host, candidate):
            return candidate
    raise UsageError(
        f"No port from {FIRST_PORT} to {FIRST_PORT + _PORTS_TRIED - 1} is free on {host}.",
        "Check --host, or name a port: --port NUMBER",
    )


def _is_free(host: str, port: int) -> bool:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":  # as the server itself: a port that was just given back is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError):
        return False
    return True


class Interface:
    """A running ``mlflow ui`` of ``location``. A context manager: at its end nothing of it is left."""

    def __init__(self, location: Location, *, host: str, port: int) -> None:
        self.address = f"http://{_browsable(host)}:{port}"
        self._location, self._host, self._port = location, host, port
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def by_hand(self) -> str:
        """The command that does the same, typed in the current folder."""
        settings = " ".join(f"{name}={value}" for name, value in LIGHT.items())
        host = "" if self._host == "127.0.0.1" else f" --host {shlex.quote(self._host)}"
        return f"{settings} {self._location.ui_command()}{host} --port {self._port}"

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        database = self._location.database
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", "--host", self._host, "--port", str(self._port)],
            # In the environment, not among the arguments, which everybody on the machine can read: it may hold a
            # password.
            env={**os.environ, **_settings(), "MLFLOW_BACKEND_STORE_URI": self._location.uri},
            cwd=None if database is None else database.parent,  # where it makes ./mlruns if there is none
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C comes here alone, and the group can be ended as a whole
        )
        try:
            self._wait_for_answer()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def wait(self) -> None:
        """Until it ends by itself, which it does only when something is wrong: TrackingError then."""
        if self._process is not None:
            self._process.wait()
            raise TrackingError(f"mlflow ui has ended by itself. {self._last_words()}")

    def end(self) -> None:
        """End the server and its workers."""
        process, self._process = self._process, None
        if process is not None:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_FAREWELL)
            # Workers that outlive the first process of the group, and a first process that does not end.
            _signal_group(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()
        if self._log is not None:
            self._log.close()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise TrackingError(f"mlflow ui could not be started. {self._last_words()}")
            with suppress(requests.RequestException):
                if requests.get(f"{self.address}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        raise TrackingError(f"mlflow ui did not answer within {_PATIENCE:.0f} s. {self._last_words()}")

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return "It said: " + " / ".join(lines[-3:]) if lines else "It said nothing."


def check_there(location: Location) -> None:
    """Raise TrackingError where a local store does not exist: ``mlflow ui`` would make an empty one."""
    if location.database is not None and not location.database.exists():
        raise TrackingError(
            f"There are no runs here: {shorten_path(location.database)} does not exist",
            "Run from the folder in which you trained, or name the store: --tracking-uri sqlite:////FOLDER/mlflow.db",
        )


def experiment_page(address: str, experiment_id: str | None) -> str:
    """The runs of an experiment in the view for trained models; the list of experiments for None."""
    place = "" if experiment_id is None else f"/{experiment_id}/runs"
    return f"{address}/#/experiments{place}?workflowType=machine_learning"


def _settings() -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in LIGHT.items()}


def _browsable(host: str) -> str:
    """An address that a browser on this machine can open."""
    shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{shown}]" if ":" in shown else shown


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
