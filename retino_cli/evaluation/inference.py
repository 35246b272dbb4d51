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
        images = normalise(to_float(data.batch(index, runtime.device)), spec)  # (B, 3, S, S)
        with runtime.autocast():
            parts.append(model(images).float())
    return torch.cat(parts).cpu()


def predict(model: nn.Module, data: LabelledImages, spec: PreprocessSpec, runtime: Runtime) -> Predictions:
    """The predictions of ``model`` on ``data``: softmax of the logits in float64, with the true grades beside them."""
    probabilities = torch.softmax(predict_logits(model, data, spec, runtime).double(), dim=1).numpy()  # (N, 5)
    return Predictions(
        image_id=data.column("image_id").astype(str),
        patient_id=data.column("patient_id").astype(str),
        eye=data.column("eye").astype(str),
        grade=data.grade,
        probabilities=probabilities,
    )
