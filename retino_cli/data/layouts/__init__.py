"""Recognising how a data set is laid out on disk, and reading its labels.

Where to change what: the readers, one per layout, are in ``kaggle``, ``clinical``, ``arrays``, ``painted``,
``folders`` and ``columns``; a new layout is a ``Layout`` in one of them and an entry in the tuple below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retino_cli.data.labels import ColumnNames, LabelPart
from retino_cli.data.layouts.arrays import MEDMNIST
from retino_cli.data.layouts.base import Layout, Site
from retino_cli.data.layouts.clinical import DDR, DEEPDRID, IDRID, MESSIDOR2
from retino_cli.data.layouts.columns import find_csv, read_csv
from retino_cli.data.layouts.folders import FOLDERS
from retino_cli.data.layouts.kaggle import APTOS, EYEPACS, LAB
from retino_cli.data.layouts.painted import PAINTED
from retino_cli.data.tables import read_header
from retino_cli.data.tree import FolderTree
from retino_cli.errors import DataError, UsageError

_KNOWN: Final = (LAB, EYEPACS, APTOS, IDRID, MESSIDOR2, DEEPDRID, DDR, MEDMNIST, PAINTED, FOLDERS)
_CSV: Final = "csv"
_SEARCH_DEPTH: Final = 3
_SHOWN: Final = 8

LAYOUTS: Final[tuple[str, ...]] = (*(layout.name for layout in _KNOWN), _CSV)
"""Every name that ``layout=`` (``--format``) takes."""


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The label files of one data set, read: by which layout, from where."""

    layout: str
    site: Site
    files: tuple[Path, ...]
    parts: tuple[LabelPart, ...]
    preferred: str = ""
    one_name_one_image: bool = False


def read_labels(
    path: Path, *, tree: FolderTree, layout: str | None = None, columns: ColumnNames | None = None
) -> LabelSet:
    """Recognise the data set at ``path`` (a folder or a label file) and read its labels.

    A folder that holds a data set is that data set, whatever lies below it; otherwise the folders up to three levels
    below are looked at.

    Args:
        path: folder or file, resolved.
        tree: folder listings, shared with the search for images.
        layout: one of ``LAYOUTS``; None: recognise it.
        columns: the columns of a CSV file; means layout "csv".

    Raises:
        UsageError: ``layout`` is unknown, or does not go with ``columns``.
        DataError: nothing is there, nothing is recognised, more than one data set is, or a label file is wrong.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(
            f"--format {layout}: no such layout; layouts are {', '.join(LAYOUTS)}",
            "choose one of these, or leave --format out: the layout is then recognised",
        )
    if columns is not None and layout not in (None, _CSV):
        raise UsageError(f"--image-column and --label-column belong to --format csv, not to --format {layout}")
    if columns is None and layout == _CSV:
        raise UsageError("--format csv needs --image-column NAME and --label-column NAME")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint=_nearest(path))
    if path.is_dir() and not (held := tree.listing(path)).files and not held.folders:
        raise DataError(f"{path}: the folder is empty", hint="name the folder that holds the label file and the images")
    only = None if path.is_dir() else path
    site = Site(path if only is None else path.parent, tree, only)
    if columns is not None:
        files = find_csv(site)
        return LabelSet(_CSV, site, tuple(files), tuple(read_csv(files, columns)))
    known, where, files = _recognise(site, [one for one in _KNOWN if layout in (None, one.name)], path, layout)
    parts = known.read(files, where)
    return LabelSet(known.name, where, tuple(files), tuple(parts), known.preferred, known.one_name_one_image)


def _recognise(site: Site, layouts: list[Layout], path: Path, forced: str | None) -> tuple[Layout, Site, list[Path]]:
    matches: list[tuple[Layout, Site, list[Path]]] = []
    level = [site.folder]
    for _ in range(1 if site.only is not None else _SEARCH_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            place = Site(folder, site.tree, site.only)
            here = [(layout, place, files) for layout in layouts if (files := layout.find(place))]
            matches += here
            if not here:
                below += [folder / name for name in site.tree.listing(folder).folders]
        level = below
    if len(matches) == 1:
        return matches[0]
    raise _ambiguous(path, matches) if matches else _unrecognised(path, layouts, site, forced)


def _ambiguous(path: Path, matches: list[tuple[Layout, Site, list[Path]]]) -> DataError:
    folders = list(dict.fromkeys(place.folder for _, place, _ in matches))
    if len(folders) > 1:
        listed = "; ".join(f"{place.folder} ({layout.name})" for layout, place, _ in matches[:_SHOWN])
        more = f"; and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        return DataError(f"{path}: holds {len(matches)} data sets: {listed}{more}", hint="name one of these folders")
    listed = "; ".join(f"{layout.name} ({', '.join(file.name for file in files)})" for layout, _, files in matches)
    names = " or ".join(f"--format {layout.name}" for layout, _, _ in matches)
    return DataError(f"{folders[0]}: reads like more than one layout: {listed}", hint=f"say which: {names}")


def _unrecognised(path: Path, layouts: list[Layout], site: Site, forced: str | None) -> DataError:
    if site.only is not None:
        header = [name for name in read_header(site.only) if name]
        holds = f"its first line: {', '.join(header[:_SHOWN])}" if header else "it is empty or no text"
    else:
        held = site.tree.listing(site.folder)
        entries = [f"{name}/" for name in held.folders] + list(held.files)
        more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
        holds = f"it holds {', '.join(entries[:_SHOWN])}{more}"
    what = f"not laid out as {forced}" if forced else "no known layout of labels"
    looked = "".join(f"\n  {layout.name}: {layout.looks_for}" for layout in layouts)
    others = f"--format takes {', '.join(LAYOUTS)}; " if forced else "--format NAME forces a layout; "
    return DataError(
        f"{path}: {what}; {holds}.\nLooked for:{looked}",
        hint=f"{others}any CSV file can be read with --image-column NAME --label-column NAME",
    )


def _nearest(path: Path) -> str:
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    return f"the nearest folder that exists is {parent}"
