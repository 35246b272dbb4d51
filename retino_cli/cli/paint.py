"""``retino data paint``: lesions drawn onto the healthy photographs of a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retino_cli.cli import options as o


def paint(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; new, or an earlier painted set.")],
    onto: Annotated[
        Path, typer.Option("--onto", help="Folder or file of the data set whose healthy photographs are painted on.")
    ],
    pictures: Annotated[int, typer.Option("--pictures", help="Pictures to paint.")] = 3000,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures in pixels.")] = 448,
    seed: o.Seed = 0,
    grades: Annotated[
        str, typer.Option("--grade-distribution", help="Shares of the grades 0-4, such as 5,1,2,1,1.")
    ] = "1,1,1,1,1",
    masks: Annotated[
        bool, typer.Option("--masks", help="Write which kinds of lesions are where beside each picture.")
    ] = False,
    duplicates: o.Duplicates = "keep",
    layout: o.Format = None,
    image_column: o.ImageColumn = None,
    label_column: o.LabelColumn = None,
    split_column: o.SplitColumn = None,
    patient_column: o.PatientColumn = None,
    val_fraction: o.ValFraction = 0.0,
    split: o.Splitting = "official",
    split_seed: o.SplitSeed = None,
    workers: o.Workers = None,
    as_json: o.Json = False,
) -> None:
    """Draw lesions onto healthy photographs, for a training before the one on real lesions.

    Backgrounds are the photographs of grade 0 in the training split of --onto, cropped to the retina; lesions follow
    the definition of each grade. No picture of validation or test is used. `retino train` and `retino data inspect`
    read the result without options, and cut validation from it so that no photograph is in both. The same seed and data
    give the same bytes. The licence of the photographs holds for the result. No number on it says anything about a
    clinic.

    Example:

    retino data paint painted --onto idrid --pictures 3000 --size 448
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.config import TrainConfig
    from retino_cli.data.paint import paint_dataset
    from retino_cli.training.events import Preparing

    source = TrainConfig(
        data=onto,
        layout=layout,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        patient_column=patient_column,
        val_fraction=val_fraction,
        split=split,
        split_seed=split_seed,
        seed=seed,
        duplicates=duplicates,
        workers=workers,
    )
    with Display(quiet=as_json) as display:
        made = paint_dataset(
            folder,
            source,
            pictures=pictures,
            size=size,
            grade_distribution=o.parse_shares(grades),
            masks=masks,
            on_prepare=lambda done, total: display(Preparing(done, total)),
            on_paint=lambda done, total: display(Preparing(done, total, "painted", "pictures")),
        )
    if as_json:
        print_json(asdict(made) | {"folder": str(made.folder), "synthetic": True})
        return
    lines = list(made.left_out)
    if made.unusable:
        more = ", ..." if len(made.unusable) > 10 else ""
        lines.append(
            f"{len(made.unusable)} healthy photographs are left out, missing, unreadable or without a visible retina: "
            f"{', '.join(made.unusable[:10])}{more}"
        )
    if made.enlarged:
        lines.append(
            f"{made.enlarged} of {made.photographs} photographs show a retina of less than {made.size} px and were "
            "enlarged: a smaller --size holds as much of them."
        )
    lines.append(
        f"{made.images} PAINTED pictures on {made.photographs} healthy photographs of {made.data} in {folder}"
        + (f", masks in {folder / 'masks'}" if made.masks else "")
        + ("" if made.painted else "; they were there already")
    )
    lines.append(f"Next: retino train --data {folder} --image-size {made.size}")
    data_console().print("\n".join(lines), markup=False, soft_wrap=True)
