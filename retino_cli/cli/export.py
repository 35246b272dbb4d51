"""``retino export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retino_cli.cli import options as o

if TYPE_CHECKING:
    from retino_cli.export.export import ExportReport


def export(
    run: Annotated[str, typer.Argument(help="Training run, or repeats: id, first characters of it, name, or latest.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File, or folder for mlflow.", show_default="grader.onnx, or grader-mlflow"),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="onnx|mlflow", help="One ONNX file, or a folder that MLflow serves.")
    ] = "onnx",
    sensitivity: o.Sensitivity = None,
    specificity: o.Specificity = None,
    tta: o.Tta = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Export a trained run's best checkpoint for use elsewhere: one ONNX file, or a folder that MLflow serves.

    The file takes prepared pictures, uint8 (batch, 3, size, size), RGB, and gives probabilities, score, grade and
    referable as `predict` does (float32); with --sensitivity or --specificity also refer, whether referable is at least
    the threshold that reaches it on validation. Normalisation and the mean over eight views are inside, and so is a
    description, with the preprocessing. It is compared with the checkpoint on drawn photographs before it is kept.
    `retino predict FILE.onnx IMAGES` uses it without store and run. Of repeats, it holds the networks of all seeds and
    gives their mean.

    The folder has this file and retino's code, takes pictures as their files' bytes, and is served by
    `mlflow models serve --env-manager local --model-uri FOLDER`. Both need the extra onnx.

    Examples:

    retino export latest --out grader.onnx --sensitivity 0.9

    retino export 3f2a91c0 --format mlflow --out grader-mlflow
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.export.export import export_grader

    with Display(quiet=quiet or as_json) as display:
        report = export_grader(
            run,
            out=out or Path("grader-mlflow" if format == "mlflow" else "grader.onnx"),
            format=format,
            tta=tta,
            sensitivity=sensitivity,
            specificity=specificity,
            tracking_uri=tracking_uri,
            listen=display,
        )
    if as_json:
        print_json(report.to_dict())
        return
    for line in _lines(report):
        data_console().print(line, markup=False, soft_wrap=True)


def _lines(report: ExportReport) -> list[str]:
    views = ", mean over eight views" if report.tta else ""
    lines = [
        f"Written: {report.out} ({report.n_bytes / 1e6:.1f} MB; {report.run_name}{views})",
        f"On {report.n_checked} drawn photographs its probabilities differ from the checkpoint's by at most "
        f"{report.largest_difference:.1g}.",
    ]
    if report.trained_difference is not None:
        lines.append(
            f"It computes in float32; in bfloat16, as the run was trained, they differ by up to "
            f"{report.trained_difference:.1g}."
        )
    point = report.operating_point
    if point is not None:
        lines.append(
            f"Refers where referable is at least {point.threshold:.4f}: sensitivity {point.sensitivity:.3f}, "
            f"specificity {point.specificity:.3f} on the {point.n_images} images of validation that it was chosen on."
        )
    if report.format == "mlflow":
        lines.append(f"Serve it: mlflow models serve --env-manager local --port 5001 --model-uri {report.out}")
    else:
        lines.append(f"Use it: retino predict {report.out} IMAGES --out grades.csv")
    return lines
