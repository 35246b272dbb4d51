"""A project folder of its own for each test, with the empty MLflow database of ../conftest.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retino_cli.tracking import Store, open_store


@pytest.fixture
def empty_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without any store."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETINO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(empty_project: Path, empty_database: Path) -> Path:
    """A current folder with an empty store in it."""
    shutil.copy(empty_database, empty_project / "mlflow.db")
    return empty_project


@pytest.fixture
def store(project: Path) -> Store:
    return open_store()
