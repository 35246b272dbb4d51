"""Experiments: made with an artifact folder of our own choice, and checked before anything is written into them.

MLflow fixes an experiment's artifact location when it is created. ``mlflow ui``, started first in an empty folder,
leaves a ``Default`` experiment that points at ``mlflow-artifacts:``, where only a server can write; and a project
folder that was moved leaves experiments that point at where it was. Both would fail at the first artifact, after an
epoch of training: they are told here, before.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from retino_cli.errors import TrackingError
from retino_cli.tracking.connection import Connection
from retino_cli.tracking.location import Location, path_of_uri, shorten_path


def ensure_experiment(connection: Connection, name: str) -> str:
    """The id of the experiment ``name``, created if there is none.

    Raises TrackingError where it has been deleted, or where its artifacts cannot be written.
    """
    experiment = connection.call(connection.client.get_experiment_by_name, name)
    if experiment is None:
        try:
            return _create(connection, name)
        except TrackingError:
            # Another process may have been quicker.
            experiment = connection.call(connection.client.get_experiment_by_name, name)
            if experiment is None:
                raise
    check_experiment(connection.location, experiment)
    return str(experiment.experiment_id)


def check_experiment(location: Location, experiment: Any) -> None:
    """Raise TrackingError if runs cannot be added to ``experiment``."""
    name, target = experiment.name, str(experiment.artifact_location)
    other = "Use another experiment: --experiment NAME"
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} has been deleted in MLflow",
            f"Bring it back with `mlflow experiments restore -x {experiment.experiment_id}`, or use another one: "
            "--experiment NAME",
        )
    if location.is_server:
        return
    if urlsplit(target).scheme == "mlflow-artifacts":
        raise TrackingError(
            f"The experiment {name!r} keeps its artifacts at {target}, where only an MLflow server can write "
            "(`mlflow ui` makes it so when it is started first in an empty folder)",
            other,
        )
    folder = path_of_uri(target)
    if folder is None or folder.is_dir():
        return
    # A folder that was merely deleted from below this store may be made again.
    if location.artifact_root is not None and folder.is_relative_to(location.artifact_root):
        _make_folder(folder)
        return
    raise TrackingError(
        f"The experiment {name!r} keeps its artifacts in {folder}, which does not exist: "
        "this project has been moved or copied",
        f"{other}, or move the folder back",
    )


def _create(connection: Connection, name: str) -> str:
    root = connection.location.artifact_root
    if root is None:
        return str(connection.call(connection.client.create_experiment, name))
    folder = root / _folder_name(name)
    _make_folder(folder)
    create = connection.client.create_experiment
    return str(connection.call(create, name, artifact_location=folder.as_uri()))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{shorten_path(folder)} cannot be created for artifacts: {error.strerror}",
            "Run from a folder in which you may write",
        ) from error


def _folder_name(name: str) -> str:
    """A folder name for any experiment name: unchanged if plain, else made plain and told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60]
    return plain if plain == name else f"{plain or 'experiment'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
