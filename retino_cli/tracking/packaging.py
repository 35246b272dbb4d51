"""A grader as a folder that ``mlflow models serve`` takes: MLflow's python function, made from code."""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
import warnings
from pathlib import Path
from typing import Final

import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import retino_cli
from retino_cli.evaluation.predictions import PROBABILITY_COLUMNS
from retino_cli.models.exported import ExportedInfo
from retino_cli.tracking.connection import UPLOADING, environment, quiet

GRADER: Final = "grader"
"""The artifact that holds the exported file."""
IMAGE: Final = "image"
"""The input's column: the bytes of a picture file; base64 of them in JSON."""
REFER: Final = "refer"
ANSWERS: Final = (*PROBABILITY_COLUMNS, "score", "grade", "referable", REFER, "error")
"""The output's columns, as those of ``retino predict``; ``refer`` only of a grader that has an operating point."""
_TYPES: Final = {"grade": DataType.long, REFER: DataType.boolean, "error": DataType.string}


def save_served(folder: Path, content: bytes, info: ExportedInfo) -> None:
    """Write ``folder``, which must not exist: the exported grader ``content``, retino's own code, and the versions of
    what both need. Raises OSError where it cannot be written."""
    answers = [name for name in ANSWERS if name != REFER or info.threshold is not None]
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, IMAGE)]),
        outputs=Schema(
            [ColSpec(_TYPES.get(name, DataType.double), name, required=name == "error") for name in answers]
        ),
    )
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), quiet(), environment(UPLOADING):
        warnings.simplefilter("ignore")
        file = Path(place) / "grader.onnx"
        file.write_bytes(content)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={GRADER: str(file)},
            code_paths=[str(Path(retino_cli.__file__).parent)],
            pip_requirements=list_requirements(),
            signature=signature,
            metadata={"retino.run_id": info.run_id, "retino.run_name": info.run_name},
        )


def list_requirements() -> list[str]:
    """What retino and ONNX Runtime are installed with here: "torch==2.14.1" and the like."""
    names = []
    for line in importlib.metadata.requires("retino") or []:
        name = re.match(r"[\w.-]+", line)
        if name is not None and "extra ==" not in line:
            names.append(name.group())
    # Without a local part ("+cu130"), which only the place has where that build came from.
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in [*names, "onnxruntime"]]
