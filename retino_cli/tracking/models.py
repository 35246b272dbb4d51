"""Checkpoints as MLflow's logged models: listed under "Models" of an experiment, with the metrics that belong to them.

In a local store the model's files are hard links to those of the run's checkpoint: they take no space, and stay whole
when the run's checkpoint is replaced. On a server, where they would be uploaded a second time, the model holds a note
that says where in the run the weights lie.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlflow.entities import LoggedModelOutput, Metric

from retino_cli.tracking.artifacts import copy_file
from retino_cli.tracking.connection import LOGGING, UPLOADING, Connection
from retino_cli.tracking.location import path_of_uri
from retino_cli.tracking.records import cut_text

if TYPE_CHECKING:
    from retino_cli.tracking.spool import Entry

EPOCH_TAG: Final = "retino.epoch"
"""Of a logged model: the epoch of its run that it is the checkpoint of."""
CHECKPOINT_TAG: Final = "retino.checkpoint"
_TYPE: Final = "grader"
_LONGEST: Final = 5000


def pack_model(
    name: str,
    checkpoint: str,
    epoch: int,
    *,
    params: Mapping[str, object],
    tags: Mapping[str, object],
    metrics: Iterable[list[Any]],
) -> Entry:
    """The entry that :func:`send_model` sends. ``metrics``: name, value, time, step, name and digest of the data."""
    return {
        "type": "model",
        "name": name,
        "checkpoint": checkpoint,
        "step": epoch,
        "params": {key: cut_text(str(value), _LONGEST) for key, value in params.items()},
        "tags": {key: cut_text(str(value), _LONGEST) for key, value in tags.items()},
        "metrics": list(metrics),
    }


def send_model(connection: Connection, run_id: str, entry: Entry) -> None:
    """Make the logged model of ``entry``, or complete it where an earlier attempt was cut off, and mark it READY."""
    call, client = connection.call, connection.client
    run = call(client.get_run, run_id)
    epoch = str(entry["step"])
    known = find_models(connection, run_id, run.info.experiment_id)
    model = next((one for one in known if one.tags.get(EPOCH_TAG) == epoch), None)
    if model is None:
        model = call(
            client.create_logged_model,
            run.info.experiment_id,
            name=_plain_name(entry["name"]),
            source_run_id=run_id,
            tags=entry["tags"] | {EPOCH_TAG: epoch, CHECKPOINT_TAG: f"runs:/{run_id}/{entry['checkpoint']}"},
            params=entry["params"],
            model_type=_TYPE,
            limits=LOGGING,
        )
    else:
        call(client.set_logged_model_tags, model.model_id, entry["tags"], limits=LOGGING)
    _place_files(connection, run, model, entry)
    if entry["metrics"]:
        # The very points that the run has: it keeps each once, the model gets them as its own.
        points = [
            Metric(
                key, value, timestamp, step,
                model_id=model.model_id, run_id=run_id, dataset_name=dataset, dataset_digest=digest,
            )
            for key, value, timestamp, step, dataset, digest in entry["metrics"]
        ]  # fmt: skip
        call(client.log_batch, run_id, metrics=points, limits=LOGGING)
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    if all(output.model_id != model.model_id for output in outputs):
        call(client.log_outputs, run_id, models=[LoggedModelOutput(model.model_id, entry["step"])], limits=LOGGING)
    call(client.finalize_logged_model, model.model_id, "READY", limits=LOGGING)


def find_models(connection: Connection, run_id: str, experiment_id: str) -> list[Any]:
    """The logged models that run ``run_id`` made, newest first."""
    found = connection.call(
        connection.client.search_logged_models,
        [experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        limits=LOGGING,
    )
    return list(found)


def _place_files(connection: Connection, run: Any, model: Any, entry: Entry) -> None:
    artifacts, target = path_of_uri(run.info.artifact_uri), path_of_uri(model.artifact_location)
    if artifacts is None or target is None:
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "README.md"
            note.write_text(
                f"The weights lie in the run, as its artifact {entry['checkpoint']}: "
                f"runs:/{run.info.run_id}/{entry['checkpoint']}\n",
                encoding="utf-8",
            )
            upload = connection.client.log_model_artifact
            connection.call(upload, model.model_id, str(note), limits=UPLOADING)
        return
    target.mkdir(parents=True, exist_ok=True)
    source = artifacts / entry["checkpoint"]
    for file in sorted(source.iterdir()) if source.is_dir() else ():
        if file.is_file():
            _link(file, target / file.name)


def _link(source: Path, target: Path) -> None:
    """A second name for ``source``; a copy where the file system has no hard links."""
    if target.exists() and target.samefile(source):
        return
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)


def _plain_name(name: str) -> str:
    """A name that MLflow takes for a logged model."""
    return re.sub(r"""[/:.%"']+""", "-", name) or "model"
