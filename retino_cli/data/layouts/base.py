"""What a layout is: how a data set is recognised, and how its label files become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retino_cli.data.labels import LabelPart
from retino_cli.data.tables import read_header
from retino_cli.data.tree import FolderTree, split_in_name
from retino_cli.errors import DataError


@dataclass(frozen=True, eq=False)
class Site:
    """A place that may hold a data set: a folder, or the one file in it that the user named."""

    folder: Path
    tree: FolderTree
    only: Path | None = None
    _headers: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def files(self, *endings: str, below: Iterable[str] = ()) -> list[Path]:
        """Return the files with these endings (lower case) in the folder, and in its subfolders named ``below``."""
        if self.only is not None:
            return [self.only] if self.only.name.lower().endswith(endings) else []
        folders = [self.folder, *(self.folder / name for name in below)]
        return [
            folder / name
            for folder in folders
            for name in self.tree.listing(folder).files
            if name.lower().endswith(endings)
        ]

    def header(self, file: Path) -> frozenset[str]:
        """Return the column names of a CSV file, in lower case."""
        if file not in self._headers:
            self._headers[file] = read_header(file)
        return frozenset(name.casefold() for name in self._headers[file])

    def with_columns(self, *columns: str, below: Iterable[str] = ()) -> list[Path]:
        """Return the CSV files that have all these columns (lower case)."""
        return [file for file in self.files(".csv", below=below) if self.header(file).issuperset(columns)]


Find = Callable[[Site], list[Path]]
Read = Callable[[list[Path], Site], list[LabelPart]]


@dataclass(frozen=True)
class Layout:
    """One way to lay out a data set on disk.

    Args:
        name: its name for ``--format``.
        looks_for: what it is recognised by, for people.
        find: return the label files (or folders) of this layout at a site; ``[]``: it is not there.
        read: read these files.
        preferred: extension of its images, used only where two files share a stem.
        one_name_one_image: a name means the same image in every split.
    """

    name: str
    looks_for: str
    find: Find
    read: Read
    preferred: str = ""
    one_name_one_image: bool = True


def splits_by_name(files: Sequence[Path]) -> list[str]:
    """Return the split of each label file by its name; one whose name speaks of none is training data.

    Raises:
        DataError: two files are of the same split.
    """
    splits = [split_in_name(file.stem) or "train" for file in files]
    for split in dict.fromkeys(splits):
        same = [file for file, its in zip(files, splits, strict=True) if its == split]
        if len(same) > 1:
            raise DataError(
                f"{same[0].parent}: {len(same)} label files for {split}: {', '.join(file.name for file in same)}",
                hint="name the one to read instead of the folder",
            )
    return splits
