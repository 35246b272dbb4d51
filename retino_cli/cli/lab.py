"""``retino lab``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.config import TrainConfig
from retino_cli.figures.formats import figure_formats

D = TrainConfig


def lab(
    data: o.Data = D.data,
    layout: o.Format = D.layout,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training images, for each model.")] = 10,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", help="Side of the input in pixels.", show_default="512, or the images'"),
    ] = None,
    weights_resnet18: Annotated[
        Path | None,
        typer.Option("--weights-resnet18", help="ImageNet weights as a file.", show_default="torchvision's"),
    ] = None,
    weights_resnet50: Annotated[
        Path | None,
        typer.Option("--weights-resnet50", help="ImageNet weights as a file.", show_default="torchvision's"),
    ] = None,
    scratch_only: Annotated[
        bool, typer.Option("--scratch-only", help="Only the two models that start from random weights.")
    ] = False,
    val_fraction: o.ValFraction = D.val_fraction,
    split: o.Splitting = D.split,
    skip_unreadable: o.SkipUnreadable = D.skip_unreadable,
    seed: o.Seed = D.seed,
    device: o.Device = D.device,
    precision: o.Precision = D.precision,
    workers: o.Workers = D.workers,
    experiment: o.Experiment = "lab",
    figure_format: o.FigureFormat = o.FIGURE_FORMAT,
    tracking_uri: o.TrackingUri = D.tracking_uri,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the course lab's whole report: ResNet18 and ResNet50, with and without ImageNet weights.

    Trains the four by the lab's recipe as child runs of one, and writes the two comparison figures, the confusion
    matrices and the table of highest accuracies, with the majority and the fellow-eye baseline in it. Repeat the
    command after an interruption: what is finished is not trained again.

    Example:

    retino lab --data data --epochs 10
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.results import print_lab
    from retino_cli.lab import run_lab

    config = TrainConfig(
        data=data,
        layout=layout,
        recipe="lab",
        epochs=epochs,
        image_size=image_size,
        val_fraction=val_fraction,
        split=split,
        skip_unreadable=skip_unreadable,
        seed=seed,
        device=device,
        precision=precision,
        workers=workers,
        experiment=experiment,
        tracking_uri=tracking_uri,
    )
    named = {"resnet18": weights_resnet18, "resnet50": weights_resnet50}
    weights = {arch: path for arch, path in named.items() if path is not None}
    with figure_formats(figure_format), Display(quiet=quiet or as_json) as display:
        report = run_lab(config, weights=weights, scratch_only=scratch_only, listen=display)
    print_lab(report, as_json=as_json)
