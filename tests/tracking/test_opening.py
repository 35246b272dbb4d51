"""Opening a store: servers that do not answer, broken files, several processes at once."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from retino_cli.errors import TrackingError
from retino_cli.tracking import Store, open_store
from retino_cli.tracking.connection import Connection
from retino_cli.tracking.failures import Unavailable

OPEN_TOGETHER = """
import os, sys, warnings
from retino_cli.tracking import open_store
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import mlflow.store.tracking.sqlalchemy_store  # slow to import: once, before the processes part

def work(i):
    store = open_store()
    with store.start_run(experiment="retino", name=f"run-{i}", kind="train", params={"n": 1}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 0.5})

children = []
for i in range(4):
    child = os.fork()
    if child == 0:
        try:
            work(i)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_four_processes_that_open_a_new_store_at_once(empty_project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_TOGETHER], capture_output=True, text=True, timeout=120, check=False
    )
    # Neither MLflow's nor alembic's log lines, nor anything for `--json` to trip over.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    runs = open_store().latest(10)
    assert sorted(run.name for run in runs) == ["run-0", "run-1", "run-2", "run-3"]
    assert {(run.status, run.experiment) for run in runs} == {("FINISHED", "retino")}


class NotFound(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_closed_port_is_told_at_once(empty_project: Path) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer: connection refused") as caught:
        open_store(f"http://me:secret@127.0.0.1:{closed_port()}")
    assert time.monotonic() - start < 3
    assert "secret" not in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in caught.value.hint


def test_a_server_that_is_silent_is_told_within_seconds(empty_project: Path, silent_port: int) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer: (timed out|nothing within)"):
        open_store(f"http://127.0.0.1:{silent_port}")
    assert time.monotonic() - start < 7


def test_another_web_server_is_told(empty_project: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(TrackingError, match="answers, but not as an MLflow tracking server"):
            open_store(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_an_unknown_host_is_told(empty_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    start = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer: (unknown host|nothing within)"):
        open_store("http://no-such-host.invalid:5000")
    assert time.monotonic() - start < 7


def test_a_database_server_that_is_not_there_is_told(empty_project: Path) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer: connection refused"):
        open_store(f"postgresql://me:secret@127.0.0.1:{closed_port()}/runs")
    assert time.monotonic() - start < 3


def test_a_file_that_is_no_database(empty_project: Path) -> None:
    (empty_project / "mlflow.db").write_text("this is a text file, long enough to be looked at " * 50)
    with pytest.raises(TrackingError, match=r"\./mlflow\.db cannot be read as an SQLite database"):
        open_store()


def test_a_folder_in_the_place_of_the_database(empty_project: Path) -> None:
    (empty_project / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match="is not a file"):
        open_store()


def test_a_database_of_another_mlflow(project: Path) -> None:
    import sqlite3

    database = sqlite3.connect(project / "mlflow.db")
    database.execute("UPDATE alembic_version SET version_num = '97727af70f4d'")
    database.commit()
    database.close()
    with pytest.raises(TrackingError, match="another version of MLflow") as caught:
        open_store()
    assert "mlflow db upgrade sqlite:///" in caught.value.hint


@pytest.mark.parametrize("name", ["a b", "a#b%20c", "ünï?x"])
def test_runs_and_artifacts_lie_in_the_folder_whatever_its_name(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = project / name
    folder.mkdir()
    (project / "mlflow.db").rename(folder / "mlflow.db")
    before = sorted(project.iterdir())
    monkeypatch.chdir(folder)
    store = open_store()
    with store.start_run(experiment="über 100 %", name="r", kind="train", params={}, tags={}) as run:
        run.log_text("{}", "test/metrics.json")
    assert sorted(project.iterdir()) == before  # nothing beside it, in a folder with percent signs in its name
    path = store.download(run.run_id, "test/metrics.json")
    assert path.is_relative_to(folder / "mlruns")
    assert path.read_text() == "{}"
    assert store.artifacts(run.run_id, "test") == ["test/metrics.json"]  # MLflow finds it under the same URI


def test_a_locked_database_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    connection: Connection = store._connection
    attempts = []

    def locked_twice() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return "written"

    assert connection.call(locked_twice) == "written"
    assert len(attempts) == 3

    def locked() -> None:
        raise MlflowException("(sqlite3.OperationalError) database is locked")

    monkeypatch.setattr("retino_cli.tracking.connection.BUSY_PATIENCE", 0.2)
    with pytest.raises(Unavailable, match="stayed locked"):
        connection.call(locked)


def test_programming_errors_are_not_dressed_up(store: Store) -> None:
    with pytest.raises(TypeError):
        store._connection.call(len)  # type: ignore[arg-type]  # the error that is provoked
