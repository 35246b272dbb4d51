"""``retino runs``."""

from __future__ import annotations

from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.errors import UsageError

NUMBERS = ("epochs", "accuracy", "majority", "QWK", "started")
COLUMNS = {
    "run": 0, "name": 0, "kind": 85, "state": 0, "data": 100, "arch": 115, "epochs": 110, "accuracy": 0, "majority": 80,
    "QWK": 0, "started": 130,
}  # fmt: skip
"""Columns of the table, and from which width of the terminal on they are shown."""
KINDS = ("train", "repeats", "eval", "compare", "confusion", "lab")


def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 20,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="|".join(KINDS), help="Only this kind.", show_default="all")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Only this experiment.", show_default="all")
    ] = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
) -> None:
    """List the latest runs, newest first: kind, state, data, network, accuracy and QWK.

    The numbers are those on test, else on validation; a run that predicts one grade only is marked as collapsed.

    Example:

    retino runs --kind train -n 5
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind} is not known.", f"Choose one of: {', '.join(KINDS)}.")
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, new_table, print_json
    from retino_cli.tracking import open_store

    with Display(quiet=as_json):
        store = open_store(tracking_uri)
        records = store.latest(limit, experiment=experiment, kinds=None if kind is None else (kind,))
    if as_json:
        print_json(
            {
                "store": store.where(),
                "runs": [
                    {
                        "run_id": record.run_id,
                        "name": record.name,
                        "kind": record.kind,
                        "status": record.status,
                        "experiment": record.experiment,
                        "parent": record.parent,
                        "started": record.started.isoformat(),
                        "seconds": record.duration,
                        "data": record.tags.get("retino.data"),
                        "arch": record.params.get("arch"),
                        "epochs": _epochs(record.params.get("epochs")),
                        "epochs_done": _epochs(record.tags.get("retino.epochs_done")),
                        "accuracy": _headline(record.metrics, "accuracy"),
                        "majority_accuracy": _headline(record.metrics, "majority_accuracy"),
                        "qwk": _headline(record.metrics, "qwk"),
                        "collapsed": record.tags.get("retino.collapsed"),
                    }
                    for record in records
                ],
            }
        )
        return
    console = data_console()
    if not records:
        console.print(f"No runs in {store.where()}. Make one with: retino train", markup=False)
        return
    shown = [name for name, least in COLUMNS.items() if console.width >= least]
    table = new_table(*shown)
    for column, name in zip(table.columns, shown, strict=True):
        column.justify = "right" if name in NUMBERS else "left"
        column.min_width = 12 if name == "name" else None
        column.no_wrap = name != "name"  # a long name takes two lines; the numbers stay whole
    for record in records:
        collapsed = record.tags.get("retino.collapsed", "no") not in ("no", "")
        qwk = _format(_headline(record.metrics, "qwk"))
        cells = {
            "run": record.run_id[:8],
            "name": record.name.replace("[", "\\["),
            "kind": record.kind,
            "state": record.status,
            "data": record.tags.get("retino.data", "-"),
            "arch": record.params.get("arch", "-"),
            "epochs": _describe_epochs(record.params.get("epochs"), record.tags.get("retino.epochs_done")),
            "accuracy": _format(_headline(record.metrics, "accuracy")),
            "majority": _format(_headline(record.metrics, "majority_accuracy")),
            "QWK": f"[bold red]{qwk} collapsed[/]" if collapsed else qwk,
            "started": record.started.astimezone().strftime("%Y-%m-%d %H:%M"),
        }
        table.add_row(*(cells[name] for name in shown))
    console.print(table)
    console.print(f"Store  {store.where()}; browse with: {store.ui_command()}", markup=False)


def _epochs(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _describe_epochs(planned: str | None, done: str | None) -> str:
    """``12/30`` for a training that stopped early."""
    return f"{done}/{planned}" if done not in (None, planned) else planned or "-"


def _headline(metrics: dict[str, float], name: str) -> float | None:
    for prefix in ("test", "val_best", "val", "train", "all"):
        if f"{prefix}/{name}" in metrics:
            return metrics[f"{prefix}/{name}"]
    return None


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
