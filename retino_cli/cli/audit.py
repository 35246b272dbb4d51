"""Printing an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retino_cli.cli.output import data_console, new_table

if TYPE_CHECKING:
    from rich.console import Console

    from retino_cli.data.audit import Audit, PictureAudit
    from retino_cli.data.likeness import Likeness

NAMED = 10
"""How many images a line names before it only counts."""


def print_audit(audit: Audit) -> None:
    """Baselines, leaks, and what the pictures show."""
    from retino_cli.data.audit import PATIENTS_UNKNOWN

    console = data_console()
    table = new_table(
        "split", "majority accuracy", "other eye in train", "fellow-eye accuracy", "fellow-eye QWK",
        title="what scores without a look at a picture",
    )  # fmt: skip
    for one in audit.baselines:
        table.add_row(
            one.split,
            f"{one.majority_accuracy:.1%}",
            "unknown" if one.found is None else f"{one.found} of {one.images} ({one.found / one.images:.1%})",
            "n/a" if one.fellow_eye_accuracy is None else f"{one.fellow_eye_accuracy:.1%}",
            "n/a" if one.fellow_eye_qwk is None else f"{one.fellow_eye_qwk:.3f}",
        )
    console.print(table)
    if audit.pictures is not None:
        _print_pictures(console, audit.pictures)
        _print_likeness(console, audit.pictures.likeness, patients_known=audit.patients_known)
    for sentence in audit.leaks:
        console.print(f"LEAK: {sentence}.", style="bold red", markup=False, soft_wrap=True)
    if audit.patient_leaks:
        console.print("Train without this leak: retino train --split patient", markup=False)
    if audit.shares_pictures:
        console.print("Train without the shared pictures: retino train --duplicates drop", markup=False)
    if not audit.leaks:
        unknown = "" if audit.patients_known else f" {PATIENTS_UNKNOWN}"
        console.print(f"No leak between the splits was found.{unknown}", markup=False)


def _print_pictures(console: Console, pictures: PictureAudit) -> None:
    groups = pictures.identical
    if not pictures.images and not pictures.unreadable:
        console.print("No picture was found to look at.", markup=False)
        return
    console.print(
        f"{pictures.images} pictures were looked at: {len(groups)} groups of identical ones, "
        f"{sum(one.disagrees for one in groups)} with different grades, "
        f"{sum(one.crosses_splits for one in groups)} across splits.",
        markup=False,
    )
    for group in groups[:NAMED]:
        members = ", ".join(
            f"{image_id} ({split}, grade {grade})"
            for image_id, split, grade in zip(group.image_ids, group.splits, group.grades, strict=True)
        )
        marks = "".join(
            text
            for text, holds in ((" DIFFERENT GRADES", group.disagrees), (" ACROSS SPLITS", group.crosses_splits))
            if holds
        )
        console.print(f"  identical: {members}{marks}", markup=False, soft_wrap=True)
    if len(groups) > NAMED:
        console.print(f"  and {len(groups) - NAMED} groups more: --json lists all", markup=False)
    for what, ids in (("unreadable", pictures.unreadable), ("nearly black", pictures.black), ("grey", pictures.grey)):
        if ids:
            more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
            console.print(f"{len(ids)} {what}: {', '.join(ids[:NAMED])}{more}", markup=False, soft_wrap=True)


def _print_likeness(console: Console, found: tuple[Likeness, ...], *, patients_known: bool) -> None:
    if not found:
        return
    table = new_table(
        "split", "images", "nearest in train", "6th to 20th nearest", "difference [95 %]",
        title="how often a picture has the grade of the one whose colours are most like its own",
    )  # fmt: skip
    for one in found:
        interval = f"{100 * one.excess:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        table.add_row(one.split, str(one.images), f"{one.nearest:.1%}", f"{one.farther:.1%}", interval)
    console.print(table)
    if patients_known:
        return
    related = {one.split for one in found if one.shows_patients}
    for split in sorted(related - {"train"}):
        console.print(
            f"LIKELY LEAK: pictures of {split} have the grade of their nearest picture in train too often: it seems to "
            "be the same patient.",
            style="yellow",
            markup=False,
        )
    if "train" in related:
        console.print(
            "Train seems to hold several pictures of a patient, and nothing says which. Images held out of it at "
            "random may then be easier than new patients: "
            "retino train --split likeness keeps most look-alikes together.",
            markup=False,
        )
