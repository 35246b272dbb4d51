"""Arithmetic of the training tests runs on one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _single(one_thread: None) -> None:
    """Every test here."""
