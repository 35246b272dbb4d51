"""ImageNet weights over HTTP, from a server in this process; the files are torchvision's own, with random weights."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision

from retino_cli.errors import UsageError, WeightsError
from retino_cli.models import download, weights
from retino_cli.models.factory import build_model
from retino_cli.models.weights import load_imagenet


@dataclass
class Server:
    """What the server does with a request, and the requests that it saw."""

    url: str = ""
    content: bytes = b""
    stop_after: int | None = None  # bytes of the body, then the connection is closed
    stall: threading.Event | None = None  # hold the answer until it is set
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def weights_bytes() -> bytes:
    torch.manual_seed(2)
    buffer = io.BytesIO()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def server(weights_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server(content=weights_bytes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            if state.stall is not None:
                state.stall.wait(20)
            if not state.content:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            self.wfile.write(state.content[: state.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            """Keep stderr clean."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/models/"
    name = f"resnet18-{hashlib.sha256(weights_bytes).hexdigest()[:8]}.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(weights, "BASE_URL", state.url)
    monkeypatch.setitem(weights.IMAGENET_FILES, "resnet18", name)
    yield state
    if state.stall is not None:
        state.stall.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def cached(server: Server, tmp_path: Path) -> Path:
    """Where the file belongs. Not there yet."""
    return tmp_path / "hub" / "checkpoints" / weights.IMAGENET_FILES["resnet18"]


def failure(cached: Path) -> WeightsError:
    model = build_model("resnet18", stem="3x3")
    before = model.layer1[0].conv1.weight.clone()
    with pytest.raises(WeightsError) as caught:
        load_imagenet(model, "resnet18")
    assert torch.equal(model.layer1[0].conv1.weight, before), "the model must be left alone"
    assert "--weights FILE" in caught.value.hint
    return caught.value


def assert_says_where(error: WeightsError, cached: Path) -> None:
    assert cached.name in error.hint
    assert str(cached.parent) in error.hint
    assert list(cached.parent.iterdir()) == [], "nothing may be left behind"


def test_downloads_once_and_loads(server: Server, cached: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cached.parent.mkdir(parents=True)
    stale = cached.with_name(f"{cached.name}.0123.partial")
    stale.write_bytes(b"left by a killed download")
    os.utime(stale, (0, 0))
    model = build_model("resnet18")
    report = load_imagenet(model, "resnet18")
    assert report.source == f"ImageNet ({cached.name})"
    assert report.sha256 == hashlib.sha256(server.content).hexdigest()
    assert report.skipped == ("fc.weight", "fc.bias")
    expected = torch.load(io.BytesIO(server.content), weights_only=True)
    assert torch.equal(model.layer4[1].conv2.weight, expected["layer4.1.conv2.weight"])
    assert list(cached.parent.iterdir()) == [cached]
    again = load_imagenet(build_model("resnet18"), "resnet18")
    assert again == report
    assert server.requests == [f"/models/{cached.name}"], "the second time it comes from the cache"
    assert capfd.readouterr() == ("", ""), "no bar where stderr is no terminal"


def test_bar_is_drawn_on_a_terminal(server: Server, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    load_imagenet(build_model("resnet18"), "resnet18", progress=False)
    assert terminal.getvalue() == ""
    cached.unlink()
    load_imagenet(build_model("resnet18"), "resnet18")
    assert f"Downloading {cached.name}" in terminal.getvalue()


def test_damaged_file_in_the_cache_is_named(server: Server, cached: Path) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_bytes(server.content[:-1])
    error = failure(cached)
    assert error.message.startswith(f"{cached} is damaged: its SHA-256 begins with ")
    assert "Delete it" in error.hint
    assert server.requests == []


def test_wrong_content_is_refused(server: Server, cached: Path) -> None:
    server.content = server.content[:-1] + b"x"
    error = failure(cached)
    assert "damaged, its SHA-256 begins with" in error.message
    assert_says_where(error, cached)


def test_broken_transfer(server: Server, cached: Path) -> None:
    server.stop_after = 1_000_000
    error = failure(cached)
    assert f"broke after 1,000,000 of {len(server.content):,} bytes" in error.message
    assert_says_where(error, cached)


def test_not_found(server: Server, cached: Path) -> None:
    server.content = b""
    error = failure(cached)
    assert "404" in error.message
    assert server.url + cached.name in error.message
    assert_says_where(error, cached)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/models/", "http://no-such-host.invalid/models/"])
def test_no_network(url: str, server: Server, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "BASE_URL", url)
    error = failure(cached)
    assert error.message.startswith(f"Cannot download {url}{cached.name}: ")
    assert_says_where(error, cached)


def test_server_that_does_not_answer(server: Server, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stall = threading.Event()
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    start = time.monotonic()
    error = failure(cached)
    assert time.monotonic() - start < 5
    assert "no answer within 0.3 s" in error.message
    assert_says_where(error, cached)


def test_cache_folder_that_cannot_be_made(server: Server, cached: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file where the folder belongs")
    error = failure(cached)
    assert str(cached) in error.message
    assert "TORCH_HOME" in error.hint


def test_unknown_architecture() -> None:
    with pytest.raises(UsageError, match="resnet18, resnet34, resnet50"):
        load_imagenet(build_model("resnet18"), "vgg16")
