"""``retino eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o


def evaluate(
    run: Annotated[str, typer.Argument(help="Training run: id, first characters of it, name, or latest.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Another data set.", show_default="the one it was trained on"),
    ] = None,
    layout: o.Format = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val|train|all", help="Which images.")] = "test",
    skip_unreadable: o.SkipUnreadable = False,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    workers: o.Workers = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Evaluate a trained run's best checkpoint on a split, of its own data or of another data set.

    Preprocessing comes from the checkpoint. Metrics, predictions and confusion matrices are stored in MLflow as a run
    of their own, below the training. Accuracy stands beside the baselines that read no pixel.

    Examples:

    retino eval latest

    retino eval 3f2a91c0 --data messidor2 --split all --json
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.results import print_evaluation
    from retino_cli.evaluation.evaluate import evaluate as run_evaluation

    with Display(quiet=quiet or as_json) as display:
        evaluation = run_evaluation(
            run,
            data=data,
            layout=layout,
            split=split,
            device=device,
            precision=precision,
            workers=workers,
            skip_unreadable=skip_unreadable,
            tracking_uri=tracking_uri,
            listen=display,
        )
    print_evaluation(evaluation, as_json=as_json)
