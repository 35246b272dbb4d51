"""``retino compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from retino_cli.cli import options as o


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more: id, first characters of it, name, or latest.")],
    split: o.Split = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
) -> None:
    """Compare runs side by side: parameters that differ, metrics with the best marked, accuracy by epoch.

    Nothing is predicted again: the predictions that the runs have stored are used, by default those on test. Runs that
    were judged on other images or other grades are refused. The figures go to MLflow as a run of kind compare.

    Example:

    retino compare resnet18-scratch-idrid-s0 resnet50-scratch-idrid-s0
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.results import print_comparison
    from retino_cli.evaluation.compare import compare as run_comparison

    with Display(quiet=as_json):
        comparison = run_comparison(runs, split=split, tracking_uri=tracking_uri)
    print_comparison(comparison, as_json=as_json)
