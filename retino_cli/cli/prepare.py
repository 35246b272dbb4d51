"""``retino data prepare`` and ``retino data cache``: prepared images, made and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.config import CROPS, TrainConfig
from retino_cli.recipes import RECIPES

D = TrainConfig


def prepare(
    path: Annotated[Path, typer.Argument(help="Folder or file of the data set.")],
    layout: o.Format = D.layout,
    image_column: o.ImageColumn = D.image_column,
    label_column: o.LabelColumn = D.label_column,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="|".join(RECIPES),
            help="Recipe of the training to come.",
            show_default="by size and number of the images",
        ),
    ] = D.recipe,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Side of the input in pixels.", show_default=o.FROM_RECIPE)
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option("--crop", metavar="|".join(CROPS), help="What is cut away.", show_default=o.FROM_RECIPE),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Keep a new set of images as lossless WebP: about a third of the size.")
    ] = False,
    skip_unreadable: o.SkipUnreadable = D.skip_unreadable,
    workers: o.Workers = D.workers,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Decode a data set ahead of a training, once, into the cache.

    A training does this by itself; this is for doing it beforehand, or where no training runs. Size and crop are those
    that `retino train` with the same recipe would use on this data. It may be stopped at any moment and goes on where
    it was. The data set is not changed; the cache is RETINO_CACHE, else the user's cache folder.

    Images are kept as raw pixels, which a training reads without decoding; where these would not fit on the disk, or
    with --compact, as lossless WebP. The pixels are the same, and so are all results.

    Example:

    retino data prepare data --image-size 224
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.training.preparation import prepare_data

    config = TrainConfig(
        data=path,
        layout=layout,
        image_column=image_column,
        label_column=label_column,
        recipe=recipe,
        image_size=image_size,
        crop=crop,
        skip_unreadable=skip_unreadable,
        workers=workers,
    )
    with Display(quiet=quiet or as_json) as display:
        done = prepare_data(config, compact=compact, listen=display)
    if as_json:
        print_json(done.to_dict())
        return
    lines = [
        f"{done.images} images of {done.data} at {done.spec.image_size} px, crop {done.spec.crop}: {done.decoded} "
        f"decoded in {done.seconds:.1f} s, {done.images - done.decoded} there already.",
        f"{done.bytes / 1e6:,.1f} MB in {done.folder}",
        f"Format {done.why}",
    ]
    if done.fallbacks:
        lines.append(f"No retina was found in {done.fallbacks} images: they are kept uncropped.")
    if done.unreadable:
        lines.append(f"{len(done.unreadable)} left out, missing or unreadable: {', '.join(done.unreadable)}")
    data_console().print("\n".join(lines), markup=False, soft_wrap=True)


def cache(
    clear: Annotated[
        list[str] | None,
        typer.Option(
            "--clear", help="Delete this one (name, data set or all); repeatable.", show_default="delete nothing"
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """List the prepared images in the cache, or delete some.

    One line per data set and preprocessing. What is deleted is made again when it is needed. A folder that a process
    is writing is left alone, and so is everything that retino has not made.

    Examples:

    retino data cache

    retino data cache --clear idrid
    """
    from retino_cli.cache import cache_root
    from retino_cli.cli.output import data_console, new_table, notes_console, print_json
    from retino_cli.data.cache_folders import clear_cache, list_cache

    if clear:
        cleared = clear_cache(clear)
        for name in cleared.busy:
            notes_console().print(f"{name} is being written by another process, and was left.", style="bold red")
        if as_json:
            print_json({"removed": [one.to_dict() for one in cleared.removed], "busy": list(cleared.busy)})
        else:
            data_console().print(f"{len(cleared.removed)} deleted, {cleared.bytes / 1e6:,.1f} MB freed.")
        return
    folders = list_cache()
    if as_json:
        print_json({"cache": str(cache_root()), "folders": [one.to_dict() for one in folders]})
        return
    console = data_console()
    console.print(f"{len(folders)} sets of prepared images in {cache_root()}", markup=False, soft_wrap=True)
    if folders:
        table = new_table("name", "data set", "size", "crop", "format", "images", "MB", "last use")
        for one in folders:
            size, crop = one.spec.get("image_size", "unknown"), one.spec.get("crop", "unknown")
            used = f"{one.last_used:%Y-%m-%d %H:%M}"
            numbers = str(one.images), f"{one.bytes / 1e6:,.1f}"
            table.add_row(one.name, one.root, str(size), str(crop), one.format or "unknown", *numbers, used)
        console.print(table)
        console.print("Delete one: retino data cache --clear NAME", markup=False)
