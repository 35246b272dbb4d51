"""``draw_confusions(runs)``: confusion matrices of stored predictions, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retino_cli.errors import UsageError
from retino_cli.evaluation.artifacts import draw_matrices
from retino_cli.evaluation.evaluation import OF_A_FILE
from retino_cli.evaluation.metrics import confusion_matrix
from retino_cli.evaluation.stored import label_stored, read_stored
from retino_cli.tracking import open_store


@dataclass(frozen=True, eq=False)
class ConfusionReport:
    """``matrices``: (name, (5, 5) counts, rows true grade) and ``splits`` per run; ``files``: the pictures that were
    written. ``split``: that of the runs, "predictions" where there are files only."""

    run_id: str
    split: str
    run_ids: tuple[str, ...]
    matrices: tuple[tuple[str, np.ndarray], ...]
    splits: tuple[str, ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "run_id": self.run_id,
            "split": self.split,
            "runs": [
                {"run_id": run_id, "name": name, "confusion_matrix": matrix.tolist()}
                for run_id, (name, matrix) in zip(self.run_ids, self.matrices, strict=True)
            ],
            "files": [str(path) for path in self.files],
        }


def draw_confusions(
    runs: Sequence[str], *, split: str | None = None, out: Path | None = None, tracking_uri: str | None = None
) -> ConfusionReport:
    """Draw the confusion matrices of runs, or of files of predictions, side by side: counts and shares of the row.

    The pictures are stored in MLflow as a run of kind ``confusion``, and written to the folder ``out``
    where one is given. The runs may have been judged on different images: each matrix stands for itself.
    """
    store = open_store(tracking_uri)
    stored = read_stored(store, list(runs), split=split)
    labels = label_stored(stored)
    matrices = []
    for label, one in zip(labels, stored, strict=True):
        if one.predictions.predicted is None or one.predictions.binary:
            raise UsageError(f"{label} has no predicted grades: {one.predictions.lacking}.", "Leave it out.")
        matrices.append((label, confusion_matrix(one.predictions.grade, one.predictions.predicted)))
    ids = tuple(one.source for one in stored)
    splits = tuple(one.split for one in stored)
    shown = next((split for split in splits if split != OF_A_FILE), OF_A_FILE)
    first = next((one.record for one in stored if one.record is not None), None)
    with store.start_run(
        experiment=first.experiment if first is not None else "retino",
        name="confusion " + " ".join(labels),
        kind="confusion",
        params={"runs": ",".join(ids), "split": shown},
        tags={"retino.judged_runs": ",".join(ids)},
        parent=first.run_id if first is not None and len(ids) == 1 else None,
    ) as active:

        def write(folder: Path) -> None:
            draw_matrices(matrices, folder, "confusion_matrix")

        active.write_folder(shown, write)
        files: list[Path] = []
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            files = draw_matrices(matrices, out, "confusion_matrix")
    return ConfusionReport(active.run_id, shown, ids, tuple(matrices), splits, tuple(files))
