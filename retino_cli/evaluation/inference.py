"""Running a model over prepared pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from retino_cli.data.labelled import LabelledImages
from retino_cli.errors import RetinoError
from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import N_GRADES
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime, free_memory, is_out_of_memory

_logger = logging.getLogger("retino")
BATCH_SIZE = 32
N_SYMMETRIES: Final = 8


@torch.inference_mode()
def predict_logits(
    model: nn.Module, data: LabelledImages, spec: PreprocessSpec, runtime: Runtime, *, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Logits (N, 5) float32 on the CPU, in the order of ``data``. The model is put into evaluation mode."""
    model.eval()
    parts = []
    for index in _indices(len(data), batch_size):
        parts.append(batch_logits(model, data.batch(index, runtime.device), spec, runtime))
    return torch.cat(parts).cpu()


def _indices(n: int, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, n, batch_size):
        yield np.arange(start, min(start + batch_size, n))


_FITTING: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How many images a model computes at once, where memory did not suffice for more."""


@torch.inference_mode()
def batch_logits(model: nn.Module, images: Tensor, spec: PreprocessSpec, runtime: Runtime) -> Tensor:
    """uint8 (B, 3, S, S) -> logits (B, 5) float32 on the same device, of a model in evaluation mode.

    Where memory does not suffice, the batch is halved until it does, the model keeps that size, and a warning says so.
    In evaluation an image's logits do not depend on those beside it, but for rounding. Raises
    :class:`~retino_cli.errors.RetinoError` where one image is too much.
    """
    return compute_fitting(
        model, len(images), lambda rows: _logits(model, images[rows], spec, runtime), spec=spec, runtime=runtime
    )


def compute_fitting(
    model: nn.Module, n: int, compute: Callable[[slice], Tensor], *, spec: PreprocessSpec, runtime: Runtime
) -> Tensor:
    """What ``compute`` gives for ``n`` images, (n, ...), in pieces as large as memory allows: see
    :func:`batch_logits`. ``compute`` gets the rows of a piece."""
    size = asked = min(n, _FITTING.get(model, n))
    while True:
        try:
            step = max(size, 1)
            values = torch.cat([compute(slice(start, start + step)) for start in range(0, max(n, 1), step)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size <= 1:
                raise RetinoError(
                    f"Out of memory with one image of {spec.image_size} px: {str(error).splitlines()[0]}",
                    "Compute elsewhere (--device cpu), or end other programs that use the same memory.",
                ) from error
            size = -(-size // 2)
        else:
            if size < asked:
                _FITTING[model] = size
                _logger.warning(
                    "Out of memory with %d images at once: %d at a time from here on; rounding apart, the numbers are "
                    "the same.", asked, size,
                )  # fmt: skip
            return values
        free_memory(runtime.device)  # outside of the handler, where the exception holds on to what was computed


def _logits(model: nn.Module, images: Tensor, spec: PreprocessSpec, runtime: Runtime) -> Tensor:
    images = normalise(to_float(images), spec)
    with runtime.autocast():
        logits: Tensor = model(images)
    return logits.float()


def batch_probabilities(
    model: nn.Module, images: Tensor, spec: PreprocessSpec, runtime: Runtime, *, tta: bool = False
) -> np.ndarray:
    """uint8 (B, 3, S, S) -> probabilities (B, 5) float64: the softmax of the logits, in float64 on the CPU.

    ``tta`` (test-time augmentation): the mean of the probabilities of the eight ways in which a square picture can lie,
    four quarter turns and their mirror images, at eight times the cost. Which way up a retina is says nothing about its
    grade.
    """
    if not tta:
        return _softmax(batch_logits(model, images, spec, runtime))
    total = np.zeros((len(images), N_GRADES))
    for view in symmetries(images):
        total += _softmax(batch_logits(model, view, spec, runtime))
    return total / N_SYMMETRIES


def symmetries(images: Tensor) -> Iterator[Tensor]:
    """The eight symmetries of the square, applied to (B, 3, S, S); the first is the picture as it is. Channels last."""
    for turns in range(4):
        turned = torch.rot90(images, turns, dims=(2, 3))
        for view in (turned, turned.flip(3)):
            yield view.contiguous(memory_format=torch.channels_last)


def _softmax(logits: Tensor) -> np.ndarray:
    return torch.softmax(logits.cpu().double(), dim=1).numpy()


def predict(
    model: nn.Module,
    data: LabelledImages,
    spec: PreprocessSpec,
    runtime: Runtime,
    *,
    tta: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Predictions:
    """The predictions of ``model`` on ``data`` (:func:`batch_probabilities`), with the true grades beside them."""
    model.eval()
    parts = [
        batch_probabilities(model, data.batch(index, runtime.device), spec, runtime, tta=tta)
        for index in _indices(len(data), batch_size)
    ]
    return Predictions(
        image_id=data.column("image_id").astype(str),
        patient_id=data.column("patient_id").astype(str),
        eye=data.column("eye").astype(str),
        grade=data.grade,
        probabilities=np.concatenate(parts),
    )
