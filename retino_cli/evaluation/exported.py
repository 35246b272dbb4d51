"""A grader from an exported file: the same pictures in, the same numbers out, without run, store or checkpoint."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.errors import UsageError, WeightsError
from retino_cli.evaluation.inference import BATCH_SIZE, N_SYMMETRIES
from retino_cli.models.exported import INPUT, METADATA_KEY, OUTPUTS, ExportedInfo
from retino_cli.preprocess import PreprocessSpec

SUFFIX: Final = ".onnx"
INSTALL: Final = "Install it: pip install 'retino[onnx]'"


def is_exported(run: str) -> bool:
    """Whether what was named as a run is an exported file."""
    return run.lower().endswith(SUFFIX)


def open_exported(path: Path, *, threads: int | None = None) -> ExportedGrader:
    """The grader in the ONNX file ``path``. ``threads``: how many it may use; None: one per core, or
    ``OMP_NUM_THREADS``.

    Raises WeightsError naming a file that is missing, damaged or not exported by retino, UsageError where ONNX Runtime
    is not installed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file.", "Make one: retino export RUN --out FILE.onnx") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    return ExportedGrader(content, source=str(path), threads=threads)


class ExportedGrader:
    """The grader in ``content``, that of an ONNX file: computed by ONNX Runtime on the CPU, in float32.

    ``source`` names it in messages. Raises as :func:`open_exported`.
    """

    precision: Final = "float32"
    device_name: Final = "cpu"

    def __init__(self, content: bytes, *, source: str, threads: int | None = None) -> None:
        self.fingerprint = hashlib.sha256(content).hexdigest()[:12]
        self._session = _open_session(content, source, threads)
        self.info = _read_info(self._session, source)

    @property
    def spec(self) -> PreprocessSpec:
        """How photographs become its input."""
        return self.info.preprocess

    @property
    def run_id(self) -> str:
        return self.info.run_id

    @property
    def name(self) -> str:
        return self.info.run_name

    @property
    def threshold(self) -> float | None:
        return self.info.threshold

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) -> probabilities (B, 5) float64, in pieces that fit into memory as a training's do."""
        images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        step = BATCH_SIZE // N_SYMMETRIES if self.info.tta else BATCH_SIZE
        parts = [
            self._session.run([OUTPUTS[0]], {INPUT: images[start : start + step]})[0]
            for start in range(0, len(images), step)
        ]
        values: np.ndarray = np.concatenate(parts).astype(np.float64)
        return values


def refuse_of_a_run(
    device: str, precision: str, tta: bool | None, tracking_uri: str | None, operating: float | None
) -> None:
    """Raise UsageError for what would silently do nothing with an exported file; ``operating`` is the sensitivity or
    specificity that was asked for."""
    if operating is not None:
        raise UsageError(
            "An exported file refers by the threshold that it was exported with, if any.",
            "Choose one when it is made: retino export RUN --sensitivity 0.9. Or name the run here.",
        )
    asked = {
        f"--device {device}": device not in ("auto", "cpu"),
        f"--precision {precision}": precision not in ("auto", "float32"),
        "--tta/--no-tta": tta is not None,
        "--tracking-uri": tracking_uri is not None,
    }
    for flag, given in asked.items():
        if given:
            raise UsageError(
                f"{flag} belongs to a run; an exported file is computed as it was exported, on the CPU in float32.",
                f"Leave {flag.split()[0]} out, or name the run.",
            )


def _open_session(content: bytes, source: str, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{source} needs ONNX Runtime, which is not installed.", INSTALL) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _wanted_threads()
    options.log_severity_level = 3  # errors: its warnings are about its own optimisations
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has classes of its own for each, all made in C++
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{source} cannot be used as an ONNX file: {reason}", "Export the run again.") from error


def _wanted_threads() -> int:
    """The first number of OMP_NUM_THREADS, which torch heeds by itself and ONNX Runtime does not; 0: one per core."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _read_info(session: Any, source: str) -> ExportedInfo:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise WeightsError(
            f"{source} was not exported by retino: it does not say how photographs become its input.",
            "Make one: retino export RUN --out FILE.onnx",
        )
    try:
        return ExportedInfo.from_json(text)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error.message}", error.hint) from error
