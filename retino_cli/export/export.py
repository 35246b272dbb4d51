"""``export_grader(run)``: a trained grader as a file that needs neither the run nor its store."""

from __future__ import annotations

import copy
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from retino_cli import __version__
from retino_cli.data.pictures import EncodedPicture
from retino_cli.data.synth import MIN_SIZE, draw_eye
from retino_cli.errors import DataError, RetinoError, UsageError
from retino_cli.evaluation.exported import SUFFIX, ExportedGrader
from retino_cli.evaluation.grader import Grader, open_grader
from retino_cli.evaluation.operating_point import OperatingPoint
from retino_cli.evaluation.operating_question import check_operating
from retino_cli.export.graph import GraderGraph
from retino_cli.export.onnx_file import encode_onnx, require_onnx, write_whole
from retino_cli.grades import GRADES
from retino_cli.models.exported import ExportedInfo
from retino_cli.preprocess import PreprocessSpec, prepare_picture
from retino_cli.training.events import Listener, Note, ignore

TOLERANCE: Final = 1e-3
"""By how much a probability of the file may differ from the checkpoint's, at most, for the file to be kept."""
FORMATS: Final = ("onnx", "mlflow")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    ``out``: the file (onnx) or folder (mlflow), ``n_bytes`` the size of the grader in it. ``largest_difference``: of a
    probability between file and checkpoint, both in float32, over ``n_checked`` drawn photographs;
    ``trained_difference``: between the file and what ``retino predict`` computes, where that is not in float32.
    ``operating_point``: whose threshold is in the file.
    """

    out: str
    format: str
    run_id: str
    run_name: str
    n_bytes: int
    tta: bool
    n_checked: int
    largest_difference: float
    trained_difference: float | None
    operating_point: OperatingPoint | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def export_grader(
    run: str,
    *,
    out: Path,
    format: str = "onnx",
    tta: bool | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> ExportReport:
    """Write the best checkpoint of training ``run`` as an ONNX file, or as a folder that ``mlflow models serve`` takes;
    of repeats, the networks of all seeds, whose mean is the answer.

    Both hold the network, the second half of its preprocessing, the mean over eight views where ``tta`` (None: as
    trained), and a description (:class:`~retino_cli.models.exported.ExportedInfo`). ``sensitivity`` or ``specificity``
    adds the operating point that reaches it on the training's validation images. The file is compared with the
    checkpoint before it appears under its name; nothing is stored in MLflow.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, a place that cannot be written or holds something
    else, a network that ONNX cannot hold, or answers that are not the checkpoint's.
    """
    check_operating(sensitivity, specificity, None, "exclude")
    _check_place(out, format)
    require_onnx()
    grader = open_grader(run, device="cpu", tta=tta, tracking_uri=tracking_uri)
    point = grader.choose_point(sensitivity, specificity)
    info = _describe(grader, point)
    listen(Note(f"Exporting {grader.name}: half a minute or so."))
    # A copy, its weights laid out in the order that ONNX has; the checkpoint's stay as they are for the comparison.
    model = copy.deepcopy(grader.model).to(memory_format=torch.contiguous_format)
    content = encode_onnx(GraderGraph(model, info.preprocess, tta=grader.tta, threshold=info.threshold), info)
    n_checked, largest, trained = _compare(grader, ExportedGrader(content, source=str(out)))
    if not largest <= TOLERANCE:
        raise RetinoError(
            f"The exported {info.arch} answers otherwise than the checkpoint: a probability differs by {largest:.2g} "
            f"on drawn photographs. Nothing was written.",
            "Other versions of torch, onnxscript or onnxruntime may do better.",
        )
    if format == "onnx":
        write_whole(out, content)
    else:
        from retino_cli.tracking.packaging import save_served

        with _whole_folder(out) as folder:
            save_served(folder, content, info)
    return ExportReport(
        out=str(out),
        format=format,
        run_id=grader.run_id,
        run_name=grader.name,
        n_bytes=len(content),
        tta=grader.tta,
        n_checked=n_checked,
        largest_difference=largest,
        trained_difference=trained,
        operating_point=point,
    )


def _check_place(out: Path, format: str) -> None:
    """Raise for a format or a place that cannot be: before anything is computed."""
    if format not in FORMATS:
        raise UsageError(f"--format {format} is not known.", f"Choose one of: {', '.join(FORMATS)}.")
    if format == "onnx" and out.suffix.lower() != SUFFIX:
        raise UsageError(f"--out {out} does not end in {SUFFIX}.", "Name it so; `retino predict` tells files by that.")
    if format == "onnx" and out.is_dir():
        raise DataError(f"{out} is a folder.", "Name a file with --out.")
    if format == "mlflow" and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise DataError(f"{out} is there already, and not an empty folder.", "Name another with --out, or delete it.")
    place = next(folder for folder in out.absolute().parents if folder.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise DataError(f"{out}: nothing can be written in {place}.", "Name another place with --out.")


def _describe(grader: Grader, point: OperatingPoint | None) -> ExportedInfo:
    info = grader.info
    return ExportedInfo(
        run_id=grader.run_id,
        run_name=grader.name,
        epoch=info.epoch,
        arch=info.arch,
        tta=grader.tta,
        preprocess=info.preprocess,
        metrics={name: value for name, value in info.metrics.items() if np.isfinite(value)},
        data=info.data,
        calibration=info.calibration,
        operating_point={} if point is None else asdict(point),
        retino_version=__version__,
        seeds=grader.seeds,
    )


def _compare(grader: Grader, exported: ExportedGrader) -> tuple[int, float, float | None]:
    """How many drawn photographs were looked at, and the largest differences (see :class:`ExportReport`)."""
    pixels = draw_inputs(exported.spec)
    found = exported.probabilities(pixels)
    in_float32 = replace(grader, runtime=replace(grader.runtime, precision="float32"))
    largest = float(np.abs(found - in_float32.probabilities(pixels)).max())
    if grader.precision == "float32":
        return len(pixels), largest, None
    return len(pixels), largest, float(np.abs(found - grader.probabilities(pixels)).max())


def draw_inputs(spec: PreprocessSpec) -> np.ndarray:
    """uint8 (5, S, S, 3): a drawn photograph of each grade, prepared as ``spec`` says."""
    eyes = [draw_eye(patient=k, eye="right", grade=k, size=max(spec.image_size, MIN_SIZE), seed=0) for k in GRADES]
    return np.stack([prepare_picture(_encode(eye.pixels), spec).pixels for eye in eyes])


def _encode(pixels: np.ndarray) -> EncodedPicture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return EncodedPicture("a drawn photograph", file.getvalue())


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A path for a folder that the block makes, and that becomes ``out`` when it ends without an exception."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with suppress(FileNotFoundError):
            out.rmdir()  # an empty folder, as was made sure of
        partial.replace(out)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror or error}", "Name another place with --out, or make room there."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
