"""RetinaMNIST: one npz file with images and labels of the three splits."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from retino_cli.data.labels import SPLITS, LabelPart
from retino_cli.data.layouts.base import Layout, Site
from retino_cli.errors import DataError


def _find_medmnist(site: Site) -> list[Path]:
    return [file for file in site.files(".npz") if site.only is not None or file.name.lower().startswith("retinamnist")]


def _read_medmnist(files: list[Path], site: Site) -> list[LabelPart]:
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise DataError(f"{site.folder}: more than one data set: {listed}", hint="name the file to read")
    file = files[0]
    try:
        with np.load(file, allow_pickle=False) as arrays, zipfile.ZipFile(file) as archive:
            splits = [split for split in SPLITS if f"{split}_images" in arrays.files]
            if not splits:
                held = ", ".join(arrays.files) or "nothing"
                raise DataError(f"{file}: no array train_images, val_images or test_images; it holds {held}")
            return [_read_split(file, arrays, archive, split) for split in splits]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: not a readable npz file: {error}") from error


def _read_split(file: Path, arrays: np.lib.npyio.NpzFile, archive: zipfile.ZipFile, split: str) -> LabelPart:
    shape, dtype = _array_header(archive, f"{split}_images.npy")
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] != 3):
        raise DataError(
            f"{file}: {split}_images is {dtype} {shape}; images are uint8 of shape (N, S, S, 3) or (N, S, S)"
        )
    if f"{split}_labels" not in arrays.files:
        raise DataError(f"{file}: {split}_images has no {split}_labels beside it")
    labels = np.asarray(arrays[f"{split}_labels"])
    if labels.size != shape[0] or labels.shape[0] != shape[0]:
        raise DataError(f"{file}: {split}_labels has shape {labels.shape}, but there are {shape[0]} {split}_images")
    grades = [str(label) for label in labels.reshape(-1).tolist()]
    rows = range(shape[0])
    return LabelPart(
        file,
        [str(row) for row in rows],
        grades,
        split,
        rows,
        path=[f"{file}#{split}/{row}" for row in rows],
        unit=f"row of {split}_labels",
    )


def _array_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and type of an array without unpacking it: at 224 px the images take 240 MB."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype


MEDMNIST = Layout(
    "medmnist",
    "retinamnist*.npz (train_images, train_labels, ...)",
    _find_medmnist,
    _read_medmnist,
    one_name_one_image=False,
)
