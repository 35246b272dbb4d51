"""``make_report(run)``: one page about one run, for people who would rather look than read."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.data.manifest import Manifest
from retino_cli.errors import RetinoError
from retino_cli.evaluation.grader import Grader, open_grader
from retino_cli.evaluation.predictions import Predictions
from retino_cli.preprocess import PreprocessSpec
from retino_cli.report.cases import CasePicture, errors_section
from retino_cli.report.courses import reliability_section, training_section
from retino_cli.report.headline import collapse_warning, headline_section
from retino_cli.report.markup import Content, element
from retino_cli.report.matrix import cells_data, matrix_section
from retino_cli.report.origin import data_section, origin_section
from retino_cli.report.page import check_place, render_page, write_page
from retino_cli.report.photographs import Missing, Photographs, draw_heat, find_manifest, open_photographs
from retino_cli.report.pictures import PictureBudget, encode_heat, encode_photograph
from retino_cli.report.selection import MOST_SMALL_PICTURES, Cell, Rows, cell_rows, share_out, worst_errors
from retino_cli.report.sources import Source, read_source
from retino_cli.report.threshold import fit_points, threshold_section
from retino_cli.tracking import open_store
from retino_cli.training.events import Listener, Note, ignore

MOST_BYTES: Final = 15_000_000
"""Of a page."""
_PICTURE_BYTES: Final = 12_000_000
"""Of all pictures in it, as text; what is left is more than the rest of a page about a million images takes."""
_LARGE_SIDE: Final = 288
_SMALL_SIDES: Final = ((250, 224), (700, 160), (MOST_SMALL_PICTURES, 128))
"""(up to so many small pictures, their side in pixels)"""
_CHUNK: Final = 64
_SWITCHED_OFF: Final = "they were left out on demand (--no-images)"
ARTIFACT: Final = "report.html"


@dataclass(frozen=True)
class Report:
    """A page that was made: where it lies (``path``, and ``artifact`` of run ``run_id``), its size, and how many of
    ``n_images`` images are in it as pictures, ``n_heat_maps`` of these with a heat map."""

    run_id: str
    run_name: str
    split: str
    path: str
    artifact: str
    n_images: int
    n_pictures: int
    n_heat_maps: int
    n_bytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"notes": list(self.notes)}


def make_report(
    run: str,
    *,
    split: str | None = None,
    out: Path = Path("report.html"),
    images: bool = True,
    device: str = "auto",
    workers: int | None = None,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> Report:
    """Write the page about ``run`` (a training or an evaluation: id, first characters of it, name, latest) to ``out``,
    and store it in MLflow as file SPLIT/report.html of that run.

    Its numbers are those of metrics.json; nothing is predicted again. ``images`` False leaves all pictures out; where
    photographs or the checkpoint are gone, the page is made without and says so.

    Raises RunNotFoundError for an unknown run or split, DataError for files that cannot be read or written, UsageError
    where ``out`` is there and is no page of retino's.
    """
    out = Path(out)
    check_place(out)
    store = open_store(tracking_uri)
    source = read_source(store, run, split=split)
    manifest = find_manifest(source)
    chosen = _choose(source)
    pictures = _Pictures(missing=_SWITCHED_OFF)
    if images:
        pictures = _draw_pictures(
            source, manifest, chosen, device=device, workers=workers, tracking_uri=tracking_uri, listen=listen
        )
    notes = tuple(text for text in (pictures.missing, pictures.no_heat) if text and images)
    for text in notes:
        what = "photographs" if text == pictures.missing else "heat maps"
        listen(Note(f"The report is without {what}: {text}.", "warning"))
    page = _compose(source, manifest, chosen, pictures)
    write_page(page, out)
    folder = source.split or "predictions"
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / ARTIFACT
        write_page(page, copy)
        store.add_file(source.record.run_id, copy, folder)
    return Report(
        run_id=source.record.run_id,
        run_name=source.record.name,
        split=source.split,
        path=str(out),
        artifact=f"{folder}/{ARTIFACT}",
        n_images=len(source.predictions.image_id),
        n_pictures=len({*pictures.small, *pictures.large}),
        n_heat_maps=sum(bool(one.heat) for one in pictures.large.values()),
        n_bytes=out.stat().st_size,
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Rows of the predictions that the page shows."""

    errors: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    cells: dict[Cell, Rows] = field(default_factory=dict)
    listed: dict[Cell, Rows] = field(default_factory=dict)


@dataclass(eq=False)
class _Pictures:
    """Data URIs by row; ``missing`` and ``no_heat`` say why there are none."""

    large: dict[int, CasePicture] = field(default_factory=dict)
    small: dict[int, str] = field(default_factory=dict)
    missing: str = ""
    no_heat: str = ""


def _choose(source: Source) -> _Chosen:
    predictions = source.probabilities
    if predictions is None:
        return _Chosen()
    cells = cell_rows(predictions)
    return _Chosen(worst_errors(predictions), cells, share_out(cells))


