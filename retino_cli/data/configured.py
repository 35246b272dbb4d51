"""Reading the data set that a training configuration names."""

from __future__ import annotations

from collections.abc import Callable

from retino_cli.config import TrainConfig
from retino_cli.data.manifest import ColumnNames, Manifest, load_manifest
from retino_cli.data.resplit import split_by_likeness, split_by_patient
from retino_cli.errors import UsageError


def read_manifest(config: TrainConfig, *, on_progress: Callable[[int, int], None] | None = None) -> Manifest:
    """The data set that ``config`` names. ``on_progress``: called with (pictures decoded, of how many) where the cut
    has to look at them.

    Raises DataError where it cannot be read, UsageError for columns that are half given.
    """
    columns = None
    if config.image_column or config.label_column:
        if not (config.image_column and config.label_column):
            raise UsageError("--image-column and --label-column go together.", "Give both, or neither.")
        columns = ColumnNames(
            config.image_column, config.label_column, split=config.split_column, patient=config.patient_column
        )
    elif config.split_column or config.patient_column:
        raise UsageError(
            "--split-column and --patient-column need --image-column and --label-column.", "Give those two as well."
        )
    seed = config.seed if config.split_seed is None else config.split_seed
    manifest = load_manifest(
        config.data, layout=config.layout, columns=columns, val_fraction=config.val_fraction, seed=seed
    )
    if config.split == "patient":
        return split_by_patient(manifest, val_fraction=config.val_fraction, seed=seed)
    if config.split == "likeness":
        return split_by_likeness(manifest, val_fraction=config.val_fraction, seed=seed, on_progress=on_progress)
    return manifest
