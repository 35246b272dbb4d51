"""``prepare_data(config)``: decode a data set ahead of a training, as that training would."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retino_cli.config import TrainConfig, resolve_config
from retino_cli.data.configured import read_manifest
from retino_cli.data.pixels import PixelFormat
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec
from retino_cli.training.events import Listener, Preparing, ignore
from retino_cli.training.setup import build_spec, native_size


@dataclass(frozen=True)
class Preparation:
    """What was done.

    ``images``: that can be used, ``decoded`` of them just now; ``fallbacks`` show the whole frame, because no retina
    was found. ``unreadable``: ids of those left out. ``bytes``: of the prepared images, which lie in ``folder``, in the
    ``format`` "raw" or "compact"; ``why``: that format, and why it is that one, for people.
    """

    data: str
    spec: PreprocessSpec
    images: int
    decoded: int
    fallbacks: int
    unreadable: tuple[str, ...]
    bytes: int
    format: PixelFormat
    why: str
    folder: Path
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {
            "spec": self.spec.to_dict(),
            "already_there": self.images - self.decoded,
            "unreadable": list(self.unreadable),
            "folder": str(self.folder),
        }


def prepare_data(config: TrainConfig, *, compact: bool = False, listen: Listener = ignore) -> Preparation:
    """Decode every image of the data set that ``config`` names, in all splits, to the size that it would be trained at.

    Image size and crop, where they are open, come from the recipe and the data, as in ``train``. May be killed at any
    moment and goes on where it was. ``compact``: in the smaller format, also where the raw one would fit; a training
    uses whichever is there.

    Raises :class:`~retino_cli.errors.DataError` for data that cannot be read, for images that are missing or unreadable
    (unless ``config.skip_unreadable``; the others are prepared all the same), and where there is no space.
    """
    began = time.perf_counter()
    manifest = read_manifest(config)
    n_train = int(manifest.grade_counts("train").sum()) if (manifest.table["split"] == "train").any() else 0
    spec = build_spec(resolve_config(config, n_train=n_train, native_size=native_size(manifest)))
    prepared = prepare(
        manifest,
        spec,
        workers=config.workers,
        skip_unreadable=config.skip_unreadable,
        compact=compact,
        on_progress=lambda done, total: listen(Preparing(done, total)),
    )
    images = int(prepared.readable.sum())
    return Preparation(
        data=manifest.name,
        spec=spec,
        images=images,
        decoded=prepared.decoded,
        fallbacks=prepared.fallbacks,
        unreadable=prepared.unreadable,
        bytes=prepared.stored_bytes,
        format=prepared.format,
        why=prepared.why,
        folder=prepared.folder,
        seconds=time.perf_counter() - began,
    )
