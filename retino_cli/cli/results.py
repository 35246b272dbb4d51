"""Printing what trainings, evaluations and comparisons return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retino_cli.cli.matrix import ConfusionView
from retino_cli.cli.output import (
    HEADLINES,
    data_console,
    evaluation_table,
    eyes_table,
    grade_table,
    new_table,
    notes_console,
    operating_note,
    operating_table,
    print_json,
)
from retino_cli.cli.sparkline import summarise_course

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from retino_cli.evaluation.comparison import ComparedRun, Comparison
    from retino_cli.evaluation.evaluation import Evaluation, Metrics
    from retino_cli.lab import LabReport
    from retino_cli.training.train import TrainResult

MAJORITY = ("majority_accuracy", "accuracy of the majority baseline")
MARKED = "* better than every other, as far as the data can tell"
MOST_COLUMNS = 6
"""Runs that a table in a terminal has room for; of more, where they are grouped, only the groups are shown."""


def print_training(result: TrainResult, *, as_json: bool) -> None:
    """The best checkpoint's numbers, where the run lies, and the next commands."""
    if as_json:
        print_json(result.to_dict())
        return
    console = data_console()
    console.print(f"Best epoch {result.best_epoch} of {result.epochs}, by validation {result.config.select_by}.")
    course = summarise_course([row.get("val/qwk") for row in result.history], "Validation QWK", console)
    if course:
        console.print(course, markup=False, soft_wrap=True)
    for evaluation in result.evaluations.values():
        console.print(evaluation_table(evaluation))
    short = result.run_id[:8]
    console.print(f"Run    {result.run_name} ({result.run_id})", markup=False)
    console.print(f"Store  {result.store}", markup=False)
    console.print("Next", markup=False)
    for command, what in (
        (f"retino eval {short}", "evaluate it again, or with --data on other images"),
        (f"retino report {short}", "one page to look at: errors, heat maps, threshold"),
        (f"retino confusion {short}", "its confusion matrix"),
        (f"retino compare {short} RUN", "against another run"),
        (name_ui(result.config.tracking_uri), f"everything, in the browser (by hand: {result.ui_command})"),
    ):
        console.print(f"  {command:<32} {what}", markup=False)


def name_ui(tracking_uri: str | None) -> str:
    """The command that shows the store of a run."""
    import shlex

    from retino_cli.tracking.location import mask_password

    return "retino ui" + (f" --tracking-uri {shlex.quote(mask_password(tracking_uri))}" if tracking_uri else "")


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """One evaluation: metrics, grades, confusion matrix."""
    if as_json:
        warn(evaluation.warning)
        print_json(evaluation.to_dict())
        return
    console = data_console()
    who = f"{evaluation.run_name} ({evaluation.run_id[:8]}) on " if evaluation.run_id else ""
    console.print(f"{who}{evaluation.data}", markup=False)
    console.print(evaluation_table(evaluation))
    if evaluation.confusion is not None:
        console.print(grade_table(evaluation.metrics))
        console.print(ConfusionView(f"confusion matrix, {evaluation.split}", evaluation.confusion))
    for table, note in ((operating_table(evaluation), operating_note(evaluation)), (eyes_table(evaluation), "")):
        if table is not None:
            console.print(table)
        if note:
            console.print(note, markup=False, soft_wrap=True)
    for reason in _reasons(evaluation.eyes.patients) if evaluation.eyes is not None else ():
        console.print(f"n/a by patient: {reason}.", markup=False, soft_wrap=True)
    warn(evaluation.warning)
    console.print(f"Stored as run {evaluation.evaluation_run_id}", markup=False)


