"""Shared fixtures: real data, and an isolated working folder for the MLflow store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by RETINO_REAL_DATA: ``idrid/``, ``retinamnist/``, ``lab-csv/``, ``golden/``."""
    folder = os.environ.get("RETINO_REAL_DATA", "")
    if not folder:
        pytest.skip("RETINO_REAL_DATA is not set: the tests on real photographs and label files are left out")
    path = Path(folder).resolve()
    if not path.is_dir():
        pytest.fail(f"RETINO_REAL_DATA={folder} is not a folder")
    return path
