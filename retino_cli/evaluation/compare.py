"""``compare(runs)``: what differs between runs, side by side, from their stored predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retino_cli.errors import UsageError
from retino_cli.evaluation.metrics import METRIC_NAMES, Undefined, confusion_matrix, is_collapsed, summarise
from retino_cli.evaluation.stored import StoredPredictions, align, read_stored
from retino_cli.figures import style
from retino_cli.figures.confusion import draw_confusion
from retino_cli.figures.curves import draw_comparison
from retino_cli.tracking import open_store

NOT_COMPARED = ("data", "workers", "run_name", "device")
"""Parameters that say where a run was made, not what it is."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run of a comparison. ``label`` is its name, with the id where two runs share one."""

    run_id: str
    label: str
    params: dict[str, str]
    metrics: dict[str, float | Undefined]
    confusion: np.ndarray
    collapsed: int | None
    history: list[dict[str, float]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs that were judged on the same ``n_images`` images of ``split``.

    ``differing`` holds, for each parameter whose values are not all the same, one value per run ("" where not set).
    """

    run_id: str
    split: str
    n_images: int
    runs: tuple[ComparedRun, ...]
    differing: dict[str, tuple[str, ...]]

    def best(self, metric: str) -> tuple[int, ...]:
        """The places of the runs with the highest value of ``metric`` (several where they are equal, none where it is
        the same for all, belongs to the data alone, or is undefined)."""
        if metric == "majority_accuracy":
            return ()
        values = [run.metrics[metric] for run in self.runs]
        numbers = [value for value in values if not isinstance(value, Undefined)]
        if not numbers or (len(numbers) == len(values) and max(numbers) == min(numbers)):
            return ()
        return tuple(place for place, value in enumerate(values) if value == max(numbers))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined metrics are null."""
        return {
            "run_id": self.run_id,
            "split": self.split,
            "n_images": self.n_images,
            "differing_params": {name: list(values) for name, values in self.differing.items()},
            "runs": [
                {
                    "run_id": run.run_id,
                    "name": run.label,
                    "metrics": {k: None if isinstance(v, Undefined) else v for k, v in run.metrics.items()},
                    "collapsed": run.collapsed,
                    "confusion_matrix": run.confusion.tolist(),
                }
                for run in self.runs
            ],
            "best": {
                name: [self.runs[place].run_id for place in places]
                for name in METRIC_NAMES
                if (places := self.best(name))
            },
        }

    def to_markdown(self) -> str:
        """The two tables in Markdown; the best value of a row is bold."""
        names = [run.label.replace("|", "\\|") for run in self.runs]
        lines = [f"# Comparison on {self.split}, {self.n_images} images", "", _row("metric", names), _rule(len(names))]
        for metric in METRIC_NAMES:
            best = self.best(metric)
            cells = [f"{run.metrics[metric]:.4f}" for run in self.runs]
            lines.append(_row(metric, [f"**{c}**" if i in best else c for i, c in enumerate(cells)]))
        lines += ["", "## Parameters that differ", "", _row("parameter", names), _rule(len(names))]
        lines += [_row(name, list(values)) for name, values in self.differing.items()]
        return "\n".join(lines) + "\n"


def compare(
    runs: Sequence[str], *, split: str | None = None, experiment: str | None = None, tracking_uri: str | None = None
) -> Comparison:
    """Compare two or more runs from what they have stored; nothing is predicted again.

    ``runs`` are trainings or evaluations, by id, unique prefix, name or ``latest``. ``split``: by default test, where
    all have it. The comparison is stored as a run of its own (kind ``compare``), with the figures.

    Raises UsageError for fewer than two runs, for one given twice, and for runs judged on other images or grades.
    """
    if len(runs) < 2:
        raise UsageError("A comparison needs two runs or more.", "List the latest ones with: retino runs")
    store = open_store(tracking_uri)
    stored = read_stored(store, list(runs), split=split)
    ids = [one.record.run_id for one in stored]
    aligned = align(stored)
    labels = label_runs(stored)
    compared = tuple(
        ComparedRun(
            run_id=one.record.run_id,
            label=label,
            params=one.record.params,
            metrics=summarise(predictions),
            confusion=confusion_matrix(predictions.grade, predictions.predicted),
            collapsed=is_collapsed(predictions),
            history=store.history(_training_of(one)),
        )
        for one, predictions, label in zip(stored, aligned, labels, strict=True)
    )
    active = store.start_run(
        experiment=experiment or stored[0].record.experiment,
        name="compare " + " ".join(labels),
        kind="compare",
        params={"runs": ",".join(ids), "split": stored[0].split},
        tags={"retino.compared_runs": ",".join(ids)},
    )
    with active:
        comparison = Comparison(
            run_id=active.run_id,
            split=stored[0].split,
            n_images=len(aligned[0]),
            runs=compared,
            differing=_differing([one.record.params for one in stored]),
        )
        active.write_folder("comparison", lambda folder: write_comparison(comparison, folder))
        active.log_metrics(
            {
                f"{name}/{place}_{_safe(run.label)}": value
                for place, run in enumerate(compared)
                for name, value in run.metrics.items()
                if not isinstance(value, Undefined)
            }
        )
    return comparison


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """comparison.json, comparison.md, and as PNG and SVG the accuracy by epoch and the confusion matrices."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(comparison.to_markdown(), encoding="utf-8")
    if all(run.history for run in comparison.runs):
        majority = comparison.runs[0].metrics["majority_accuracy"]
        figure = draw_comparison(
            [(run.label, run.history) for run in comparison.runs],
            majority=None if isinstance(majority, Undefined) else majority,
        )
        style.save(figure, folder / "accuracy_by_epoch")
    matrices = [(run.label, run.confusion) for run in comparison.runs]
    style.save(draw_confusion(matrices), folder / "confusion_matrices")
    style.save(draw_confusion(matrices, normalise=True), folder / "confusion_matrices_normalised")


def label_runs(stored: Sequence[StoredPredictions]) -> list[str]:
    """The runs' names, with the id behind those that two of them share."""
    names = [one.name for one in stored]
    return [
        f"{name} ({one.record.run_id[:8]})" if names.count(name) > 1 else name
        for name, one in zip(names, stored, strict=True)
    ]


def _training_of(one: StoredPredictions) -> str:
    """The run whose epochs these are: itself, or the training that an evaluation judged."""
    return one.record.tags.get("retino.judged_run", one.record.run_id)


def _differing(params: Sequence[dict[str, str]]) -> dict[str, tuple[str, ...]]:
    names = sorted({name for one in params for name in one} - set(NOT_COMPARED))
    rows = {name: tuple(one.get(name, "") for one in params) for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _safe(text: str) -> str:
    """A name that MLflow takes in a metric."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in text)


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _rule(n: int) -> str:
    return "|---|" + "---:|" * n
