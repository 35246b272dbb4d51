"""``retino predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.errors import UsageError

if TYPE_CHECKING:
    from retino_cli.evaluation.prediction import PredictionReport


def predict(
    run: Annotated[
        str,
        typer.Argument(help="Training run, or repeats: id, first characters, name, latest; or an exported FILE.onnx."),
    ],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, CSV files that name images.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="File: .csv, .jsonl or .parquet; - writes CSV to stdout.")
    ] = "predictions.csv",
    image_column: Annotated[
        str | None,
        typer.Option("--image-column", help="Column of a CSV that names the images.", show_default="recognised"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder that a CSV's names are relative to.", show_default="the CSV's folder"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 1 where an image cannot be read.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do part I, from 0, of N.", show_default="torchrun's or srun's"),
    ] = None,
    sensitivity: o.Sensitivity = None,
    specificity: o.Specificity = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    tta: o.Tta = None,
    workers: o.Workers = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Predict images without known grades, with a trained run's best checkpoint or an exported file.

    One row per image, in the order of the input: image, p0 to p4 (probability of each grade), score (expected grade,
    0-4), grade (the most probable), referable (p2 + p3 + p4), refer, error. With --sensitivity or --specificity, refer
    is true where referable is at least the threshold that reaches it on the training's validation images; an exported
    file has its own threshold or none. A file that cannot be read has a row that says why and no numbers; the exit
    code is 1 only with --strict, or where nothing could be read. A folder is searched with its subfolders.
    Preprocessing comes from the checkpoint. Of repeats (`train --repeats`), the answer is the mean of all seeds'
    probabilities. The file appears when all is done.

    Many images can be shared out: each process of torchrun or srun, or --shard 0/4 to 3/4, writes its part beside the
    file; whoever is last puts them together. After a stop, run the same again: finished parts are kept.

    Examples:

    retino predict latest photographs --out grades.csv

    retino predict 3f2a91c0 list.csv --images photographs --out grades.parquet --shard 0/4
    """
    if as_json and out == "-":
        raise UsageError("--json and --out - both write to stdout.", "Give --out a file.")
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.evaluation.prediction import predict_images
    from retino_cli.evaluation.shards import Shard

    with Display(quiet=quiet or as_json) as display:
        report = predict_images(
            run,
            sources,
            out=sys.stdout if out == "-" else out,
            image_column=image_column,
            images=images,
            shard=None if shard is None else Shard.parse(shard),
            device=device,
            precision=precision,
            tta=tta,
            sensitivity=sensitivity,
            specificity=specificity,
            workers=workers,
            tracking_uri=tracking_uri,
            listen=display,
        )
        if report.errors:
            display.note(_errors(report), warning=True)
    if as_json:
        print_json(report.to_dict())
    elif out != "-":
        data_console().print(_summary(report), markup=False, soft_wrap=True)
    if report.errors and (strict or report.errors == report.images):
        raise typer.Exit(1)


def _errors(report: PredictionReport) -> str:
    examples = "".join(f"\n  {example}" for example in report.examples)
    more = f"\n  and {report.errors - len(report.examples)} more" if report.errors > len(report.examples) else ""
    if report.errors == report.images:
        more += "\nIf the images lie elsewhere, name their folder; for a CSV, with --images."
    return f"{report.errors} of {report.images} images have no prediction (column error says why):{examples}{more}"


def _summary(report: PredictionReport) -> str:
    if report.already_there:
        text = f"{report.images} images were predicted before: {report.out}"
    else:
        rate = report.images / report.seconds if report.seconds else 0.0
        text = f"{report.images} images by {report.run_name}, {rate:.1f} a second: {report.out}"
    if report.threshold is not None:
        text += f"\nOperating point: refer where referable is at least {report.threshold:.4f}"
        if report.referred is not None:
            text += f"; {report.referred} are to be referred"
    return text + (f"\nAll parts are there: {report.merged}" if report.merged else "")
