"""``retino confusion``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.figures.formats import figure_formats


def confusion(
    runs: Annotated[
        list[str],
        typer.Argument(help="One or more: id, first characters of it, name, latest, or a file of predictions."),
    ],
    split: o.Split = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the pictures to this folder, too.", show_default="MLflow only")
    ] = None,
    figure_format: o.FigureFormat = o.FIGURE_FORMAT,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
) -> None:
    """Show the confusion matrix of one run, or of several side by side.

    Rows are true grades, columns predicted ones; counts with the share of the row. The pictures (counts and
    row-normalised) are stored in MLflow, and in a folder of your choice.

    Example:

    retino confusion resnet18-scratch-idrid-s0 latest --out figures
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.matrix import ConfusionView
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.evaluation.confusion_report import draw_confusions
    from retino_cli.evaluation.evaluation import OF_A_FILE

    with figure_formats(figure_format), Display(quiet=as_json):
        report = draw_confusions(runs, split=split, out=out, tracking_uri=tracking_uri)
    if as_json:
        print_json(report.to_dict())
        return
    console = data_console()
    for (name, matrix), split in zip(report.matrices, report.splits, strict=True):
        console.print(ConfusionView(name if split == OF_A_FILE else f"{name}, {split}", matrix))
        console.print()
    console.print(f"Pictures are stored as run {report.run_id}, folder {report.split}/", markup=False)
    for path in report.files:
        console.print(f"Written: {path}", markup=False)