def _draw_pictures(
    source: Source,
    manifest: Manifest | Missing,
    chosen: _Chosen,
    *,
    device: str,
    workers: int | None,
    tracking_uri: str | None,
    listen: Listener,
) -> _Pictures:
    """All pictures: the worst errors with their heat maps first, then the cells, as far as the bytes go."""
    predictions = source.probabilities
    if predictions is None:
        return _Pictures(missing="there are no grades to sort them by")
    if isinstance(manifest, Missing):
        return _Pictures(missing=manifest.reason)
    grader, spec = _open_model(source, device=device, tracking_uri=tracking_uri)
    if spec is None:
        return _Pictures(missing="the run has no checkpoint, which says how they were prepared")
    listed = [int(row) for row in _in_turns(chosen.listed)]
    names = {row: str(predictions.image_id[row]) for row in (*chosen.errors.tolist(), *listed)}
    photographs = open_photographs(manifest, list(names.values()), spec, workers=workers, listen=listen)
    if isinstance(photographs, Missing):
        return _Pictures(missing=photographs.reason)
    drawn, budget = _Pictures(), PictureBudget(_PICTURE_BYTES)
    errors = [row for row in chosen.errors.tolist() if names[row] in photographs]
    if errors:
        _draw_errors(drawn, errors, names, photographs, predictions, grader, budget)
    if isinstance(grader, Missing):
        drawn.no_heat = grader.reason
    _draw_cells(drawn, [row for row in listed if names[row] in photographs], names, photographs, budget)
    return drawn


def _open_model(
    source: Source, *, device: str, tracking_uri: str | None
) -> tuple[Grader | Missing, PreprocessSpec | None]:
    if source.training is None:
        return Missing("there is no model, but predictions alone"), None
    try:
        grader = open_grader(source.training.run_id, device=device, tracking_uri=tracking_uri)
    except RetinoError as error:
        return Missing(error.message.rstrip(".")), None
    return grader, grader.spec


def _draw_errors(
    drawn: _Pictures,
    rows: Sequence[int],
    names: Mapping[int, str],
    photographs: Photographs,
    predictions: Predictions,
    grader: Grader | Missing,
    budget: PictureBudget,
) -> None:
    pixels = photographs.gather([names[row] for row in rows])
    heat = grader if isinstance(grader, Missing) else draw_heat(grader, pixels, predictions.predicted[rows])
    if isinstance(heat, Missing):
        drawn.no_heat = heat.reason
    for place, row in enumerate(rows):
        large = encode_photograph(pixels[place], side=_LARGE_SIDE)
        over = "" if isinstance(heat, Missing) else encode_heat(heat[place])
        if budget.add(large + over):
            drawn.large[row] = CasePicture(large, over)


def _draw_cells(
    drawn: _Pictures, rows: Sequence[int], names: Mapping[int, str], photographs: Photographs, budget: PictureBudget
) -> None:
    side = next((side for most, side in _SMALL_SIDES if len(rows) <= most), _SMALL_SIDES[-1][1])
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        for row, pixels in zip(part, photographs.gather([names[row] for row in part]), strict=True):
            uri = encode_photograph(pixels, side=side, quality=75)
            if not budget.add(uri):
                return
            drawn.small[row] = uri


def _in_turns(cells: Mapping[Cell, Rows]) -> list[int]:
    """The rows of all cells, one of each in turn: where bytes run out, no cell is left out whole."""
    longest = max((len(rows) for rows in cells.values()), default=0)
    return [int(rows[place]) for place in range(longest) for rows in cells.values() if place < len(rows)]


def _compose(source: Source, manifest: Manifest | Missing, chosen: _Chosen, pictures: _Pictures) -> Any:
    predictions, document = source.probabilities, source.document
    lacking = source.predictions.lacking
    points = fit_points(source.predictions, source.validation, stored=document.get("operating_point"))
    threshold, data = threshold_section(source.predictions, points, on_validation=source.split == "val")
    if predictions is not None:
        data |= cells_data(predictions, chosen.cells, chosen.listed, pictures.small)
    training = source.training
    sections = [
        headline_section(document, warning=collapse_warning(document)),
        matrix_section(
            document.get("confusion_matrix"),
            openable=predictions is not None,
            lacking=lacking,
            no_pictures=pictures.missing,
        ),
        errors_section(
            predictions,
            chosen.errors,
            pictures.large,
            lacking=lacking,
            no_pictures=pictures.missing,
            no_heat=pictures.no_heat,
        ),
        threshold,
        reliability_section(source.predictions, document),
        training_section(source.history, {} if training is None else training.metrics, n_seeds=len(source.members)),
        data_section(source, manifest),
        origin_section(source),
    ]
    return render_page(title=source.name, kind="Report", lead=_lead(source), sections=sections, data=data)


def _lead(source: Source) -> Content:
    where = f", {source.split}" if source.split else ""
    patients = len({name for name in source.predictions.patient_id.tolist() if name})
    whose = f" of {patients:,} patients" if patients else ""
    arch = "" if source.config is None else f"{source.config.arch}, "
    return [
        element("p", element("strong", f"{source.data}{where}: {len(source.predictions.image_id):,} images{whose}")),
        element("p", f"{arch}run {source.record.run_id[:8]} of {source.record.started:%Y-%m-%d}", class_="muted"),
    ]
