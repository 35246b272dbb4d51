"""Running a model over prepared pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from retino_cli.data.labelled import LabelledImages
from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import N_GRADES
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime

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


@torch.inference_mode()
def batch_logits(model: nn.Module, images: Tensor, spec: PreprocessSpec, runtime: Runtime) -> Tensor:
    """uint8 (B, 3, S, S) -> logits (B, 5) float32 on the same device, of a model in evaluation mode."""
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
