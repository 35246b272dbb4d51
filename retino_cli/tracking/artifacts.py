"""Files of a run: in a local store where they lie, from a server fetched into the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from retino_cli.cache import cache_root
from retino_cli.errors import RunNotFoundError
from retino_cli.tracking.connection import UPLOADING, Connection
from retino_cli.tracking.location import path_of_uri
from retino_cli.tracking.names import check_artifact


def list_artifacts(connection: Connection, run_id: str, folder: str = "") -> list[str]:
    """Paths of the files and folders directly in ``folder`` of the run; empty if there is no such folder."""
    return [str(info.path) for info in connection.call(connection.client.list_artifacts, run_id, folder or None)]


def fetch_artifact(connection: Connection, run_id: str, artifact: str) -> Path:
    """A local path of the file or folder ``artifact``: in a local store its own place, else a copy in the cache.

    Raises RunNotFoundError if the run has no such artifact.
    """
    check_artifact(artifact)
    run = connection.call(connection.client.get_run, run_id)
    what = f"The run {run.info.run_name} ({run_id[:8]})"
    folder = path_of_uri(run.info.artifact_uri)
    if folder is not None and (folder / artifact).exists():
        return folder / artifact
    # <root>/<experiment>/<run id>/artifacts: a run without any artifact has no folder of its own yet.
    if folder is not None and not folder.parent.parent.is_dir():
        raise RunNotFoundError(
            f"{what} keeps its artifacts in {folder}, which does not exist: the project has been moved or copied",
            "Move the folder back to where it was when the run was made",
        )
    parent = str(PurePosixPath(artifact).parent)
    if artifact not in list_artifacts(connection, run_id, "" if parent == "." else parent):
        there = ", ".join(list_artifacts(connection, run_id)) or "none"
        raise RunNotFoundError(f"{what} has no artifact {artifact!r}", f"It has: {there}")
    return _download(connection, run_id, artifact)


def _download(connection: Connection, run_id: str, artifact: str) -> Path:
    downloads = cache_root() / "downloads" / run_id
    downloads.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=downloads, prefix=".partial-"))
    try:
        # MLflow keeps the path below the run for a folder, but not for a file: its answer says where it lies.
        fetched = connection.call(
            connection.client.download_artifacts, run_id, artifact, str(partial), limits=UPLOADING
        )
        target = downloads / artifact
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        Path(fetched).replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def write_bytes(data: bytes, target: Path) -> None:
    """Write ``target`` whole, in place of what is there. Raises OSError."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    partial.write_bytes(data)
    partial.replace(target)


def copy_file(source: Path, target: Path) -> None:
    """Copy ``source`` whole, in place of what is there. Raises OSError."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, partial)
    partial.replace(target)
