"""The photographs behind predictions, and heat maps of some of them; both may be missing, and then say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from retino_cli.data.configured import read_manifest
from retino_cli.data.manifest import Manifest
from retino_cli.data.prepared import PreparedImages, prepare
from retino_cli.errors import RetinoError
from retino_cli.evaluation.grader import Grader
from retino_cli.explain.gradcam import heat_maps
from retino_cli.preprocess import PreprocessSpec
from retino_cli.report.sources import Source, data_config
from retino_cli.training.events import Listener, Preparing

FINGERPRINT_TAG: Final = "retino.data_fingerprint"
_HEAT_BATCH: Final = 8


@dataclass(frozen=True)
class Missing:
    """Why something is not there, as a clause."""

    reason: str


@dataclass(frozen=True, eq=False)
class Photographs:
    """Prepared pictures by image id: what the model saw before normalisation."""

    prepared: PreparedImages
    rows: dict[str, int]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.rows

    def gather(self, image_ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        """(B, S, S, 3) uint8, RGB."""
        return self.prepared.gather(np.array([self.rows[image_id] for image_id in image_ids], dtype=np.int64))


def find_manifest(source: Source) -> Manifest | Missing:
    """The data set whose images were judged, if it is there and still the same."""
    config = data_config(source)
    if config is None:
        return Missing("the run does not say where its images lie")
    try:
        manifest = read_manifest(config)
    except (RetinoError, OSError) as error:
        return Missing(f"the data set cannot be read ({getattr(error, 'message', error)})")
    judged = source.record.tags.get(FINGERPRINT_TAG)
    if judged is not None and manifest.fingerprint() != judged:
        return Missing(f"{manifest.root} no longer holds the images and grades that were judged")
    return manifest


def open_photographs(
    manifest: Manifest, image_ids: Sequence[str], spec: PreprocessSpec, *, workers: int | None, listen: Listener
) -> Photographs | Missing:
    """The pictures of ``image_ids``, decoded where the cache does not have them; those that cannot be read are left
    out."""
    table = manifest.table
    wanted = (table["image_id"].isin(list(image_ids)) & (table["path"] != "")).to_numpy(dtype=bool)
    if not wanted.any():
        return Missing(f"none of these images lies in {manifest.root}")
    part = replace(manifest, table=table[wanted].reset_index(drop=True), official=None)
    try:
        prepared = prepare(
            part,
            spec,
            workers=workers,
            skip_unreadable=True,
            expected=len(table),
            on_progress=lambda done, total: listen(Preparing(done, total)),
        )
    except RetinoError as error:
        return Missing(error.message)
    ids = part.table["image_id"].tolist()
    return Photographs(prepared, {str(ids[row]): int(row) for row in np.flatnonzero(prepared.readable)})


def draw_heat(
    grader: Grader, pixels: npt.NDArray[np.uint8], grades: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | Missing:
    """Grad-CAM for ``grades`` (B,) of pictures (B, S, S, 3): (B, S, S) in [0, 1]."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    try:
        maps = [
            heat_maps(
                grader.model,
                images[start : start + _HEAT_BATCH],
                grader.spec,
                grader.runtime,
                target=grades[start : start + _HEAT_BATCH],
            )
            for start in range(0, len(images), _HEAT_BATCH)
        ]
    except RetinoError as error:
        return Missing(error.message)
    return np.concatenate(maps)
