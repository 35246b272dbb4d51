"""Finding the image file of every label row: whatever the extension and its case, in the usual subfolders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from retino_cli.data.tree import FolderTree, split_in_name, words
from retino_cli.errors import DataError

IMAGE_EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".ppm", ".webp")

_ENDINGS = frozenset(IMAGE_EXTENSIONS)
_USUAL_DEPTH = 4
_ANY_DEPTH = 3
_USUAL_WORDS = frozenset((
    "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "photographs", "data", "dataset",
    "datasets", "original", "originals", "train", "training", "trainset", "val", "valid", "validation", "test",
    "testing", "testset", "evaluation", "set", "sets", "split", "public", "private", "fundus", "regular", "online",
    "challenge", "eye", "eyes", "retina", "retinal", "colour", "color", "cfp", "full", "all", "files", "input",
    "inputs", "jpg", "jpeg", "png", "tif", "tiff", "eyepacs", "aptos", "messidor", "ddr", "deepdrid", "idrid",
    "kaggle", "diabetic", "retinopathy", "detection", "disease", "dr", "grading", "part", "parts",
))  # fmt: skip
_NO_PHOTOGRAPHS = frozenset((
    "mask", "masks", "segmentation", "segmentations", "groundtruth", "groundtruths", "annotation", "annotations",
))  # fmt: skip


def split_extension(name: str) -> tuple[str, str]:
    """Return (stem, extension) of a name; the extension is "" unless it is one of an image: "1.2.840" has none."""
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if stem and f".{ending.lower()}" in _ENDINGS else (name, "")


def is_image(name: str) -> bool:
    """Return whether a file name has the extension of an image."""
    return split_extension(name)[1] != ""


def find_images(
    names: Sequence[str],
    splits: Sequence[str],
    *,
    base: Path,
    tree: FolderTree,
    beside: Path | None = None,
    preferred: str = "",
    repeated: bool = False,
) -> list[str]:
    """Return the path of each row's image file, "" where there is none.

    A name with folders is looked up there, relative to ``base`` and to ``beside``. Other names, and those not found so
    whose last part is unique, are searched by their stem, without regard to case and extension, in ``base`` and its
    usual subfolders ("train", "images", "train_images", "b. Testing Set", "part 1", ...): first in folders whose name
    speaks of the row's split, then in those that speak of none, then in the other splits' (not where names repeat
    between splits), upper folders before lower ones. Only where these hold no image of the data set at all, every other
    subfolder is searched too, three levels deep (masks and hidden folders excepted).

    Two files of the same stem, side by side, are told apart by the name as written, then by ``preferred``.

    Args:
        names: N names, as written in the label files.
        splits: N splits.
        base: folder to search.
        tree: folder listings.
        beside: the folder of the label file.
        preferred: the layout's own extension, such as ".jpeg".
        repeated: the same name means different images in different splits.

    Raises:
        DataError: two files answer to one name, or a folder cannot be read.
    """
    found = [""] * len(names)
    clean = [name.replace("\\", "/") for name in names]
    _find_by_folder(found, clean, (base, beside or base), tree, preferred)
    last = [name.rpartition("/")[2] for name in clean]
    if any("/" in name for name in clean):
        count = Counter(last)
        # Where a name's own folder does not hold it, another folder's file of that name may be another image's.
        candidates = [i for i, path in enumerate(found) if not path and ("/" not in clean[i] or count[last[i]] == 1)]
    else:
        candidates = list(range(len(names)))
    for usual in (True, False):
        shelves = _Shelves(base, tree, usual=usual)
        for split in dict.fromkeys(splits):
            wanted = [i for i in candidates if splits[i] == split and not found[i]]
            for shelf in shelves.in_order(split, repeated=repeated):
                if not wanted:
                    break
                for i in wanted:
                    found[i] = shelf.look_up(last[i], preferred)
                wanted = [i for i in wanted if not found[i]]
        if any(found):
            break
    return found


class _Shelf:
    """The images of some folders, by stem in lower case."""

    def __init__(self, folders: Sequence[str | Path], tree: FolderTree) -> None:
        self._paths: dict[str, str] = {}
        self._clashes: dict[str, list[str]] = {}
        for folder in folders:
            prefix = os.path.join(folder, "")
            for name in tree.listing(folder).files:
                stem, extension = split_extension(name)
                if not extension:
                    continue
                key = stem.lower()
                if key in self._paths:
                    self._clashes.setdefault(key, [self._paths[key]]).append(prefix + name)
                else:
                    self._paths[key] = prefix + name

    def look_up(self, name: str, preferred: str) -> str:
        """Return the path of the file that a name means, or ""."""
        stem, extension = split_extension(name)
        key = stem.lower()
        if key not in self._clashes:
            return self._paths.get(key, "")
        return _choose(self._clashes[key], name, stem, extension or preferred)


def _choose(paths: list[str], name: str, stem: str, extension: str) -> str:
    """Return the one of several files of the same stem that a name means."""
    exact = stem + extension
    for matches in (
        [path for path in paths if os.path.basename(path) == exact],
        [path for path in paths if os.path.basename(path).lower() == exact.lower()],
        [path for path in paths if split_extension(os.path.basename(path))[0] == stem],
    ):
        if len(matches) == 1:
            return matches[0]
    raise DataError(
        f"two files answer to the image name {name!r}: {paths[0]} and {paths[1]}",
        hint="write the extension or the folder in the label file, or move one of the files away",
    )


class _Shelves:
    """The folders below a base, grouped by the split that they speak of and by their depth; listed when needed."""

    def __init__(self, base: Path, tree: FolderTree, *, usual: bool) -> None:
        self._base, self._tree, self._usual = base, tree, usual
        self._folders: dict[tuple[str | None, int], list[Path]] | None = None
        self._shelves: dict[tuple[str | None, int], _Shelf] = {}

    def in_order(self, split: str, *, repeated: bool) -> Iterator[_Shelf]:
        """Yield shelves in the order in which the images of a split are to be searched."""
        if self._folders is None:
            self._folders = (
                _usual_folders(self._base, self._tree) if self._usual else _any_folders(self._base, self._tree)
            )
        kinds: dict[str | None, int] = {split: 0, None: 1}
        keys = [key for key in self._folders if key[0] in kinds or not repeated]
        for key in sorted(keys, key=lambda key: (kinds.get(key[0], 2), key[1], key[0] or "")):
            if key not in self._shelves:
                self._shelves[key] = _Shelf(self._folders[key], self._tree)
            yield self._shelves[key]


def _usual_folders(base: Path, tree: FolderTree) -> dict[tuple[str | None, int], list[Path]]:
    groups: dict[tuple[str | None, int], list[Path]] = {(None, 0): [base]}
    level: list[tuple[Path, str | None]] = [(base, None)]
    for depth in range(1, _USUAL_DEPTH + 1):
        level = [
            (folder / name, split_in_name(name) or split)
            for folder, split in level
            for name in tree.listing(folder).folders
            if _is_usual(name)
        ]
        for folder, split in level:
            groups.setdefault((split, depth), []).append(folder)
    return groups


def _any_folders(base: Path, tree: FolderTree) -> dict[tuple[str | None, int], list[Path]]:
    groups: dict[tuple[str | None, int], list[Path]] = {}
    level: list[tuple[Path, str | None]] = [(base, None)]
    for depth in range(1, _ANY_DEPTH + 1):
        level = [
            (folder / name, split_in_name(name) or split)
            for folder, split in level
            for name in tree.listing(folder).folders
            if not _NO_PHOTOGRAPHS.intersection(words(name))
        ]
        for folder, split in level:
            groups.setdefault((split, depth), []).append(folder)
    return groups


def _is_usual(name: str) -> bool:
    found = words(name)
    return bool(found) and all(word in _USUAL_WORDS or word.isdigit() or len(word) == 1 for word in found)


def _find_by_folder(
    found: list[str], names: Sequence[str], bases: tuple[Path, Path], tree: FolderTree, preferred: str
) -> None:
    """Fill in the images of names that hold a folder."""
    by_folder: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        if "/" in name:
            by_folder.setdefault(name.rpartition("/")[0], []).append(i)
    for folder, rows in by_folder.items():
        # "/train/a.jpg" is often meant from the data set's own folder (DeepDRiD), so it is tried there as well.
        places = [os.path.join(base, part) for base in bases for part in (folder, folder.lstrip("/"))]
        for place in dict.fromkeys(os.path.normpath(place) for place in places):
            if os.path.isdir(place):
                shelf = _Shelf([place], tree)
                for i in rows:
                    if not found[i]:
                        found[i] = shelf.look_up(names[i].rpartition("/")[2], preferred)
