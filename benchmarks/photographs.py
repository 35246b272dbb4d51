"""The photographs that are measured on: IDRiD where RETINO_REAL_DATA has it, else large synthetic ones."""

from __future__ import annotations

import os
from pathlib import Path

from retino_cli.data.manifest import Manifest, load_manifest
from retino_cli.data.synth import write_dataset

SYNTHETIC_PATIENTS, SYNTHETIC_SIZE = 40, 2048


def load_photographs(scratch: Path) -> Manifest:
    """The manifest; synthetic photographs are drawn into ``scratch`` first."""
    real = os.environ.get("RETINO_REAL_DATA", "")
    if real and (Path(real) / "idrid").is_dir():
        return load_manifest(Path(real) / "idrid")
    folder = scratch / "photographs"
    write_dataset(folder, patients=SYNTHETIC_PATIENTS, size=SYNTHETIC_SIZE, grade_distribution=(1, 1, 1, 1, 1))
    return load_manifest(folder)


def take(manifest: Manifest, n: int) -> list[str]:
    """Paths of ``n`` photographs (all, where there are fewer), evenly over the data set."""
    paths = manifest.table["path"].tolist()
    step = max(len(paths) // n, 1)
    return [str(path) for path in paths[::step][:n]]
