"""Opening the MLflow store, starting runs in it, and finding them again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from retino_cli.errors import TrackingError
from retino_cli.tracking.artifacts import fetch_artifact, list_artifacts
from retino_cli.tracking.connection import LOGGING, UPLOADING, Connection
from retino_cli.tracking.delivery import send_spool
from retino_cli.tracking.experiments import ensure_experiment
from retino_cli.tracking.failures import Unavailable
from retino_cli.tracking.location import locate
from retino_cli.tracking.models import EPOCH_TAG, find_models
from retino_cli.tracking.names import check_name
from retino_cli.tracking.origin import describe_origin
from retino_cli.tracking.process import ProcessMark, current_process, is_gone
from retino_cli.tracking.records import (
    EPOCH_METRICS_TAG,
    ERROR_TAG,
    HEARTBEAT_TAG,
    KILLED_HARD,
    KIND_TAG,
    NOW_TAG,
    PARENT_TAG,
    RESUMED_TAG,
    RunRecord,
    format_now,
    parse_time,
    to_record,
)
from retino_cli.tracking.runs import ActiveRun
from retino_cli.tracking.search import find_run, list_experiments, search_runs
from retino_cli.tracking.spool import Spool

_logger = logging.getLogger("retino")


def open_store(tracking_uri: str | None = None) -> Store:
    """Open the MLflow store at ``tracking_uri``, by default MLflow's own default (see :mod:`location`).

    What earlier runs could not send to it is sent now, and runs of this host whose process was killed are marked
    KILLED.

    Raises TrackingError if it does not answer within about five seconds, or cannot be used.
    """
    store = Store(Connection(locate(tracking_uri)))
    store.send_kept()
    store.mark_killed()
    return store


class Store:
    """An open MLflow store. Made by :func:`open_store`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.uri: str = connection.location.uri

    def where(self) -> str:
        """Where runs are kept, in words: ``./mlflow.db, artifacts below ./mlruns``."""
        return self._connection.location.describe()

    def ui_command(self) -> str:
        """The command that shows the store in a browser, typed in the current folder; for a server, its address."""
        return self._connection.location.ui_command()

    # -- writing -------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        *,
        experiment: str,
        name: str,
        kind: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> ActiveRun:
        """Start a run of ``kind`` ("train", "repeats", "eval", ...) in ``experiment``, made if need be.

        ``parent`` is the id of the run that it belongs to. Raises TrackingError if the experiment cannot take it,
        ValueError for a parameter name that MLflow refuses.
        """
        for param in params:
            check_name(param)
        experiment_id = ensure_experiment(self._connection, experiment)
        all_tags = {**describe_origin(), **tags, **current_process().to_tags(), KIND_TAG: kind}
        all_tags[HEARTBEAT_TAG] = format_now()
        if parent is not None:
            all_tags[PARENT_TAG] = parent
        call, client = self._connection.call, self._connection.client
        run = call(client.create_run, experiment_id, tags=all_tags, run_name=name, limits=LOGGING)
        active = ActiveRun(self._connection, run)
        if params:
            active.log_params(params)
        return active

    def resume_run(self, run_id: str, *, params: Mapping[str, object] | None = None) -> ActiveRun:
        """Go on writing the run ``run_id``: RUNNING again, and epochs that it has are passed over. Those of ``params``
        that are not as they were are kept as tags, as MLflow's parameters cannot be changed.

        Raises RunNotFoundError if there is none, TrackingError if it is still being written.
        """
        call, client = self._connection.call, self._connection.client
        run = call(client.get_run, run_id)
        mark = ProcessMark.from_tags(run.data.tags)
        if (
            run.info.status == "RUNNING"
            and mark is not None
            and is_gone(mark) is not True
            and mark != current_process()
        ):
            raise TrackingError(
                f"The run {run.info.run_name} ({run_id[:8]}) is still being written by process {mark.pid} "
                f"on {mark.host}",
                "Stop it first; if that host is gone for good, set the run's status in MLflow",
            )
        history = self.history(run_id)
        call(client.update_run, run_id, status="RUNNING", limits=LOGGING)
        names = run.data.tags.get(EPOCH_METRICS_TAG, "")
        active = ActiveRun(
            self._connection,
            run,
            last_epoch=int(history[-1]["epoch"]) if history else 0,
            epoch_metrics=frozenset(names.split(",")) if names else frozenset(),
            # Earlier versions logged all final values so: later ones at step 0 would not be the latest.
            final_steps=any(one.step > 0 and one.key not in names.split(",") for one in run.data._metric_objs),
        )
        before = to_record(run, {}).params
        changed = {name: value for name, value in (params or {}).items() if before.get(name) != str(value)}
        active.set_tags(
            {
                **current_process().to_tags(),
                **{NOW_TAG + name: value for name, value in changed.items()},
                HEARTBEAT_TAG: format_now(),
                RESUMED_TAG: format_now(),
            }
        )
        if ERROR_TAG in run.data.tags:
            call(client.delete_tag, run_id, ERROR_TAG, limits=LOGGING)
        return active

    def add_file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Copy the file ``path`` into ``folder`` of a run that may have ended long ago; its status stays."""
        client = self._connection.client
        self._connection.call(client.log_artifact, run_id, str(path), folder or None, limits=UPLOADING)

    def send_kept(self) -> None:
        """Send what earlier runs could not (see :mod:`spool`); runs that go on look after themselves."""
        for spool in Spool.find_all(self._connection.location.display):
            with spool.held() as ours:
                if not ours:
                    continue
                try:
                    send_spool(self._connection, spool)
                except Unavailable as error:
                    _logger.warning("What run %s kept could not be sent: %s", spool.name, error)
                    return
                except TrackingError as error:
                    _logger.warning(
                        "What run %s kept is not accepted: %s. If it is not needed, delete %s",
                        spool.name, error, spool.folder,
                    )  # fmt: skip
                else:
                    _logger.info("Sent what run %s had kept", spool.name)

    def mark_killed(self) -> None:
        """Mark RUNNING runs of this host whose process is gone as KILLED.

        Runs of other hosts are left as they are: see :attr:`RunRecord.silent_for`.
        """
        call, client = self._connection.call, self._connection.client
        for record in search_runs(self._connection, "attributes.status = 'RUNNING'", limit=1000):
            mark = ProcessMark.from_tags(record.tags)
            if mark is None or is_gone(mark) is not True:
                continue
            seen = parse_time(record.tags.get(HEARTBEAT_TAG, ""))
            try:
                # It may have ended in good order since it was listed, or goes on in another process. Now that its
                # process is gone nothing more comes from it: what stands there is true.
                now = call(client.get_run, record.run_id)
                if now.info.status != "RUNNING" or ProcessMark.from_tags(now.data.tags) != mark:
                    continue
                call(client.set_tag, record.run_id, ERROR_TAG, KILLED_HARD, limits=LOGGING)
                ended = int(seen.timestamp() * 1000) if seen else None
                call(client.set_terminated, record.run_id, "KILLED", ended, limits=LOGGING)
            except TrackingError as error:
                _logger.warning("Run %s was killed, but could not be marked so: %s", record.name, error)

    # -- reading -------------------------------------------------------------------------------------------------------

    def find(self, text: str, *, kinds: Sequence[str] = ("train",)) -> RunRecord:
        """The run that ``text`` names: its id, its name, the first characters of its id (four or more), or "latest".

        Raises RunNotFoundError if there is none or more than one, with those that come near.
        """
        self.mark_killed()
        return find_run(self._connection, text, kinds=tuple(kinds))

    def latest(
        self,
        limit: int,
        *,
        experiment: str | None = None,
        kinds: Sequence[str] | None = None,
        parent: str | None = None,
    ) -> list[RunRecord]:
        """The newest ``limit`` runs, newest first; of ``kinds`` (None: all), in ``experiment``, below ``parent``."""
        self.mark_killed()
        where = f"tags.`{PARENT_TAG}` = '{parent}'" if parent else ""
        return search_runs(self._connection, where, limit=limit, experiment=experiment, kinds=kinds)

    def history(self, run_id: str) -> list[dict[str, float]]:
        """The per-epoch metrics: one ``{"epoch": 1, "train/loss": ...}`` for each epoch, in order.

        Final values (:meth:`ActiveRun.log_metrics`) are not in it. Raises RunNotFoundError.
        """
        call, client = self._connection.call, self._connection.client
        data = call(client.get_run, run_id).data
        names = data.tags.get(EPOCH_METRICS_TAG, "")
        first: dict[int, dict[str, tuple[int, float]]] = defaultdict(dict)
        for name in names.split(",") if names else data.metrics:
            if name not in data.metrics:
                continue
            for point in call(client.get_metric_history, run_id, name):
                # A final value of the same name stands at the last epoch too: the epoch's own is the older one.
                known = first[point.step].get(name)
                if point.step > 0 and (known is None or point.timestamp < known[0]):
                    first[point.step][name] = (point.timestamp, point.value)
        return [
            {"epoch": epoch, **{name: value for name, (_, value) in sorted(first[epoch].items())}}
            for epoch in sorted(first)
            if epoch > 0
        ]

    def experiment_id(self, name: str) -> str | None:
        """The id of the experiment ``name``; None where there is none."""
        return next((key for key, one in list_experiments(self._connection).items() if one == name), None)

    def logged_model(self, record: RunRecord, epoch: int) -> str | None:
        """The id of the logged model that training ``record`` made of its checkpoint of ``epoch``; None without one.

        A store that keeps none, or does not answer, is no reason to stop: None then, too.
        """
        try:
            call, client = self._connection.call, self._connection.client
            experiment = call(client.get_run, record.run_id).info.experiment_id
            models = find_models(self._connection, record.run_id, experiment)
        except TrackingError:
            return None
        return next((str(one.model_id) for one in models if one.tags.get(EPOCH_TAG) == str(epoch)), None)

    def artifacts(self, run_id: str, folder: str = "") -> list[str]:
        """Paths of the files and folders directly in ``folder`` of the run; empty if there is no such folder."""
        return list_artifacts(self._connection, run_id, folder)

    def download(self, run_id: str, artifact: str) -> Path:
        """A local path of the file or folder ``artifact``: in a local store its own place, else a copy in the cache.

        Raises RunNotFoundError if the run has no such artifact.
        """
        return fetch_artifact(self._connection, run_id, artifact)
