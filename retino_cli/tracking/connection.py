"""The connection to the MLflow store: opened under a lock, quick to say that nobody answers, patient with locks.

Every call to MLflow goes through :meth:`Connection.call`, which

* gives up within seconds where MLflow would wait four minutes (``MLFLOW_HTTP_REQUEST_*`` of the user win),
* tries again while SQLite is locked by another writer,
* keeps MLflow's log lines about what is reported here anyway off the terminal,
* turns what MLflow raises into :class:`~retino_cli.errors.TrackingError`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from retino_cli.errors import TrackingError
from retino_cli.tracking.failures import BUSY_PATIENCE, knock, translate_error
from retino_cli.tracking.location import Location, is_decoded_spelling, shorten_path

T = TypeVar("T")

_LOCK_PATIENCE = 120.0
"""Seconds to wait for another process that creates the same database (takes 1 to 20 s)."""


@dataclass(frozen=True)
class Limits:
    """How long one request may wait for the network (seconds), and how often it is repeated."""

    timeout: int
    retries: int


LOGGING = Limits(timeout=8, retries=1)
READING = Limits(timeout=30, retries=2)
UPLOADING = Limits(timeout=300, retries=1)


class Connection:
    """An open MLflow store. ``client`` is MLflow's; ``location`` says where it lies."""

    def __init__(self, location: Location) -> None:
        """Open the store, creating it if it is a local one that does not exist.

        Raises TrackingError if it does not answer within about five seconds, or is not an MLflow store of this version.
        """
        self.location = location
        self.probe()
        if location.database is not None:
            _check_sqlite_file(location.database)
        with _first_open_lock(location):
            self.client: Any = self.call(_open_client, location)

    def probe(self, *, patience: float = 5.0) -> None:
        """Knock at a server: any HTTP answer but 502, 503, 504 will do. Nothing to do for a local store.

        Raises Unavailable after ``patience`` seconds.
        """
        knock(self.location, patience)

    def call(self, function: Callable[..., T], *args: Any, limits: Limits = READING, **kwargs: Any) -> T:
        """``function(*args, **kwargs)``, one of the client's methods, under the rules at the top of this module."""
        deadline = time.monotonic() + BUSY_PATIENCE
        pause = 0.05
        while True:
            try:
                with quiet(), environment(limits):
                    return function(*args, **kwargs)
            except (MlflowException, OSError) as error:
                if "database is locked" in str(error) and time.monotonic() < deadline:
                    # Random, so that several writers do not meet again.
                    time.sleep(pause * (0.5 + random.random()))
                    pause = min(2 * pause, 1.0)
                    continue
                raise translate_error(error, self.location) from error


def _open_client(location: Location) -> Any:
    stray = None
    if is_decoded_spelling(location):
        literal = Path(location.uri.removeprefix("sqlite:///")).parent
        stray = next((path for path in [*reversed(literal.parents), literal] if not path.exists()), None)
    with warnings.catch_warnings():
        # MLflow uses parts of SQLAlchemy and others that are deprecated; nothing that a user here could change.
        warnings.simplefilter("ignore", DeprecationWarning)
        client = MlflowClient(location.uri, registry_uri=location.uri)
    if stray is not None:
        with contextlib.suppress(OSError):
            os.removedirs(Path(location.uri.removeprefix("sqlite:///")).parent)
    return client


@contextlib.contextmanager
def _first_open_lock(location: Location) -> Iterator[None]:
    """Two processes that create the same database at once crash each other: one at a time."""
    if location.database is None or location.artifact_root is None:
        yield
        return
    path = location.artifact_root / ".open.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=_LOCK_PATIENCE)
        lock.acquire()
    except Timeout as error:
        raise TrackingError(
            f"{shorten_path(location.database)} is being opened by another process for {_LOCK_PATIENCE:.0f} s",
            f"If none is running any more, delete {shorten_path(path)}",
        ) from error
    except OSError:
        yield  # a folder that may only be read: nothing is created there, so there is nothing to lock
        return
    try:
        yield
    finally:
        lock.release()


def _check_sqlite_file(path: Path) -> None:
    """Say at once what is wrong with a file that MLflow would try to open for two minutes."""
    name = shorten_path(path)
    if not path.exists():
        if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            raise TrackingError(
                f"{name} cannot be created: no permission to write in {path.parent}",
                "Run from a folder of your own, or give --tracking-uri sqlite:////FOLDER/mlflow.db",
            )
        return
    if not path.is_file():
        raise TrackingError(f"{name} is not a file", "Give another one: --tracking-uri sqlite:///FILE.db")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_PATIENCE)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise TrackingError(
            f"{name} cannot be read as an SQLite database: {error}",
            "Move it away, or give another one: --tracking-uri sqlite:///FILE.db",
        ) from error


# While a call runs, these loggers only say what the call itself reports, or that tables are created.
_NOISY_LOGGERS = ("mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store", "urllib3.connectionpool")
_hushed: ContextVar[bool] = ContextVar("retino_mlflow_hushed", default=False)


class _Hush(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _hushed.get()


for _name in _NOISY_LOGGERS:
    logging.getLogger(_name).addFilter(_Hush())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)


@contextlib.contextmanager
def environment(limits: Limits) -> Iterator[None]:
    """MLflow takes these only from the environment, at each request; what the user has set stays."""
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(limits.timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(limits.retries),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for data
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
