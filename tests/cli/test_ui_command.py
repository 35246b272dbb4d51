"""``retino ui``: which store, which port, what is opened, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from commands import Retino, Spawn

from retino_cli.errors import TrackingError, UsageError
from retino_cli.tracking import interface as pages
from retino_cli.tracking import open_store
from retino_cli.tracking.interface import Interface, choose_port
from retino_cli.tracking.location import locate

SERVER = """
import sys, os, http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["MLFLOW_BACKEND_STORE_URI"].encode())
    def log_message(self, *_): pass
if not os.fork():
    __import__("time").sleep(600)  # a worker that does not end by itself
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Page).serve_forever()
"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that a browser was asked to open."""
    pages_opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda page: pages_opened.append(page) or True)
    return pages_opened


@pytest.fixture
def fake_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small web server with a worker in place of MLflow."""
    real = subprocess.Popen

    def start(command: list[str], **named: object) -> subprocess.Popen[bytes]:
        if command[1:4] != ["-m", "mlflow", "ui"]:
            return real(command, **named)  # type: ignore[call-overload,no-any-return] # passed on
        host, port = command[command.index("--host") + 1], command[command.index("--port") + 1]
        return real([sys.executable, "-c", SERVER, host, port], **named)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(pages.subprocess, "Popen", start)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def interrupt(self: Interface) -> None:
    """Ctrl-C, once the page answers."""
    text = requests.get(self.address, timeout=5).text
    assert text == self._location.uri
    raise KeyboardInterrupt


def test_the_page_of_the_newest_experiment_is_opened_and_nothing_is_left(
    workplace: Path, retino: Retino, opened: list[str], fake_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store().start_run(experiment="mine", name="one", kind="train", params={}, tags={}).finish()
    key = open_store().experiment_id("mine")
    monkeypatch.setattr(Interface, "wait", interrupt)
    port = choose_port("127.0.0.1", None)
    ended = retino("ui", "--port", port)
    page = f"http://127.0.0.1:{port}/#/experiments/{key}/runs?workflowType=machine_learning"
    assert (ended.code, ended.out) == (0, page + "\n")
    assert opened == [page]
    by_hand = f"MLFLOW_WORKERS=1 MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --port {port}"
    for text in (by_hand, "./mlflow.db", "Ctrl-C", "Ended."):
        assert text in ended.err
    assert choose_port("127.0.0.1", port) == port  # free again

    opened.clear()
    assert retino("ui", "--no-browser").out.startswith("http://127.0.0.1:")
    assert opened == []


def test_without_a_browser_the_address_is_said(
    workplace: Path, retino: Retino, opened: list[str], fake_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interface, "wait", interrupt)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")
    ended = retino("ui", "--host", "0.0.0.0")
    assert opened == []
    assert ended.out.startswith("http://127.0.0.1:")
    assert "No browser" in ended.err
    assert "ssh -L" in ended.err
    assert "can change and delete the runs" in ended.err


def test_workers_end_with_the_server(workplace: Path, fake_server: None) -> None:
    with Interface(locate(), host="127.0.0.1", port=choose_port("127.0.0.1", None)) as interface:
        assert interface._process is not None
        group = interface._process.pid
        assert os.getpgid(group) == group
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process of the group is left")


def test_a_port_in_use(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"--port {taken} cannot be taken"):
        choose_port("127.0.0.1", taken)
    monkeypatch.setattr(pages, "FIRST_PORT", taken)
    assert taken < choose_port("127.0.0.1", None) < taken + 50
    with pytest.raises(UsageError, match="No port"):
        choose_port("host.invalid", None)


def test_a_server_that_ends_says_why(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    command = [sys.executable, "-c", "import sys; sys.exit('no such revision')"]
    monkeypatch.setattr(pages.subprocess, "Popen", lambda _command, **named: real(command, **named))
    with pytest.raises(TrackingError, match="could not be started. It said: no such revision"):
        Interface(locate(), host="127.0.0.1", port=1).__enter__()


def test_no_store_is_made_by_looking(tmp_path: Path, workplace: Path, retino: Retino) -> None:
    Path("mlflow.db").unlink()
    ended = retino("ui", "--no-browser")
    assert ended.code == 1
    assert "./mlflow.db does not exist" in ended.err
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_mlflow_itself_starts_and_ends(workplace: Path, spawn: Spawn, retino: Retino, opened: list[str]) -> None:
    store = open_store()
    store.start_run(experiment="mine", name="one", kind="train", params={}, tags={}).finish()
    process = spawn("ui", "--no-browser")
    assert process.stdout is not None
    page = process.stdout.readline().strip()
    address = page.partition("/#")[0]
    answer = requests.get(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=mine", timeout=30).json()
    key = answer["experiment"]["experiment_id"]
    assert page == f"{address}/#/experiments/{key}/runs?workflowType=machine_learning"

    # To another process it is a tracking server on the network: nothing is started.
    ended = retino("ui", "--tracking-uri", address)
    assert (ended.code, ended.out) == (0, page + "\n")
    assert opened == [page]
    assert "nothing is started" in ended.err

    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}/health", timeout=5)
