"""Bringing logged entries to the store: at once, or later from the spool.

An entry is a JSON object: ``batch`` (metrics, params, tags), ``artifact`` (a path, whose content lies in the spool's
folder), ``inputs`` (data sets), ``model`` (a checkpoint as a logged model) or ``finish`` (status, end time, tags).
Inputs and models arrange what the run holds anyway: a store that refuses them costs a warning, not the run.
"""

from __future__ import annotations

import logging
from pathlib import PurePosixPath

from mlflow.entities import Metric, Param, RunTag

from retino_cli.errors import TrackingError
from retino_cli.tracking.connection import LOGGING, UPLOADING, Connection
from retino_cli.tracking.datasets import send_inputs
from retino_cli.tracking.failures import Unavailable
from retino_cli.tracking.models import send_model
from retino_cli.tracking.spool import Entry, Spool

_logger = logging.getLogger("retino")
_ARRANGING = {"inputs": send_inputs, "model": send_model}


def transmit(connection: Connection, spool: Spool, entry: Entry) -> None:
    """Send one entry. Raises TrackingError (Unavailable if another try makes sense)."""
    client, run_id = connection.client, spool.run_id
    if entry["type"] == "batch":
        model, dataset, digest = entry.get("of", (None, None, None))
        connection.call(
            client.log_batch,
            run_id,
            metrics=[
                Metric(key, value, timestamp, step, model_id=model, dataset_name=dataset, dataset_digest=digest)
                for key, value, timestamp, step in entry["metrics"]
            ],
            params=[Param(key, value) for key, value in entry.get("params", {}).items()],
            tags=[RunTag(key, value) for key, value in entry["tags"].items()],
            limits=LOGGING,
        )
    elif entry["type"] == "artifact":
        path, staged = entry["path"], spool.folder / "artifacts" / entry["path"]
        if staged.is_dir():
            connection.call(client.log_artifacts, run_id, str(staged), path, limits=UPLOADING)
        elif staged.exists():
            parent = str(PurePosixPath(path).parent)
            connection.call(
                client.log_artifact, run_id, str(staged), None if parent == "." else parent, limits=UPLOADING
            )
    elif (arrange := _ARRANGING.get(entry["type"])) is not None:
        try:
            arrange(connection, run_id, entry)
        except Unavailable:
            raise
        except (TrackingError, OSError) as error:
            what = "data sets" if entry["type"] == "inputs" else "logged model"
            _logger.warning("MLflow does not take the %s of run %s: %s", what, spool.name, error)
    else:
        if entry["tags"]:
            tags = [RunTag(key, value) for key, value in entry["tags"].items()]
            connection.call(client.log_batch, run_id, tags=tags, limits=LOGGING)
        connection.call(client.set_terminated, run_id, entry["status"], entry["time"], limits=LOGGING)


def send_spool(connection: Connection, spool: Spool) -> None:
    """Send all that is pending, in order. Raises TrackingError at the first entry that does not arrive."""
    for entry in spool.pending:
        transmit(connection, spool, entry)
        spool.mark_sent(entry)
