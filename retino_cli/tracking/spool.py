"""What could not be sent to the tracking server yet, kept on disk.

One folder a run, ``<cache>/runs/<run id>/``::

    run.json         run id, name, tracking URI (without password)
    queue.jsonl      one entry a line, in the order in which they were logged
    sent             how many of them have arrived
    artifacts/...    files and folders as they shall appear in the run
    lock             held by the process that the run belongs to

An entry may be sent twice, after a crash between its arrival and the note of it. That does no harm: MLflow drops a
metric point that it has, and a tag, a status or a file replaces itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from retino_cli.cache import cache_root

Entry = dict[str, Any]


class Spool:
    """The folder of one run. Made on disk only when something has to be kept."""

    def __init__(self, run_id: str, *, name: str, uri: str) -> None:
        self.run_id = run_id
        self.name = name
        self.uri = uri
        self.folder = cache_root() / "runs" / run_id
        self._lock = FileLock(self.folder / "lock")
        self._entries: list[Entry] = []
        self._sent = 0
        if self.folder.is_dir():
            self._read()

    @classmethod
    def find_all(cls, uri: str) -> list[Spool]:
        """The spools of runs in the store ``uri`` that hold something, oldest first."""
        spools = []
        for file in sorted(cache_root().glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime):
            try:
                about = json.loads(file.read_text(encoding="utf-8"))
                if about["uri"] == uri:
                    spools.append(cls(about["run_id"], name=about["name"], uri=uri))
            except (OSError, ValueError, KeyError):
                continue  # not ours, or just being removed by another process
        return spools

    @property
    def pending(self) -> list[Entry]:
        """Entries that have not arrived, oldest first."""
        return self._entries[self._sent :]

    @property
    def last_epoch(self) -> int:
        """The last epoch among the entries; 0 if there is none."""
        return max((entry.get("epoch", 0) for entry in self._entries), default=0)

    def append(self, entry: Entry) -> None:
        """Keep ``entry`` at the end of the queue. Raises OSError if the disk does not take it."""
        if entry["type"] == "artifact" and entry in self.pending:
            return  # its place in the queue stays; its content has been replaced
        self.acquire()
        with (self.folder / "queue.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries.append(entry)

    def mark_sent(self, entry: Entry) -> None:
        """Note that the oldest pending entry has arrived."""
        self._sent += 1
        partial = self.folder / "sent.tmp"
        partial.write_text(str(self._sent))
        partial.replace(self.folder / "sent")
        if entry["type"] == "artifact":
            self.drop_artifact(entry["path"])

    def stage(self, artifact: str) -> Path:
        """Where the artifact ``artifact`` ("test/metrics.json", "checkpoint/last") waits to be sent."""
        self.acquire()
        path = self.folder / "artifacts" / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def drop_artifact(self, artifact: str) -> None:
        path = self.folder / "artifacts" / artifact
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def acquire(self, *, patience: float = 60.0) -> None:
        """Make the folder if need be, and hold it against other processes until :meth:`close`.

        Raises OSError if it cannot be written, or if another process holds it for longer than ``patience`` seconds.
        """
        if self._lock.is_locked:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(timeout=patience)
        self._read()  # another process may have sent some of it, or written on, in the meantime
        about = {"run_id": self.run_id, "name": self.name, "uri": self.uri}
        partial = self.folder / "run.json.tmp"
        partial.write_text(json.dumps(about), encoding="utf-8")
        partial.replace(self.folder / "run.json")

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Whether this process could take the spool, for the length of the block; False where its run goes on."""
        try:
            self.acquire(patience=0)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folder; remove it if nothing is pending."""
        if not self._lock.is_locked:
            return
        if not self.pending:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _read(self) -> None:
        queue = self.folder / "queue.jsonl"
        lines = queue.read_bytes().split(b"\n") if queue.exists() else []
        self._entries = [json.loads(line) for line in lines[:-1]]
        if lines and lines[-1]:
            # The process was killed while it wrote this line: what follows must not be glued to it.
            partial = queue.with_suffix(".tmp")
            partial.write_bytes(b"\n".join([*lines[:-1], b""]))
            partial.replace(queue)
        with contextlib.suppress(OSError, ValueError):
            self._sent = int((self.folder / "sent").read_text())
