"""``retino explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retino_cli.cli import options as o

if TYPE_CHECKING:
    from retino_cli.explain.explain import ExplanationReport


def explain(
    run: Annotated[str, typer.Argument(help="Training run, or repeats: id, first characters of it, name, or latest.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders, CSV files that name images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("explained"),
    target: Annotated[
        str, typer.Option("--target", metavar="predicted|referable|0..4", help="Which score the heat explains.")
    ] = "predicted",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first so many images.", show_default="all")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Longer side of the photograph, at most, in pixels.")] = 1024,
    image_format: Annotated[
        str, typer.Option("--image-format", metavar="jpeg|png", help="Format of the overlays.")
    ] = "jpeg",
    maps: Annotated[
        str, typer.Option("--maps", metavar="none|npy|png", help="Write the maps themselves, too.")
    ] = "none",
    legend: Annotated[bool, typer.Option("--legend/--no-legend", help="Draw a legend below each photograph.")] = True,
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
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    tta: o.Tta = None,
    workers: o.Workers = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Show where in each image a trained run sees what speaks for its grade: Grad-CAM heat maps over the photographs.

    The folder gets NAME.gradcam.jpg for each image, the whole photograph with blue heat, and explain.csv: prediction
    (as `predict` makes it), the hottest pixel and the box that the model saw in pixels of the original, the share of
    the heat inside the round field. Heat is what raises the score of --target: the logit of the predicted grade, or of
    the grade named, or the log-odds of referable DR. It is relative within each image, about 32 pixels of the model's
    input coarse (8 with the 3x3 stem), of the picture as it lies (not of the eight views of --tta), and computed in
    float32. --maps writes the map of the model's square input, from 0 to 1: float32 (npy), or 16 bits of grey (png).
    Of repeats, the map is the mean over the seeds. Files that cannot be read have a row with an error. Nothing is
    stored in MLflow.

    Examples:

    retino explain latest photographs --out heat

    retino explain 3f2a91c0 list.csv --images photographs --target referable --limit 20
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.explain.drawing import ExplainOptions
    from retino_cli.explain.explain import explain_images

    with Display(quiet=quiet or as_json) as display:
        report = explain_images(
            run,
            sources,
            out=out,
            options=ExplainOptions(
                target=target,  # type: ignore[arg-type] # any text: it is checked there, as are the formats
                size=size,
                picture_format=image_format,  # type: ignore[arg-type]
                map_format=maps,  # type: ignore[arg-type]
                legend=legend,
            ),
            limit=limit,
            image_column=image_column,
            images=images,
            device=device,
            precision=precision,
            tta=tta,
            workers=workers,
            tracking_uri=tracking_uri,
            listen=display,
        )
        for text in _warnings(report):
            display.note(text, warning=True)
    if as_json:
        print_json(report.to_dict())
    else:
        data_console().print(_summary(report), markup=False, soft_wrap=True)
    if report.errors and (strict or report.errors == report.images):
        raise typer.Exit(1)


def _warnings(report: ExplanationReport) -> list[str]:
    texts = []
    if report.errors:
        examples = "".join(f"\n  {example}" for example in report.examples)
        more = f"\n  and {report.errors - len(report.examples)} more" if report.errors > len(report.examples) else ""
        texts.append(
            f"{report.errors} of {report.images} images have no heat map (column error says why):{examples}{more}"
        )
    if report.empty:
        texts.append(f"{report.empty} of {report.images} heat maps are empty: nothing there raises the score.")
    return texts


def _summary(report: ExplanationReport) -> str:
    rate = report.images / report.seconds if report.seconds else 0.0
    text = f"{report.images} images by {report.run_name}, {rate:.1f} a second: {report.out}"
    if report.in_field is not None:
        text += f"\n{report.in_field:.1%} of the heat is inside the field (mean)"
    if report.tta:
        text += "\nProbabilities are means of eight views, heat maps of the picture as it lies."
    return text
