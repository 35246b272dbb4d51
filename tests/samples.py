"""Made-up predictions, and runs that have stored them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retino_cli.evaluation.predictions import Predictions, write_predictions
from retino_cli.tracking import open_store


def make_predictions(grade: list[int], predicted: list[int], *, ids: list[str] | None = None) -> Predictions:
    """Predictions of ``predicted`` with probability .8, which tell the images apart."""
    n = len(grade)
    probabilities = np.full((n, 5), 0.05)
    probabilities[np.arange(n), predicted] = 0.8
    return Predictions(
        image_id=np.array(ids if ids is not None else [f"image {k}" for k in range(n)]),
        patient_id=np.array([""] * n),
        eye=np.array([""] * n),
        grade=np.array(grade),
        probabilities=probabilities,
    )


def store_run(
    name: str,
    predictions: Predictions | None,
    *,
    split: str = "test",
    kind: str = "train",
    params: dict[str, object] | None = None,
) -> str:
    """A run with stored predictions and two epochs of accuracy; its id."""
    run = open_store().start_run(experiment="retino", name=name, kind=kind, params=params or {}, tags={})
    with run:
        for epoch in (1, 2):
            run.log_epoch(epoch, {"train/accuracy": 0.4 + epoch / 10, "val/accuracy": 0.3 + epoch / 10})
        if predictions is not None:

            def write(folder: Path) -> None:
                folder.mkdir(parents=True, exist_ok=True)
                write_predictions(predictions, folder / "predictions.csv")

            run.write_folder(split, write)
    return run.run_id
