"""Predictions to test statistics with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from retino_cli.evaluation.predictions import Predictions


def simulate(
    n: int, *, seed: int = 0, skill: float = 1.5, images_per_patient: int = 2, name_patients: bool = True
) -> Predictions:
    """Predictions for ``n`` images, more often right the higher ``skill``; the images of a patient are alike."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // images_per_patient
    liability = rng.normal(size=n) + 1.5 * rng.normal(size=patient[-1] + 1)[patient]
    grade = np.searchsorted([0.5, 1.2, 2.4, 3.2], liability)
    logits = rng.normal(size=(n, 5)) - 0.3 * skill * (np.arange(5) - grade[:, None]) ** 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        image_id=np.array([f"{i:06d}" for i in range(n)]),
        patient_id=np.array([f"p{k}" if name_patients else "" for k in patient]),
        eye=np.array([("left", "right", "")[min(i % images_per_patient, 2)] for i in range(n)]),
        grade=grade.astype(np.int64),
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )


def take(predictions: Predictions, rows: object) -> Predictions:
    """The images at ``rows``, in that order."""
    fields = ("image_id", "patient_id", "eye", "grade", "probabilities")
    return Predictions(*(getattr(predictions, name)[rows] for name in fields))


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Predictions]:
    """Makes predictions; see ``simulate``."""
    return simulate


@pytest.fixture(scope="session")
def taken() -> Callable[[Predictions, object], Predictions]:
    """Takes some images of predictions; see ``take``."""
    return take