def print_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """The verdicts, the metrics side by side, groups, parameters that differ, and the widest disagreements.

    A value is marked with * (and green) only where the data tell that it is better than every other of its row.
    """

    if as_json:
        _warn_of_collapse(comparison.runs)
        print_json(comparison.to_dict())
        return
    console = data_console()
    by_group = bool(comparison.groups) and len(comparison.runs) > MOST_COLUMNS
    if comparison.differing:
        console.print(_differing_table(comparison, by_group=by_group))
    elif len(comparison.runs_with_params) > 1:
        console.print("The runs have the same parameters.")
    if by_group:
        console.print("The metrics of each run are in comparison.md and, with --json, here.", markup=False)
    else:
        console.print(_runs_table(comparison))
    for run in comparison.runs:
        for reason in _reasons(run.metrics):
            console.print(f"n/a for {run.label}: {reason}.", markup=False, soft_wrap=True)
    if comparison.groups:
        _print_groups(console, comparison)
    for sentence in comparison.sentences:
        console.print(sentence, markup=False, soft_wrap=True, style="bold")
    for caution in comparison.cautions:
        console.print(caution, markup=False, soft_wrap=True, style="yellow")
    _warn_of_collapse(comparison.runs)
    if comparison.disagreements:
        widest = ", ".join(
            f"{one.image_id} (true {one.grade}, said {' / '.join(map(str, one.predicted))})"
            for one in comparison.disagreements[:3]
        )
        console.print(
            f"They differ on {len(comparison.disagreements)} of {comparison.n_images} images, most on {widest}.",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Figures and tables are stored as run {comparison.run_id}, folder comparison/", markup=False)


def _differing_table(comparison: Comparison, *, by_group: bool) -> Table:
    """Parameters that are not the same in all runs: a column for each run, or for each group with all its values."""
    from rich.markup import escape

    columns = [(group.label, group.members) for group in comparison.groups] if by_group else []
    columns = columns or [(run.label, (place,)) for place, run in enumerate(comparison.runs)]
    table = new_table("parameter", *(escape(label) for label, _places in columns), title="what differs")
    for name, values in comparison.differing.items():
        cells = (", ".join(dict.fromkeys(values[place] or "-" for place in places)) for _label, places in columns)
        table.add_row(name, *map(escape, cells))
    return table


def _runs_table(comparison: Comparison) -> Table:
    from rich.markup import escape

    labels = [escape(run.label) for run in comparison.runs]
    title = f"{comparison.split}: {comparison.n_images} images"
    table = _metric_columns(labels, title=title if comparison.groups else f"{title}; {MARKED}")
    for name, label in (MAJORITY, *HEADLINES):
        told = None if comparison.groups else comparison.told(name)
        table.add_row(label, *_mark([f"{run.metrics[name]:.4f}" for run in comparison.runs], told))
    return table


def _metric_columns(labels: Sequence[str], *, title: str) -> Table:
    """A table with a column of metrics and others of numbers, which stay whole where there is little room."""
    table = new_table("metric", *labels, title=title)
    table.min_width = None
    for column in table.columns[1:]:
        column.min_width = len("0.0000 *")
    return table


def _mark(cells: Sequence[str], told: int | None) -> list[str]:
    """The cell at ``told`` with a star, the others with the room for one."""
    return [f"[bold green]{cell} *[/]" if k == told else f"{cell}  " for k, cell in enumerate(cells)]


def _reasons(metrics: Metrics) -> list[str]:
    """Why metrics of the table are n/a, each reason once."""
    reasons = (getattr(metrics[name], "reason", "") for name, _label in HEADLINES)
    return [reason for reason in dict.fromkeys(reasons) if reason]


def _print_groups(console: Console, comparison: Comparison) -> None:
    from rich.markup import escape

    from retino_cli.evaluation.comparison import format_group

    names = [escape(comparison.name_group(group)) for group in comparison.groups]
    title = f"{comparison.split}: mean and standard deviation over the runs of each group; {MARKED}"
    table = _metric_columns(names, title=title)
    for name, label in (MAJORITY, *HEADLINES):
        cells = [format_group(group, name) for group in comparison.groups]
        table.add_row(label, *_mark(cells, comparison.told(name)))
    console.print(table)


def print_lab(report: LabReport, *, as_json: bool) -> None:
    """The table of highest accuracies with the baselines in it."""
    for row in report.rows:
        if row.collapsed is not None:
            warn(f"COLLAPSED: {row.arch}, {row.start} predicts (almost) only grade {row.collapsed}.")
    if as_json:
        print_json(report.to_dict())
        return
    console = data_console()
    split = report.split
    table = new_table(
        "model", "start", "highest train acc.", f"highest {split} acc.", "chosen: acc.", "chosen: QWK",
        title="Highest accuracies over the epochs, and the checkpoint that validation chose",
    )  # fmt: skip
    for row in report.rows:
        values = (row.train_accuracy, row.test_accuracy, row.chosen_accuracy, row.chosen_qwk)
        table.add_row(row.arch, row.start, *("n/a" if value is None else f"{value:.4f}" for value in values))
    table.add_section()
    table.add_row("majority grade", "no pixel read", "", "", f"{report.majority_accuracy:.4f}", "0.0000")
    if report.fellow_eye_accuracy is not None:
        qwk = "n/a" if report.fellow_eye_qwk is None else f"{report.fellow_eye_qwk:.4f}"
        table.add_row("fellow eye's grade", "no pixel read", "", "", f"{report.fellow_eye_accuracy:.4f}", qwk)
    console.print(table)
    _print_files(console, report.run_id, report.files)
    console.print(f"Store  {report.store}; browse with: {report.ui_command}", markup=False)


def warn(text: str | None) -> None:
    """A sentence in red on stderr; nothing for None."""
    if text:
        notes_console().print(text, style="bold red", markup=False, soft_wrap=True)


def _warn_of_collapse(runs: tuple[ComparedRun, ...]) -> None:
    for run in runs:
        if run.collapsed is not None:
            warn(f"COLLAPSED: {run.label} predicts (almost) only grade {run.collapsed}; its accuracy means nothing.")


def _print_files(console: Console, run_id: str, files: tuple[str, ...]) -> None:
    console.print(f"Figures and table in run {run_id}:", markup=False)
    for name in files:
        console.print(f"  {name}", markup=False)
