"""A run that is being written.

Nothing that goes wrong between here and the store costs an epoch: what does not arrive is kept on disk (:mod:`spool`),
tried again at later epochs after growing pauses, once more at the end, and otherwise by the next command that opens the
same store.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from retino_cli.errors import Terminated, TrackingError
from retino_cli.tracking.artifacts import copy_file, write_bytes
from retino_cli.tracking.connection import Connection
from retino_cli.tracking.datasets import pack_inputs
from retino_cli.tracking.delivery import send_spool, transmit
from retino_cli.tracking.location import path_of_uri
from retino_cli.tracking.models import pack_model
from retino_cli.tracking.names import check_artifact, check_name, select_defined
from retino_cli.tracking.records import (
    DESCRIPTION_TAG,
    EPOCH_METRICS_TAG,
    ERROR_TAG,
    HEARTBEAT_TAG,
    cut_blocks,
    cut_text,
    format_now,
)
from retino_cli.tracking.spool import Entry, Spool

if TYPE_CHECKING:
    from retino_cli.data.summary import SplitSummary

_logger = logging.getLogger("retino")

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between two attempts to reach a store that does not answer: doubled from the first to the longest."""
QUICK_KNOCK = 2.0
"""Seconds that such an attempt may cost an epoch."""

_MAX_PARAM = 6000
_MAX_TAG = 5000


