"""Running a model over prepared pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from retino_cli.data.labelled import LabelledImages
from retino_cli.evaluation.predictions import Predictions
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime

BATCH_SIZE = 32


@torch.inference_mode()
def predict_logits(
    model: nn.Module, data: LabelledImages, spec: PreprocessSpec, runtime: Runtime, *, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Logits (N, 5) float32 on the CPU, in the order of ``data``. The model is put into evaluation mode."""
    model.eval()
    parts = []
    for start in range(0, len(data), batch_size):
        index = np.arange(start, min(start + batch_size, len(data)))
        parts.append(batch_logits(model, data.batch(index, runtime.device), spec, runtime))
    return torch.cat(parts).cpu()


@torch.inference_mode()
def batch_logits(model: nn.Module, images: Tensor, spec: PreprocessSpec, runtime: Runtime) -> Tensor:
    """uint8 (B, 3, S, S) -> logits (B, 5) float32 on the same device, of a model in evaluation mode."""
    images = normalise(to_float(images), spec)
    with runtime.autocast():
        logits: Tensor = model(images)
    return logits.float()


def probabilities(logits: Tensor) -> np.ndarray:
    """Softmax of logits (N, 5), computed in float64 on the CPU: (N, 5) float64."""
    return torch.softmax(logits.cpu().double(), dim=1).numpy()


def predict(model: nn.Module, data: LabelledImages, spec: PreprocessSpec, runtime: Runtime) -> Predictions:
    """The predictions of ``model`` on ``data``: softmax of the logits in float64, with the true grades beside them."""
    return Predictions(
        image_id=data.column("image_id").astype(str),
        patient_id=data.column("patient_id").astype(str),
        eye=data.column("eye").astype(str),
        grade=data.grade,
        probabilities=probabilities(predict_logits(model, data, spec, runtime)),
    )
