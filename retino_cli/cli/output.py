"""How commands print: data on stdout, everything else on stderr, colour only where a terminal shows it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from retino_cli.grades import GRADES, SHORT_GRADE_NAMES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from retino_cli.evaluation.evaluation import Evaluation, Metrics
    from retino_cli.evaluation.metrics import Undefined
    from retino_cli.evaluation.resampling import Interval


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
    """A table with a left-aligned first column and right-aligned others, not narrower than its title."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False,
        min_width=len(title) if title else None,
    )  # fmt: skip
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def evaluation_table(evaluation: Evaluation) -> Table:
    """The metrics of one evaluation with their intervals, accuracy beside the baselines that read no pixel."""
    metrics, refined = evaluation.metrics, evaluation.refined or {}
    table = new_table(
        "metric", "value", "95 % interval", "note", title=f"{evaluation.split}: {evaluation.n_images} images"
    )
    table.columns[3].justify = "left"
    baselines = [f"majority baseline {metrics['majority_accuracy']:.3f}"]
    if "fellow_eye_accuracy" in evaluation.baselines:
        baselines.append(f"fellow-eye baseline {evaluation.baselines['fellow_eye_accuracy']:.3f}")
    notes = {"accuracy": ", ".join(baselines), "qwk": "by the most probable grade"}
    if "fellow_eye_qwk" in evaluation.baselines:
        notes["qwk"] += f"; fellow-eye baseline {evaluation.baselines['fellow_eye_qwk']:.3f}"
    for name, label in HEADLINES:
        value, interval = metrics[name], evaluation.intervals.get(name)
        reason = getattr(value, "reason", "")
        no_interval = getattr(interval, "reason", "")
        note = reason or "; ".join(part for part in (notes.get(name, ""), no_interval) if part)
        table.add_row(label, f"{value:.4f}", _ends(interval), note)
        if name == "qwk_rounded" and "qwk_cut_points" in refined and evaluation.fitted is not None:
            cuts = ", ".join(f"{cut:.2f}" for cut in evaluation.fitted.cut_points or ())
            note = f"{cuts}, fitted on {evaluation.fitted.n_images} validation images"
            table.add_row("QWK, fitted cut points", f"{refined['qwk_cut_points']:.4f}", "", note)
        if f"{name}_tempered" in refined and evaluation.fitted is not None:
            note = f"after temperature {evaluation.fitted.temperature:.2f}, fitted on validation"
            table.add_row("", f"{refined[f'{name}_tempered']:.4f}", "", note)
    return table


def operating_table(evaluation: Evaluation) -> Table | None:
    """What the threshold that validation chose does; None where no operating point was asked for."""
    point, table = evaluation.point, evaluation.operating
    if point is None or table is None:
        return None
    whose = "stated" if table.assumed_prevalence else "of these images"
    shown = new_table(
        "operating point", "value", "95 % interval", "note",
        title=f"referable DR where score >= {table.threshold:.4f}; prevalence {table.prevalence:.1%} ({whose})",
    )  # fmt: skip
    shown.columns[3].justify = "left"
    names = {"ppv": "PPV", "npv": "NPV", "referral_rate": "referral rate"}
    for name, value in table.values.items():
        interval = table.intervals[name]
        shown.add_row(names.get(name, name), f"{value:.4f}", _ends(interval), getattr(interval, "reason", ""))
    return shown


def operating_note(evaluation: Evaluation) -> str:
    """How the threshold was chosen, and what became of images that cannot be graded."""
    point, table = evaluation.point, evaluation.operating
    if point is None or table is None:
        return ""
    counted = "left out" if table.policy == "exclude" else "counted as referred"
    return (
        f"The threshold reaches {point.criterion} {point.wanted:g} on {point.n_images} validation images (there "
        f"sensitivity {point.sensitivity:.3f}, specificity {point.specificity:.3f}). "
        f"{table.ungradable} ungradable or unreadable images are {counted}."
    )


def eyes_table(evaluation: Evaluation) -> Table | None:
    """Both eyes of a patient together, by image and by patient; None where it was not asked for."""
    eyes = evaluation.eyes
    if eyes is None:
        return None
    table = new_table(
        "both eyes", "by image", "95 % interval", "by patient (worse eye)", "95 % interval",
        title=f"eyes blended, weight of the other eye {eyes.weight:.2f} "
        f"({'fitted on validation' if eyes.fitted else 'one half: none was fitted on validation'}); "
        f"{eyes.n_patients} patients",
    )  # fmt: skip
    for name, label in HEADLINES:
        table.add_row(
            label,
            f"{eyes.images[name]:.4f}",
            _ends(eyes.image_intervals.get(name)),
            f"{eyes.patients[name]:.4f}",
            _ends(eyes.patient_intervals.get(name)),
        )
    return table


def _ends(interval: Interval | Undefined | None) -> str:
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    return "n/a" if low is None or high is None else f"{low:.3f} .. {high:.3f}"


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


HEADLINES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("qwk", "quadratic weighted kappa"),
    ("qwk_rounded", "QWK, rounded expected grade"),
    ("macro_f1", "macro F1"),
    ("macro_auc", "macro AUC, one vs rest"),
    ("referable_auc", "referable DR: AUC"),
    ("referable_sensitivity", "referable DR: sensitivity"),
    ("referable_specificity", "referable DR: specificity"),
    ("vision_threatening_auc", "vision-threatening DR: AUC"),
    ("vision_threatening_sensitivity", "vision-threatening DR: sensitivity"),
    ("vision_threatening_specificity", "vision-threatening DR: specificity"),
    ("brier", "Brier score"),
    ("nll", "log-loss"),
    ("ece", "calibration error (ECE)"),
    ("ece_equal_mass", "calibration error, equal-mass bins"),
)
"""Metric names and how they are called in tables; precision and recall by grade have a table of their own."""
