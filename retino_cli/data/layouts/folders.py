"""Grade folders: ``<split>/<grade or name>/<image>`` or ``<grade or name>/<image>``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from retino_cli.data.images import is_image, split_extension
from retino_cli.data.labels import GRADE_CHOICES, LabelPart, parse_grade
from retino_cli.data.layouts.base import Layout, Site
from retino_cli.data.tree import FolderTree, split_in_name
from retino_cli.errors import DataError


def _find_folders(site: Site) -> list[Path]:
    """Return the folders whose subfolders are grades: the site itself, or its splits."""
    if site.only is not None:
        return []
    if _is_graded(site.folder, site.tree):
        return [site.folder]
    splits = [site.folder / name for name in site.tree.listing(site.folder).folders if split_in_name(name)]
    return [folder for folder in splits if _is_graded(folder, site.tree)]


def _is_graded(folder: Path, tree: FolderTree) -> bool:
    """Return whether a folder has subfolders of two grades or more, and images in one of them.

    Folders of patients numbered 1, 2, ... 87 are none: all that hold images must be grades.
    """
    holding = [name for name in tree.listing(folder).folders if any(map(is_image, tree.listing(folder / name).files))]
    named = {parse_grade(name) for name in tree.listing(folder).folders}
    return bool(holding) and all(parse_grade(name) is not None for name in holding) and len(named - {None}) >= 2


def _read_folders(files: list[Path], site: Site) -> list[LabelPart]:
    rows: dict[str, list[tuple[str, str, Path]]] = {}
    owners: dict[str, Path] = {}
    for folder in files:
        split = "train" if folder == site.folder else split_in_name(folder.name) or "train"
        if split in owners:
            raise DataError(f"{site.folder}: two folders for {split}: {owners[split].name} and {folder.name}")
        owners[split] = folder
        rows[split] = [
            (name, grade, folder / grade)
            for grade in site.tree.listing(folder).folders
            for name in site.tree.listing(folder / grade).files
            if is_image(name)
        ]
        for name, grade, place in rows[split]:
            if parse_grade(grade) is None:
                raise DataError(f"{place / name}: the folder {grade!r} is no grade; grades are {GRADE_CHOICES}")
    # Where names begin anew in every grade folder, the folder is part of the name - in all splits alike.
    counts = [Counter(split_extension(name)[0] for name, _, _ in found) for found in rows.values()]
    own = all(count.total() == len(count) for count in counts)
    return [
        LabelPart(
            owners[split],
            [name if own else f"{grade}/{name}" for name, grade, _ in found],
            [grade for _, grade, _ in found],
            split,
            range(1, len(found) + 1),
            path=[str(place / name) for name, _, place in found],
            unit="image",
        )
        for split, found in rows.items()
        if found
    ]


FOLDERS = Layout(
    "folders",
    "grade folders: <split>/<grade>/<image> or <grade>/<image>, grades 0..4 or No_DR, Mild, Moderate, Severe, PDR",
    _find_folders,
    _read_folders,
    one_name_one_image=False,
)
