"""A data set of healthy photographs with lesions drawn onto them, to train a network before it sees real lesions.

Backgrounds, cameras and noise are those of a real data set, the lesions and so the grades are known. A picture depends
on (seed, its number, its grade, the photographs) alone: any number of processes writes the same bytes.

The parts: `paint_photograph` draws one picture with the lesions of `paint_lesions`, `paint_folder` says what the folder
holds, `drawn_folder` writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from retino_cli.config import TrainConfig
from retino_cli.data import drawn_folder
from retino_cli.data.audit import find_identical, name_copies
from retino_cli.data.configured import read_manifest
from retino_cli.data.likeness import prepare_small
from retino_cli.data.manifest import Manifest
from retino_cli.data.paint_folder import (
    EVEN_DISTRIBUTION,
    KIND,
    SOFTWARE,
    WARNING,
    Contents,
    Parameters,
    Photograph,
    Picture,
    write_command,
)
from retino_cli.data.paint_photograph import DRAWING, HealthyPhotograph, paint_photograph
from retino_cli.data.prepared import prepare
from retino_cli.data.synth_grades import check_distribution, count_grades
from retino_cli.data.synth_pool import choose_workers, write_all
from retino_cli.errors import DataError, UsageError
from retino_cli.preprocess import PreprocessSpec, prepare_picture

MIN_SIZE: Final = 64
"""Below, a microaneurysm is less than a third of a pixel wide."""
MAX_SIZE: Final = 4096
_ORDER: Final = 1  # stream of the dealt grades: (seed, 0, 1), which is that of no picture, (seed, number)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PaintedDataset:
    """What `paint_dataset` left in its folder."""

    folder: Path
    data: str
    """Name of the source data set."""
    size: int
    seed: int
    images: int
    painted: int
    """Pictures that this call painted: all of them, or 0 where the same data set was there already."""
    grade_counts: tuple[int, ...]
    """Pictures per grade 0..4."""
    photographs: int
    """Healthy photographs to paint on."""
    unusable: tuple[str, ...]
    """Ids of healthy photographs that are missing or unreadable, or in which no retina was found."""
    left_out: tuple[str, ...]
    """A sentence for each healthy photograph that is in validation or test, too, and was left out for that."""
    enlarged: int
    """Photographs whose retina is smaller than ``size``: more pixels show nothing more of them."""
    masks: bool


def paint_dataset(
    folder: Path,
    source: TrainConfig,
    *,
    pictures: int = 3000,
    size: int = 448,
    grade_distribution: Sequence[float] = EVEN_DISTRIBUTION,
    masks: bool = False,
    on_prepare: Progress | None = None,
    on_paint: Progress | None = None,
) -> PaintedDataset:
    """Draw lesions onto the healthy photographs (grade 0, training split) of a data set.

    Each picture gets one of the photographs by chance, prepared with crop "retina", and one of the dealt grades: their
    counts are the distribution's, rounded (`synth_grades.count_grades`), their order is shuffled. Pictures of
    validation and test are not opened, but for the search for copies with ``source.duplicates`` "drop".

    A folder that already holds this very data set, whole, is left as it is; another painted one is replaced.

    Args:
        folder: new, empty, or an earlier painted set.
        source: names the data set and how it is split, as for `train`; of the rest ``seed`` (of the pictures; of the
            split, where ``split_seed`` is None), ``duplicates`` and ``workers`` (processes; by default one a core where
            that pays; a script that uses more than one must keep its calls below ``if __name__ == "__main__":``).
        pictures: how many, 1 or more.
        size: their side in pixels, 64..4096.
        grade_distribution: five shares of the grades 0..4, scaled to sum 1.
        masks: also write which kinds of lesions are where, as ``masks/<image>.png``.
        on_prepare, on_paint: called with (done, all) while photographs are decoded, and after each picture.

    Raises:
        UsageError: an argument outside its range.
        DataError: there is no healthy photograph, or the data cannot be read; the folder holds something else, or
            cannot be written.
    """
    if pictures < 1:
        raise UsageError(f"--pictures {pictures}: must be 1 or more", "Give a number, such as 3000.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"--size {size}: must be {MIN_SIZE} to {MAX_SIZE} pixels", "Give the size of the training.")
    shares = check_distribution(grade_distribution)
    manifest = read_manifest(source, on_progress=on_prepare)
    _refuse_source(folder, manifest)
    drawn_folder.refuse_foreign(folder, KIND)

    healthy, left_out = _select_healthy(manifest, source, on_prepare)
    photographs, unusable, enlarged = _prepare_photographs(healthy, size, source.workers, on_prepare)
    listed = hashlib.sha256("\n".join(f"{one.image_id}\t{one.sha256}" for one in photographs).encode())
    parameters = Parameters(
        pictures=pictures,
        size=size,
        seed=source.seed,
        grade_distribution=shares,
        masks=masks,
        drawing=DRAWING,
        data=manifest.name,
        data_fingerprint=manifest.fingerprint(),
        split_fingerprint=manifest.split_fingerprint(),
        photographs=len(photographs),
        photographs_fingerprint=listed.hexdigest()[:12],
    )
    contents = Contents(parameters, _list_pictures(parameters, photographs), write_command(parameters, source))
    painted = 0
    if not contents.is_in(folder):
        contents.claim(folder)
        write = partial(_write_picture, folder=folder.resolve(), parameters=parameters)
        processes = choose_workers(source.workers, pictures, seconds=0.02 + 4e-7 * size * size)
        with closing(write_all(write, contents.pictures, processes)) as written:
            for _ in written:
                painted += 1
                if on_paint is not None:
                    on_paint(painted, pictures)
        contents.finish(folder)
    return PaintedDataset(
        folder=folder,
        data=manifest.name,
        size=size,
        seed=source.seed,
        images=pictures,
        painted=painted,
        grade_counts=contents.grade_counts,
        photographs=len(photographs),
        unusable=unusable,
        left_out=left_out,
        enlarged=enlarged,
        masks=masks,
    )


def _refuse_source(folder: Path, manifest: Manifest) -> None:
    """A painted set is cleared before it is painted anew: it must not be, or hold, what is painted on."""
    place = folder.expanduser().resolve()
    if place == manifest.root or place in manifest.root.parents:
        raise UsageError(f"{folder} holds the data set that is to be painted on", "Name another folder to fill.")


def _select_healthy(
    manifest: Manifest, source: TrainConfig, on_prepare: Progress | None
) -> tuple[Manifest, tuple[str, ...]]:
    """The training rows of grade 0 by id, and a sentence for each that was left out as a copy."""
    table = manifest.table
    train = (table["split"] == "train") & (table["grade"] == 0)
    copies: dict[str, str] = {}
    if source.duplicates == "drop" and (table["split"] != "train").any():
        # Pictures by the splits that are used, as the training will use them.
        there = replace(manifest, official=None).with_files()
        if not there.table.empty:
            small = prepare_small(there, workers=source.workers, on_progress=on_prepare)
            copies = name_copies(find_identical(there, small))
    healthy = table[train & ~table["image_id"].isin(list(copies))].sort_values("image_id", ignore_index=True)
    if healthy.empty:
        counts = ", ".join(f"{count} of grade {k}" for k, count in enumerate(manifest.grade_counts("train")) if count)
        raise DataError(
            f"{manifest.name}: no photograph of grade 0 in the training split to draw on; "
            f"it holds {counts or 'nothing'}",
            f"see what there is with: retino data inspect {source.data}",
        )
    left_out = tuple(sentence for name, sentence in copies.items() if name in set(table["image_id"][train]))
    return replace(manifest, table=healthy, official=None), left_out


def _prepare_photographs(
    healthy: Manifest, size: int, workers: int | None, on_prepare: Progress | None
) -> tuple[list[Photograph], tuple[str, ...], int]:
    """The photographs that can be painted on, the ids of those that cannot, and how many of the first are smaller than
    ``size``."""
    spec = _spec(size)
    prepared = prepare(healthy, spec, workers=workers, skip_unreadable=True, on_progress=on_prepare)
    usable = prepared.readable & ~prepared.index["fallback"].astype(bool)
    ids = healthy.table["image_id"].astype(str).tolist()
    unusable = tuple(image_id for image_id, fine in zip(ids, usable, strict=True) if not fine)
    if len(unusable) == len(ids):
        raise DataError(
            f"{healthy.name}: in none of the {len(ids)} healthy photographs a retina was found",
            f"look into {healthy.root}: these are to be photographs with a round field",
        )
    # The same picture under two names is one background: whoever is on the first is on the second.
    patients: dict[str, str] = {}
    photographs = []
    for row in np.flatnonzero(usable).tolist():
        digest = prepared.index["sha256"][row].tobytes().hex()
        patient = patients.setdefault(digest, str(healthy.table["patient_id"].iat[row]) or ids[row])
        photographs.append(Photograph(ids[row], str(healthy.table["path"].iat[row]), patient, digest))
    left, top, right, bottom = prepared.index["box"][usable].T
    enlarged = int((np.maximum(right - left, bottom - top) < size).sum())
    return photographs, unusable, enlarged


def _list_pictures(parameters: Parameters, photographs: Sequence[Photograph]) -> list[Picture]:
    """Every picture, by photograph, so that a process reads each photograph once."""
    counts = count_grades(parameters.pictures, parameters.grade_distribution)
    dealt = np.repeat(np.arange(len(counts)), counts)
    grades = np.random.default_rng([parameters.seed, 0, _ORDER]).permutation(dealt).tolist()
    backgrounds = [_draw_background(number, parameters)[0] for number in range(parameters.pictures)]
    order = sorted(range(parameters.pictures), key=lambda number: (backgrounds[number], number))
    return [Picture(number, grades[number], photographs[backgrounds[number]]) for number in order]


def _draw_background(number: int, parameters: Parameters) -> tuple[int, np.random.Generator]:
    """Which photograph picture ``number`` is painted on, and its random stream from there on."""
    rng = np.random.default_rng([parameters.seed, number])
    return int(rng.integers(parameters.photographs)), rng


def _write_picture(picture: Picture, *, folder: Path, parameters: Parameters) -> None:
    _, rng = _draw_background(picture.number, parameters)
    source = picture.photograph
    eye = paint_photograph(_read_healthy(source.path, parameters.size, source.sha256), picture.grade, rng)
    note = (
        f"{WARNING}; lesions of grade {picture.grade} drawn on photograph {source.image_id} of {parameters.data} by "
        f"{SOFTWARE}, seed {parameters.seed}, picture {picture.number}, size {parameters.size}, drawing {DRAWING}"
    )
    note = note.encode("ascii", "backslashreplace").decode()
    drawn_folder.save_jpeg(eye.pixels, picture.path(folder), note=note, software=SOFTWARE)
    if parameters.masks:
        drawn_folder.save_mask(eye.masks, picture.mask_path(folder), note=note)


@lru_cache(maxsize=1)  # pictures come by photograph
def _read_healthy(path: str, size: int, _sha256: str) -> HealthyPhotograph:
    # Anew, not from the cache: a process needs nothing but the path, and decodes a photograph once for many pictures.
    try:
        return HealthyPhotograph.measure(prepare_picture(path, _spec(size)).pixels)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error


def _spec(size: int) -> PreprocessSpec:
    return PreprocessSpec(image_size=size, crop="retina")
