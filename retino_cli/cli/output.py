"""How commands print: data on stdout, everything else on stderr, colour only where a terminal shows it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from retino_cli.grades import GRADES, SHORT_GRADE_NAMES

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from retino_cli.evaluation.evaluation import Evaluation, Metrics


def data_console() -> Console:
    """stdout. Tables keep their shape where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    return console


def notes_console() -> Console:
    """stderr."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    return console


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on stdout. NaN cannot occur: undefined values are null."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def new_table(*columns: str, title: str | None = None) -> Table:
    """A table with a left-aligned first column and right-aligned others."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def evaluation_table(evaluation: Evaluation) -> Table:
    """The metrics of one evaluation, accuracy beside the baselines that read no pixel."""
    metrics = evaluation.metrics
    table = new_table("metric", "value", "note", title=f"{evaluation.split}: {evaluation.n_images} images")
    table.columns[2].justify = "left"
    baselines = [f"majority baseline {metrics['majority_accuracy']:.3f}"]
    if "fellow_eye_accuracy" in evaluation.baselines:
        baselines.append(f"fellow-eye baseline {evaluation.baselines['fellow_eye_accuracy']:.3f}")
    notes = {"accuracy": ", ".join(baselines)}
    if "fellow_eye_qwk" in evaluation.baselines:
        notes["qwk"] = f"fellow-eye baseline {evaluation.baselines['fellow_eye_qwk']:.3f}"
    for name, label in HEADLINES:
        value = metrics[name]
        reason = "" if isinstance(value, float) else value.reason
        table.add_row(label, f"{value:.4f}", notes.get(name, "") or reason)
    return table


def grade_table(metrics: Metrics) -> Table:
    """Precision and recall of each grade."""
    table = new_table("grade", "precision", "recall")
    for grade in GRADES:
        table.add_row(
            f"{grade} {SHORT_GRADE_NAMES[grade]}",
            f"{metrics[f'precision_{grade}']:.3f}",
            f"{metrics[f'recall_{grade}']:.3f}",
        )
    return table


def confusion_table(name: str, matrix: np.ndarray) -> Table:
    """Rows true grade, columns predicted; counts with the share of the row, the diagonal green, misses by two or more
    grades red."""
    from rich.markup import escape

    table = new_table(
        "true \\ predicted", *(f"{k} {SHORT_GRADE_NAMES[k]}" for k in GRADES), "images", title=escape(name)
    )
    for true in GRADES:
        total = int(matrix[true].sum())
        cells = []
        for predicted in GRADES:
            count = int(matrix[true, predicted])
            share = f"{count / total:4.0%}" if total else " n/a"
            style = "green" if true == predicted else "red" if abs(true - predicted) >= 2 else "yellow"
            cells.append(f"[{style if count else 'dim'}]{count} {share}[/]")
        table.add_row(f"{true} {SHORT_GRADE_NAMES[true]}", *cells, str(total))
    return table


HEADLINES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("qwk", "quadratic weighted kappa"),
    ("macro_f1", "macro F1"),
    ("macro_auc", "macro AUC, one vs rest"),
    ("referable_auc", "referable DR: AUC"),
    ("referable_sensitivity", "referable DR: sensitivity"),
    ("referable_specificity", "referable DR: specificity"),
)
"""Metric names and how they are called in tables; precision and recall by grade have a table of their own."""
