"""``retino report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o


def report(
    run: Annotated[str, typer.Argument(help="Training or evaluation: id, first characters of it, name, or latest.")],
    split: o.Split = None,
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("report.html"),
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show photographs and heat maps.")] = True,
    device: o.Device = "auto",
    workers: o.Workers = None,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make one HTML page about a run: to look at, to print, to send.

    It shows the metrics with intervals beside the baselines that read no pixel, a confusion matrix whose cells open
    their images, the worst errors with heat maps, a slider for the referable threshold, curves, what the audit found,
    and how the run was made. The file needs no network and no other file, stays below 15 MB, and is stored in MLflow
    with the run as well. Photographs are downscaled and encoded anew, without the metadata of the originals.

    Examples:

    retino report latest

    retino report 3f2a91c0 --split val --out val.html --no-images
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.report.report import make_report

    with Display(quiet=quiet or as_json) as display:
        made = make_report(
            run,
            split=split,
            out=out,
            images=images,
            device=device,
            workers=workers,
            tracking_uri=tracking_uri,
            listen=display,
        )
    if as_json:
        print_json(made.to_dict())
        return
    console = data_console()
    shown = f"{made.n_pictures:,} of {made.n_images:,} images as pictures, {made.n_heat_maps} heat maps"
    console.print(f"Written: {made.path} ({made.n_bytes / 1e6:.1f} MB; {shown})", markup=False, soft_wrap=True)
    console.print(f"Stored in MLflow as {made.artifact} of run {made.run_id}", markup=False, soft_wrap=True)