class ActiveRun:
    """A run that is being written; a context manager that ends it.

    FINISHED at the end of the block; FAILED if an exception leaves it, KILLED if that is KeyboardInterrupt or
    Terminated, with the reason as tag ``retino.error``. MLflow's global "active run" is not touched.
    """

    def __init__(
        self,
        connection: Connection,
        run: Any,
        *,
        last_epoch: int = 0,
        epoch_metrics: frozenset[str] = frozenset(),
        final_steps: bool = False,
    ) -> None:
        self.run_id: str = run.info.run_id
        self.name: str = run.info.run_name
        self._connection = connection
        self._folder = path_of_uri(run.info.artifact_uri)
        self._spool = Spool(self.run_id, name=self.name, uri=connection.location.display)
        self._last_epoch = max(last_epoch, self._spool.last_epoch)
        self._epoch_metrics = epoch_metrics
        self._final_steps = final_steps
        self._lock = threading.RLock()
        self._pause = FIRST_PAUSE
        self._next_attempt = 0.0
        self._clock = 0
        self._final: dict[str, list[Any]] = {}
        self._warned = False
        self._ended = False

    @property
    def last_epoch(self) -> int:
        """The last epoch that was logged; 0 before the first."""
        return self._last_epoch

    def log_epoch(self, epoch: int, metrics: Mapping[str, object]) -> None:
        """Log the values after ``epoch`` completed epochs (1, 2, ...), in one request, at step ``epoch``.

        Values that are no finite numbers are left out. An epoch that was logged before (a resumed run repeats it) is
        passed over. Raises ValueError for an epoch below 1 and for a name that MLflow refuses.
        """
        if epoch < 1:
            raise ValueError(f"epoch {epoch}: epochs are counted from 1, when the first is complete")
        values = select_defined(metrics)
        with self._lock:
            if epoch <= self._last_epoch:
                return
            tags = {HEARTBEAT_TAG: format_now()}
            if not self._epoch_metrics.issuperset(values):
                self._epoch_metrics |= values.keys()
                tags[EPOCH_METRICS_TAG] = ",".join(sorted(self._epoch_metrics))
            self._send({**self._batch(values, step=epoch, tags=tags), "epoch": epoch})
            self._last_epoch = epoch

    def log_metrics(
        self, metrics: Mapping[str, object], *, data: SplitSummary | None = None, model_id: str | None = None
    ) -> None:
        """Log final values, one for each name; ``data`` are the images that they were measured on, ``model_id`` names
        the logged model that they are metrics of, too.

        They stand at step 0, which MLflow draws as a bar; at the step of the last epoch where the epochs have logged
        one of these names, so that they are the run's latest. Undefined values are left out. Raises ValueError for a
        name that MLflow refuses.
        """
        values = select_defined(metrics)
        if values:
            late = self._final_steps or not self._epoch_metrics.isdisjoint(values)
            entry = self._batch(values, step=self._last_epoch if late else 0, tags={})
            of = [data.name, data.fingerprint] if data is not None else [None, None]
            self._final |= {point[0]: [*point, *of] for point in entry["metrics"]}
            self._send(entry | {"of": [model_id, *of]})

    def log_inputs(self, inputs: Iterable[tuple[SplitSummary, str]], *, models: Iterable[str] = ()) -> None:
        """Log data sets, each with what it is for ("training", "validation", "testing"), and ids of logged models."""
        self._send(pack_inputs(inputs, models))

    def log_model(
        self, checkpoint: str, *, epoch: int, params: Mapping[str, object], tags: Mapping[str, object]
    ) -> None:
        """Make the artifact folder ``checkpoint``, saved after ``epoch``, a logged model of MLflow's, whose metrics are
        the final values that were logged before."""
        self._send(
            pack_model(self.name, checkpoint, epoch=epoch, params=params, tags=tags, metrics=self._final.values())
        )

    def describe(self, markdown: str) -> None:
        """Set the description that MLflow shows above the run; in whole paragraphs as far as a tag has room."""
        self.set_tags({DESCRIPTION_TAG: cut_blocks(markdown, _MAX_TAG)})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters, once; cut after 6000 characters. Raises ValueError for a name that MLflow refuses."""
        for name in params:
            check_name(name)
        texts = {name: cut_text(str(value), _MAX_PARAM) for name, value in params.items()}
        self._send({"type": "batch", "metrics": [], "tags": {}, "params": texts})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags (text; cut after 5000 characters), replacing those of the same name."""
        if tags:
            texts = {name: cut_text(str(value), _MAX_TAG) for name, value in tags.items()}
            self._send(self._batch({}, step=0, tags=texts))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Copy the file ``path`` into the run, below ``folder``. Raises TrackingError if the disk does not take it."""
        self._write_file(str(PurePosixPath(folder) / path.name), lambda target: copy_file(path, target))

    def log_text(self, text: str, artifact: str) -> None:
        """Write ``text`` (UTF-8) as the artifact ``artifact``, e.g. "test/metrics.json"."""
        self._write_file(artifact, lambda target: write_bytes(text.encode(), target))

    def write_folder(self, artifact: str, write: Callable[[Path], None]) -> None:
        """Let ``write(folder)`` fill the artifact folder ``artifact``, e.g. "checkpoint/last".

        In a local store ``folder`` is its final place, with what an earlier call left there: a big file is written
        once, and a writer that replaces the folder's content in one step keeps it whole at every moment. Otherwise the
        folder is written in the cache and uploaded. Exceptions of ``write`` are passed on.
        """
        check_artifact(artifact)
        if self._folder is not None:
            folder = self._folder / artifact
            folder.mkdir(parents=True, exist_ok=True)
            write(folder)
            return
        with self._lock:
            folder = self._stage(artifact)
            folder.mkdir(exist_ok=True)
            write(folder)
            self._send({"type": "artifact", "path": artifact})

    def finish(self, status: str = "FINISHED", error: str = "") -> None:
        """End the run as FINISHED, FAILED or KILLED, and send what is still waiting; a second call does nothing.

        What cannot be sent even now is kept: a warning says where.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._next_attempt = 0.0
            tags = {ERROR_TAG: cut_text(error, _MAX_TAG)} if error else {}
            self._send({"type": "finish", "status": status, "time": _now_ms(), "tags": tags})
            if self._spool.pending:
                _logger.warning(
                    "Run %s (%s) could not be sent to %s in full. It is kept in %s; "
                    "the next retino command that uses this store sends it.",
                    self.name, self.run_id[:8], self._connection.location.display, self._spool.folder,
                )  # fmt: skip
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
            return
        try:
            if isinstance(error, KeyboardInterrupt):
                self.finish("KILLED", "stopped by SIGTERM" if isinstance(error, Terminated) else "stopped by Ctrl-C")
            else:
                self.finish("FAILED", f"{type(error).__name__}: {error}")
        except (TrackingError, OSError) as second:
            # The first exception is what the user must see.
            _logger.warning("Run %s could not be ended in MLflow: %s", self.name, second)

    # -- on the way to the store ---------------------------------------------------------------------------------------

    def _write_file(self, artifact: str, write: Callable[[Path], None]) -> None:
        check_artifact(artifact)
        with self._lock:
            if self._folder is None:
                write(self._stage(artifact))
                self._send({"type": "artifact", "path": artifact})
                return
            target = self._folder / artifact
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write(target)
            except OSError as error:
                raise TrackingError(f"{target} cannot be written: {error.strerror or error}") from error

    def _stage(self, artifact: str) -> Path:
        try:
            return self._spool.stage(artifact)
        except OSError as error:
            raise TrackingError(
                f"{self._spool.folder} cannot be written: {error}", "Set RETINO_CACHE to a folder with room"
            ) from error

    def _send(self, entry: Entry) -> None:
        with self._lock:
            if not self._spool.pending:
                try:
                    transmit(self._connection, self._spool, entry)
                except TrackingError as error:
                    self._keep(entry)
                    self._put_off(error)
                else:
                    if entry["type"] == "artifact":
                        self._spool.drop_artifact(entry["path"])
                return
            self._keep(entry)
            if time.monotonic() >= self._next_attempt:
                self._send_pending()

    def _batch(self, values: Mapping[str, float], *, step: int, tags: Mapping[str, str]) -> Entry:
        # Strictly growing, so that an epoch's value and a final one of the same name keep their order.
        self._clock = max(_now_ms(), self._clock + 1)
        points = [[name, value, self._clock, step] for name, value in values.items()]
        return {"type": "batch", "metrics": points, "tags": dict(tags)}

    def _keep(self, entry: Entry) -> None:
        try:
            self._spool.append(entry)
        except OSError as error:
            raise TrackingError(
                f"The store does not answer, and values cannot be kept in {self._spool.folder} either: {error}",
                "Set RETINO_CACHE to a folder with room",
            ) from error

    def _send_pending(self) -> None:
        try:
            self._connection.probe(patience=QUICK_KNOCK)
            send_spool(self._connection, self._spool)
        except TrackingError as error:
            self._put_off(error)
            return
        self._pause, self._next_attempt = FIRST_PAUSE, 0.0
        _logger.info(
            "%s answers again: all that was kept of run %s has been sent", self._connection.location.display, self.name
        )

    def _put_off(self, error: TrackingError) -> None:
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if not self._warned:
            self._warned = True
            _logger.warning(
                "%s. Nothing is lost: what is logged is kept in %s and sent when it answers.",
                error.message.rstrip("."), self._spool.folder,
            )  # fmt: skip


def _now_ms() -> int:
    return int(time.time() * 1000)
