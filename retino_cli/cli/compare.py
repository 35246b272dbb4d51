"""``retino compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.errors import UsageError
from retino_cli.figures.formats import figure_formats


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: id, first characters of it, name, latest, or a file; repeats stand for their seeds."
        ),
    ],
    split: o.Split = None,
    html: Annotated[
        bool, typer.Option("--html", help="Also make a page to look at, in the file that --out names.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="File of the page; implies --html.", show_default="comparison.html")
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show photographs in the page.")] = True,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            help="Parameters, with commas: runs that agree on them make a group; or config: all but the seed.",
            show_default="repeats are groups",
        ),
    ] = None,
    figure_format: o.FigureFormat = o.FIGURE_FORMAT,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
) -> None:
    """Compare runs, or files of predictions, on the same images, and say whether the data can tell them apart.

    Every difference is paired by image and has a 95 % interval (by patient where patients are known), with McNemar's
    test for accuracy and DeLong's for AUC, adjusted by Holm over more than two. Nothing is predicted again: the stored
    predictions are used, by default those on test. Runs that were judged on other images are refused. Tables, figures
    and the images on which the runs disagree go to MLflow.

    --html makes one page of it, which needs no network and no other file: the verdict, the differences with their
    intervals, curves and confusion matrices of both, and the images on which they disagree, side by side.

    Examples:

    retino compare resnet18-scratch-idrid-s0 resnet50-scratch-idrid-s0

    retino compare RUN1 RUN2 RUN3 RUN4 --group-by config

    retino compare REPEATS1 REPEATS2

    retino compare latest theirs.csv --html --out theirs.html
    """
    page = (out or Path("comparison.html")) if html or out is not None else None
    if page is None and not images:
        raise UsageError("--no-images is about the page, and none is asked for.", "Add --html.")
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console
    from retino_cli.cli.results import print_comparison
    from retino_cli.evaluation.compare import compare as run_comparison

    with figure_formats(figure_format), Display(quiet=as_json) as display:
        comparison = run_comparison(
            runs,
            split=split,
            group_by=group_by,
            html=page,
            images=images,
            tracking_uri=tracking_uri,
            listen=display,
        )
    print_comparison(comparison, as_json=as_json)
    if page is not None and not as_json:
        console = data_console()
        console.print(f"Written: {page} ({page.stat().st_size / 1e6:.1f} MB)", markup=False, soft_wrap=True)
