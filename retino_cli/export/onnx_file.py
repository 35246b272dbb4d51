"""Writing a grader as one ONNX file, weights and description inside."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from retino_cli.errors import DataError, RetinoError, UsageError
from retino_cli.evaluation.exported import INSTALL
from retino_cli.export.graph import GraderGraph
from retino_cli.models.exported import INPUT, METADATA_KEY, ExportedInfo
from retino_cli.whole import whole_file

OPSET: Final = 20
"""Of the ONNX operators: read by ONNX Runtime from 1.17 (2024) on."""
_MOST_BYTES: Final = 2**31 - 1
"""Of one file: a limit of its format."""


def require_onnx() -> None:
    """Raise UsageError where the extra ``onnx`` is not installed."""
    try:
        import onnx  # noqa: F401 # all three are needed; one import error is as good as another
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Exporting needs {error.name}, which is not installed.", INSTALL) from error


def encode_onnx(graph: GraderGraph, info: ExportedInfo) -> bytes:
    """``graph`` as the content of an ONNX file, for any number of pictures at a time.

    Raises RetinoError where the network has something that ONNX does not, or is larger than an ONNX file may be.
    """
    import onnx

    size = info.preprocess.image_size
    example = torch.zeros((2, 3, size, size), dtype=torch.uint8)  # two: of one, the number would be taken as fixed
    try:
        with _silence():
            program = torch.onnx.export(
                graph.eval(),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(graph.output_names),
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise RetinoError(f"{info.arch} cannot be exported to ONNX: {_first_line(error)}") from error
    if program is None:
        raise RetinoError(f"{info.arch} cannot be exported to ONNX.")
    document: Any = program.model_proto
    if document.ByteSize() > _MOST_BYTES:
        raise RetinoError(f"{info.arch} takes {document.ByteSize() / 1e9:.1f} GB: one ONNX file can hold 2.1.")
    document.producer_name, document.producer_version = "retino", info.retino_version
    document.doc_string = _describe(info)
    onnx.helper.set_model_props(document, {METADATA_KEY: info.to_json()})
    onnx.checker.check_model(document)
    content: bytes = document.SerializeToString()
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Write ``path``, which appears, or is replaced, when all of it is there. Raises DataError where that fails."""
    try:
        with whole_file(path) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}",
            f"Name another place with --out, or make room there ({len(content) / 1e6:,.0f} MB are needed).",
        ) from error


def _describe(info: ExportedInfo) -> str:
    size = info.preprocess.image_size
    outputs = [
        "probabilities: float32 (batch, 5), of the ICDR grades 0 to 4",
        "score: float32 (batch,), the expected grade",
        "grade: int64 (batch,), the most probable",
        "referable: float32 (batch,), the probability of grade 2 or more",
    ]
    if info.threshold is not None:
        outputs.append(f"refer: bool (batch,), whether referable is at least {info.threshold:.6g}")
    return (
        f"A grader of diabetic retinopathy, {info.arch}, trained as run {info.run_name} ({info.run_id}). "
        f"Not a medical device.\n\nInput images: uint8 (batch, 3, {size}, {size}), RGB, prepared as the key preprocess "
        f"of the metadata entry '{METADATA_KEY}' says (retino_cli.preprocess.prepare_picture).\nOutputs:\n  "
        + "\n  ".join(outputs)
    )


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter talks of its own workings: on stdout, as warnings, to its loggers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
