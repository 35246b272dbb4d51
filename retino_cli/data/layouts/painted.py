"""Photographs with lesions drawn onto them, as ``retino data paint`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from retino_cli.data.labels import LabelPart
from retino_cli.data.layouts.base import Layout, Site
from retino_cli.data.tables import read_table

COLUMNS: Final = ("image", "grade", "patient", "photograph")
"""``photograph``: the image id of the background in its own data set; ``patient``: who is on it, so far as known."""


def _find_painted(site: Site) -> list[Path]:
    return site.with_columns(*COLUMNS)


def _read_painted(files: list[Path], site: Site) -> list[LabelPart]:
    parts = []
    for file in files:
        table = read_table(file, wanted=COLUMNS)
        names, grades, patients = (table.columns[name] for name in COLUMNS[:3])
        parts.append(LabelPart(file, names, grades, "train", table.lines, patient_id=patients))
    return parts


PAINTED = Layout(
    "painted",
    "painted.csv (image, grade, patient, photograph)",
    _find_painted,
    _read_painted,
    preferred=".jpeg",
)
