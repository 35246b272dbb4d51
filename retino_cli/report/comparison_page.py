"""``make_comparison_page``: one page about a comparison, for people who would rather look than read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from retino_cli.errors import RetinoError
from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.evaluation import OF_A_FILE
from retino_cli.evaluation.stored import StoredPredictions
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.report.comparison_curves import curves_section
from retino_cli.report.comparison_sections import differences_section, matrices_section, verdict_section
from retino_cli.report.disagreements import Part, choose_parts, disagreements_section
from retino_cli.report.markup import Content, Html, element, join
from retino_cli.report.page import Section, render_page, table
from retino_cli.report.photographs import Missing, Photographs, find_manifest, open_photographs
from retino_cli.report.pictures import PictureBudget, encode_photograph
from retino_cli.report.sides import Side, badge, list_sides
from retino_cli.report.sources import read_source
from retino_cli.tracking import Store
from retino_cli.training.events import Listener, ignore
from retino_cli.training.setup import find_checkpoint

_PICTURE_BYTES: Final = 10_000_000
"""Of all photographs in a page, as text."""
_SIDE: Final = 288
_SWITCHED_OFF: Final = "they were left out on demand (--no-images)"
_FILES_ONLY: Final = "a file of predictions does not say where its images lie"


@dataclass(frozen=True)
class PageImages:
    """Data URIs by image id; ``missing`` says why there are none, or fewer than there should be."""

    uris: dict[str, str] = field(default_factory=dict)
    missing: str = ""


def make_comparison_page(
    comparison: Comparison,
    stored: Sequence[StoredPredictions],
    store: Store,
    *,
    images: bool = True,
    listen: Listener = ignore,
) -> Html:
    """The page about ``comparison``, whose runs are ``stored``, in the same order.

    All numbers are those of the comparison. Photographs come from the data set of the first run that still has it;
    where none has, or with ``images`` False, the page is made without and says so.
    """
    sides = list_sides(comparison)
    judged = [one.predictions for one in stored]
    parts = choose_parts(comparison, sides)
    found = PageImages(missing=_SWITCHED_OFF)
    if images:
        found = _find_images(stored, store, parts, listen=listen)
    sections = [
        verdict_section(comparison, sides),
        differences_section(comparison, sides),
        curves_section(comparison, sides, judged),
        matrices_section(comparison, sides),
        disagreements_section(comparison, sides, judged, parts, found.uris, no_pictures=found.missing),
        _origin_section(comparison, sides, stored),
    ]
    return render_page(title=_title(sides), kind="Comparison", lead=_lead(comparison, sides, stored), sections=sections)


def _find_images(
    stored: Sequence[StoredPredictions],
    store: Store,
    parts: Sequence[Part],
    *,
    listen: Listener,
) -> PageImages:
    wanted = _in_turns(parts)
    if not wanted:
        return PageImages()
    reasons: list[str] = []
    for one in stored:
        if one.record is None or one.split == OF_A_FILE:
            reasons.append(_FILES_ONLY)
            continue
        photographs = _open(one, store, wanted, listen=listen)
        if isinstance(photographs, Missing):
            reasons.append(photographs.reason)
            continue
        return _encode(photographs, wanted)
    return PageImages(missing="; ".join(dict.fromkeys(reasons)))


def _open(one: StoredPredictions, store: Store, wanted: Sequence[str], *, listen: Listener) -> Photographs | Missing:
    """The photographs of ``wanted`` as the model of ``one`` saw them."""
    try:
        source = read_source(store, one.source, split=one.split)
        if not source.members:
            return Missing("there is no model, which says how photographs are prepared")
        manifest = find_manifest(source)
        if isinstance(manifest, Missing):
            return manifest
        spec = load_checkpoint(find_checkpoint(store, source.members[0].run_id, "best"))[1].preprocess
    except RetinoError as error:
        return Missing(error.message.rstrip("."))
    return open_photographs(manifest, wanted, spec, workers=None, listen=listen)


def _encode(photographs: Photographs, wanted: Sequence[str]) -> PageImages:
    budget = PictureBudget(_PICTURE_BYTES)
    uris: dict[str, str] = {}
    for image_id in wanted:
        if image_id not in photographs:
            continue
        uri = encode_photograph(photographs.gather([image_id])[0], side=_SIDE)
        if not budget.add(uri):
            return PageImages(uris, f"the page would be too large with more than {len(uris)}")
        uris[image_id] = uri
    lost = len(wanted) - len(uris)
    return PageImages(uris, f"{lost} of {len(wanted)} cannot be read" if lost else "")


def _in_turns(parts: Sequence[Part]) -> list[str]:
    """The ids of what is shown, one of each part in turn: where bytes run out, no part is left out whole."""
    longest = max((len(part.shown) for part in parts), default=0)
    return [part.shown[place].image_id for place in range(longest) for part in parts if place < len(part.shown)]


def _title(sides: Sequence[Side]) -> str:
    names = [side.label for side in sides]
    if len(names) <= 3:
        return " and ".join([", ".join(names[:-1]), names[-1]])
    return f"{names[0]}, {names[1]} and {len(names) - 2} others"


def _lead(comparison: Comparison, sides: Sequence[Side], stored: Sequence[StoredPredictions]) -> Content:
    patients = len({name for name in stored[0].predictions.patient_id.tolist() if name})
    whose = f" of {patients:,} patients" if patients else ""
    data = next((one.record.tags.get("retino.data", "") for one in stored if one.record is not None), "")
    where = ", ".join(part for part in (data, "" if comparison.split == OF_A_FILE else comparison.split) if part)
    images = f"{comparison.n_images:,} images{whose}"
    listed = [element("li", badge(side), " ", side.label, _members(side, comparison)) for side in sides]
    return [
        element("p", element("strong", f"{where}: {images}" if where else images)),
        element("ul", listed, class_="sides"),
    ]


def _members(side: Side, comparison: Comparison) -> Html | None:
    if len(side.members) == 1:
        run_id = comparison.runs[side.members[0]].run_id
        short = run_id[:8] if comparison.runs[side.members[0]].params else ""
        return element("span", f" {short}", class_="muted") if short else None
    return element("span", f" {len(side.members)} runs", class_="muted")


def _origin_section(comparison: Comparison, sides: Sequence[Side], stored: Sequence[StoredPredictions]) -> Section:
    """What differs between the runs, which they are, and the command that makes the page again."""
    letters = {place: side for side in sides for place in side.members}
    body: list[Content] = []
    header: list[Content] = ["", "Name", "Run or file", "Accuracy", "QWK"]
    rows: list[list[Content]] = [
        [
            badge(letters[place]),
            run.label,
            element("code", run.run_id),
            f"{run.metrics['accuracy']:.4f}",
            f"{run.metrics['qwk']:.4f}",
        ]
        for place, run in enumerate(comparison.runs)
    ]
    body.append(table(header, rows, caption="What was compared.", class_="facts"))
    if comparison.differing:
        names: list[Content] = ["Parameter", *(join([badge(side), f" {side.label}"]) for side in sides)]
        lines = [
            [name, *(", ".join(dict.fromkeys(values[place] or "-" for place in side.members)) for side in sides)]
            for name, values in comparison.differing.items()
        ]
        body.append(table(names, lines, caption="Parameters that differ.", class_="facts"))
    elif len(comparison.runs_with_params) > 1:
        body.append(element("p", "The runs have the same parameters."))
    sources = " ".join(shlex.quote(one.source) for one in stored)
    split = "" if comparison.split == OF_A_FILE else f" --split {comparison.split}"
    body += [
        element("p", "This page is made again by:"),
        element("pre", f"retino compare {sources}{split} --html"),
        element(
            "p",
            f"Stored in MLflow as run {comparison.run_id}, folder comparison/: comparison.json has every number, "
            "disagreements.csv every image on which the runs differ, and the figures are there for print.",
        ),
    ]
    return Section("origin", "Where this comes from", body)
