"""A real MLflow server that is cut off, is silent, is killed and comes back."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from retino_cli.errors import RunNotFoundError
from retino_cli.tracking import open_store

pytestmark = pytest.mark.slow


class Server:
    """``mlflow server`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.start()

    def start(self) -> None:
        light = {
            "MLFLOW_WORKERS": "1",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--port", str(self.port)],
                cwd=self.folder,
                env={**os.environ, **light},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{self.port}/health", timeout=5).ok:
                    return
            time.sleep(0.1)
        pytest.fail((self.folder / "server.log").read_text())

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


class Line:
    """The line to the server: it can be cut (connections are refused) or go dead (taken, but nothing comes back)."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.dead = False
        self.ends: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._drop()

    def mend(self) -> None:
        self.dead = False
        self._drop()
        if self.listener.fileno() == -1:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def go_dead(self) -> None:
        self.dead = True

    def _drop(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ends = []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self.ends += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        near.shutdown(socket.SHUT_RDWR)
                        far.shutdown(socket.SHUT_RDWR)
                        return
                    if not self.dead:
                        (far if source is near else near).sendall(data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.fixture
def line(server: Server, empty_project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setenv("NO_PROXY", "*")
    line = Line(server.port)
    yield line
    if line.listener.fileno() != -1:
        line.cut()


def test_a_run_on_a_server(line: Line, capfd: pytest.CaptureFixture[str]) -> None:
    store = open_store(line.uri)
    assert (store.where(), store.ui_command()) == (line.uri, line.uri)
    with store.start_run(experiment="retino", name="remote", kind="train", params={"a": 1}, tags={}) as run:
        for epoch in (1, 2):
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
            run.write_folder("checkpoint/last", lambda folder: (folder / "weights").write_text("w") and None)
        run.log_text("{}", "test/metrics.json")
        run.log_metrics({"test/qwk": 0.5})
    record = open_store(line.uri).find("remote")
    assert (record.status, record.metrics) == ("FINISHED", {"train/loss": 0.5, "test/qwk": 0.5})
    assert [row["train/loss"] for row in store.history(run.run_id)] == [1.0, 0.5]
    assert store.artifacts(run.run_id) == ["checkpoint", "test"]
    for _ in range(2):  # the second time over the first copy
        assert store.download(run.run_id, "test/metrics.json").read_text() == "{}"
        assert (store.download(run.run_id, "checkpoint/last") / "weights").read_text() == "w"
    with pytest.raises(RunNotFoundError, match="has no artifact 'checkpoint/best'"):
        store.download(run.run_id, "checkpoint/best")
    with pytest.raises(RunNotFoundError, match="has no artifact 'none'"):
        store.download(run.run_id, "none")
    assert capfd.readouterr() == ("", "")  # MLflow prints links and progress bars, and standard output is for data


def test_a_line_that_is_cut_in_training_and_mended(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retino_cli.tracking.runs.FIRST_PAUSE", 0.0)
    store = open_store(line.uri)
    with store.start_run(experiment="retino", name="cut", kind="train", params={}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        line.cut()
        start = time.monotonic()
        for epoch in (2, 3, 4):
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
            run.log_text(f"epoch {epoch}", "history.csv")
        assert time.monotonic() - start < 6
        line.mend()
        run.log_epoch(5, {"train/loss": 0.2})
        assert [row["epoch"] for row in store.history(run.run_id)] == [1, 2, 3, 4, 5]
        assert store.download(run.run_id, "history.csv").read_text() == "epoch 4"
    assert store.find("cut").status == "FINISHED"


def test_a_server_that_falls_silent_costs_one_wait(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(line.uri)
    run = store.start_run(experiment="retino", name="silent", kind="train", params={}, tags={})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own setting wins over the eight seconds
    line.go_dead()
    start = time.monotonic()
    for epoch in range(1, 20):
        run.log_epoch(epoch, {"train/loss": 1 / epoch})
    assert time.monotonic() - start < 6
    line.mend()
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    run.finish()
    assert len(store.history(run.run_id)) == 19


@pytest.mark.usefixtures("line")
def test_a_server_that_is_killed_and_started_again(server: Server) -> None:
    uri = f"http://127.0.0.1:{server.port}"
    store = open_store(uri)
    with store.start_run(experiment="retino", name="killed", kind="train", params={}, tags={}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        server.kill()
        run.log_epoch(2, {"train/loss": 0.5})
        run.write_folder("checkpoint/best", lambda folder: (folder / "weights").write_text("w") and None)
        run.log_metrics({"test/qwk": 0.5})
    assert run._spool.folder.exists()
    server.start()
    after = open_store(uri)
    record = after.find("killed")
    assert (record.status, record.metrics) == ("FINISHED", {"train/loss": 0.5, "test/qwk": 0.5})
    assert [row["epoch"] for row in after.history(run.run_id)] == [1, 2]
    assert (after.download(run.run_id, "checkpoint/best") / "weights").read_text() == "w"
    assert not run._spool.folder.exists()
