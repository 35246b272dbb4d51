"""``retino data``: look at a data set, prepare it, draw a synthetic one, or draw lesions onto a healthy one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retino_cli.cli import options as o
from retino_cli.cli import paint, prepare
from retino_cli.grades import SHORT_GRADE_NAMES

if TYPE_CHECKING:
    from retino_cli.data.audit import Audit
    from retino_cli.data.inspect import Inspection, SplitSummary

app = typer.Typer(
    help="Look at a data set, prepare it, or draw one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("prepare")(prepare.prepare)
app.command("cache")(prepare.cache)


@app.command("inspect")
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder or file of the data set.")],
    layout: o.Format = None,
    image_column: o.ImageColumn = None,
    label_column: o.LabelColumn = None,
    split_column: o.SplitColumn = None,
    patient_column: o.PatientColumn = None,
    val_fraction: o.ValFraction = 0.1,
    split: o.Splitting = "official",
    seed: o.Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Do not look at the pictures.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with exit code 1 where a split leaks.")] = False,
    leaks_to: Annotated[
        Path | None,
        typer.Option("--leaks-to", help="Write the leaking images to this CSV.", show_default="not written"),
    ] = None,
    workers: o.Workers = None,
    as_json: o.Json = False,
) -> None:
    """Report what a data set holds, and what is wrong with it.

    Images per split and grade, missing and ungradable ones, patients; patients in more than one split, identical
    pictures within and across splits, unreadable, nearly black and grey pictures; and what each split scores without a
    look at a picture (the most frequent grade; the grade of the patient's other eye). The layout is recognised, or
    named with --format. The data set is not changed.

    Example:

    retino data inspect data --strict
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import print_json
    from retino_cli.config import TrainConfig
    from retino_cli.data.audit import audit_manifest, audit_pictures, write_leaks
    from retino_cli.data.configured import read_manifest
    from retino_cli.data.inspect import inspect_manifest
    from retino_cli.training.events import Preparing

    config = TrainConfig(
        data=path,
        layout=layout,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        patient_column=patient_column,
        val_fraction=val_fraction,
        split=split,
        seed=seed,
    )
    manifest = read_manifest(config)
    inspection = inspect_manifest(manifest)
    audit = audit_manifest(manifest)
    if not quick:
        with Display(quiet=as_json) as display:
            pictures = audit_pictures(
                manifest, workers=workers, on_progress=lambda done, total: display(Preparing(done, total))
            )
        audit = replace(audit, pictures=pictures)
    if leaks_to is not None:
        write_leaks(audit, leaks_to)
    if as_json:
        print_json(inspection.to_dict() | {"audit": audit.to_dict()})
    else:
        _print_all(inspection, audit)
    if strict and audit.leaks:
        raise typer.Exit(1)


def _print_all(inspection: Inspection, audit: Audit) -> None:
    from retino_cli.cli.audit import print_audit
    from retino_cli.cli.output import data_console

    console = data_console()
    console.print(f"{inspection.name}: layout {inspection.layout}, {inspection.root}", markup=False)
    _print_inspection(inspection)
    print_audit(audit)


@app.command("synth")
def synth(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; new, or an earlier synthetic set.")],
    patients: Annotated[int, typer.Option("--patients", help="Patients; each has two eyes.")] = 100,
    size: Annotated[int, typer.Option("--size", help="Side of the photographs in pixels.")] = 512,
    seed: o.Seed = 0,
    test_fraction: Annotated[float, typer.Option("--test-fraction", help="Share of the patients in test.")] = 0.2,
    grades: Annotated[
        str | None,
        typer.Option(
            "--grade-distribution", help="Shares of the grades 0-4, such as 1,1,1,1,1.", show_default="as in EyePACS"
        ),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Write a mask of the lesions beside each photograph.")] = False,
    workers: o.Workers = None,
    as_json: o.Json = False,
) -> None:
    """Draw synthetic fundus photographs in the EyePACS layout, for trying things out.

    Round field, optic disc, macula, vessels, and lesions by the definition of each grade; grades distributed as in
    EyePACS. The same seed gives the same bytes. No number on them says anything about a clinic.

    Example:

    retino data synth data --patients 200 --size 256 --seed 1
    """
    from retino_cli.cli.display import Display
    from retino_cli.cli.output import data_console, print_json
    from retino_cli.data.synth import write_dataset
    from retino_cli.training.events import Preparing

    with Display(quiet=as_json) as display:
        made = write_dataset(
            folder,
            patients=patients,
            size=size,
            seed=seed,
            grade_distribution=None if grades is None else o.parse_shares(grades),
            test_fraction=test_fraction,
            masks=masks,
            workers=workers,
            on_progress=lambda done, total: display(Preparing(done, total, "drawn", "synthetic photographs")),
        )
    if as_json:
        print_json(
            {
                "folder": str(made.folder),
                "patients": made.patients,
                "size": made.size,
                "seed": made.seed,
                "images": made.images,
                "drawn": made.drawn,
                "grades": {split: list(counts) for split, counts in made.grade_counts.items()},
                "synthetic": True,
            }
        )
        return
    console = data_console()
    console.print(f"{made.images} SYNTHETIC photographs of {patients} patients in {folder}", markup=False)
    console.print(f"Next: retino data inspect {folder}", markup=False)


def _print_inspection(inspection: Inspection) -> None:
    from retino_cli.cli.output import data_console, new_table

    console = data_console()
    grades = [f"{k} {name}" for k, name in enumerate(SHORT_GRADE_NAMES)]
    table = new_table(
        "split", "images", *grades, "found", "missing", "ungradable", "patients", "majority", title="as read"
    )
    for row in (*inspection.official, inspection.total):
        table.add_row(*_cells(row))
    console.print(table)
    if inspection.is_cut:
        table = new_table("split", "images", *grades, "majority", title=f"as used; validation {inspection.validation}")
        for row in inspection.splits:
            cells = _cells(row)
            table.add_row(*cells[:7], cells[-1])
        console.print(table)
    else:
        console.print(f"Validation: {inspection.validation}.", markup=False)
    if inspection.total.missing:
        names = ", ".join(inspection.missing_names)
        console.print(f"No file was found for {inspection.total.missing} images, such as {names}.", markup=False)
    if inspection.duplicates:
        console.print(f"{inspection.duplicates} names occur more than once with the same grade; counted once.")
    console.print(f"Fingerprint {inspection.fingerprint}, split {inspection.split_fingerprint}", markup=False)


def _cells(row: SplitSummary) -> list[str]:
    return [
        row.split,
        str(row.images),
        *(str(count) for count in row.grades),
        str(row.found),
        str(row.missing),
        "-" if row.ungradable is None else str(row.ungradable),
        str(row.patients) if row.patients else "unknown",
        f"{row.majority_share:.1%}",
    ]


# Last, so that it stands below `synth` in the list of commands.
app.command("paint")(paint.paint)
