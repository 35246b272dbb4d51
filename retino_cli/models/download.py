"""Fetch a file whose name carries its hash (``resnet18-f37072fd.pth``), or find it in torch's own cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import queue
import re
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import torch

from retino_cli.errors import WeightsError
from retino_cli.whole import remove_stale

CONNECT_SECONDS: float = 15.0
"""Longest time until the server answers, all its addresses and the name look-up together."""
READ_SECONDS: float = 15.0
"""Longest silence in the middle of a transfer."""

_CHUNK: Final = 1 << 18
_STALE_SECONDS: Final = 3600.0


def cache_folder() -> Path:
    """Where torchvision keeps its weights: ``$TORCH_HOME/hub/checkpoints``, by default below ``~/.cache/torch``."""
    return Path(torch.hub.get_dir()).expanduser() / "checkpoints"


def fetch(url: str, *, progress: bool = True) -> Path:
    """The file that ``url`` names, from the cache folder or else downloaded into it; its SHA-256 is checked either way.

    ``progress`` draws a bar on stderr where that is a terminal. The file appears under its name only once it is whole
    and right. Raises WeightsError: no network or no answer (within about CONNECT_SECONDS), refused, cut off, wrong
    hash, no room; and for a file in the cache that is not what its name says.
    """
    name = url.rsplit("/", 1)[-1]
    path = cache_folder() / name
    if path.is_file():
        if difference := _broken_promise(hash_file(path), name):
            raise WeightsError(
                f"{path} is damaged: {difference}.",
                "Delete it, so that it is downloaded again, or pass another file with --weights FILE.",
            )
        return path
    partial = path.with_name(f"{name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path, "{}.*.partial", seconds=_STALE_SECONDS)
        with partial.open("wb") as file:
            _transfer(url, file, progress=progress)
        if difference := _broken_promise(hash_file(partial), name):
            raise _NetworkError(f"what arrived is damaged, {difference}")
        os.replace(partial, path)
    except _NetworkError as error:
        raise WeightsError(f"Cannot download {url}: {error}.", _instead(path)) from error
    except OSError as error:
        raise WeightsError(
            f"Cannot write {path}: {error.strerror or error}.",
            f"Make room or grant access there, name another cache folder in TORCH_HOME, or {_instead(path)}",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def hash_file(path: Path) -> str:
    """SHA-256 of the file, in hex. Raises WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error


def _broken_promise(digest: str, name: str) -> str:
    """ "" where the digest begins as the file's name says (``-f37072fd.``); else the difference, for a message."""
    match = re.search(r"-([0-9a-f]{8,64})\.", name)
    if match is None or digest.startswith(match[1]):
        return ""
    return f"its SHA-256 begins with {digest[: len(match[1])]}, not with {match[1]} as its name says"


class _NetworkError(Exception):
    """The transfer failed; the message says how. Kept apart from OSError, which here means the disk."""


def _transfer(url: str, file: IO[bytes], *, progress: bool) -> None:
    with contextlib.closing(_open(url)) as response:
        expected = int(response.headers.get("Content-Length") or 0)
        received = 0
        with _progress_bar(url.rsplit("/", 1)[-1], expected, shown=progress) as advance:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _NetworkError(f"the connection broke after {received:,} bytes ({error})") from error
                if not chunk:
                    break
                file.write(chunk)
                received += len(chunk)
                advance(len(chunk))
    if expected and received != expected:
        raise _NetworkError(f"the connection broke after {received:,} of {expected:,} bytes")


def _open(url: str) -> Any:
    """The server's answer, within CONNECT_SECONDS.

    In a thread, because a time-out counts for each of a server's addresses and not at all for the name look-up: behind
    a firewall that drops packets it would add up to minutes.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    given_up = threading.Event()

    def connect() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "retino"})
        try:
            response = urllib.request.urlopen(request, timeout=READ_SECONDS)
        except Exception as error:  # whatever it is, the waiting thread reports it
            answers.put(error)
            return
        if given_up.is_set():
            response.close()
        else:
            answers.put(response)

    threading.Thread(target=connect, name="retino-download", daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        given_up.set()
        raise _NetworkError(f"no answer within {CONNECT_SECONDS:g} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        raise _NetworkError(f"the server answers {answer.code} {answer.reason}") from answer
    if isinstance(answer, urllib.error.URLError):
        raise _NetworkError(str(answer.reason)) from answer
    if isinstance(answer, Exception):
        raise _NetworkError(str(answer) or type(answer).__name__) from answer
    return answer


@contextlib.contextmanager
def _progress_bar(name: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields the function to call with each number of bytes that arrived."""
    if not (shown and sys.stderr.isatty()):
        yield lambda received: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Downloading {name}", total=total or None)
        yield lambda received: bar.advance(task, received)


def _instead(path: Path) -> str:
    return f"Get {path.name} another way and put it into {path.parent}, or pass its path with --weights FILE."
