"""Losses on five logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retino_cli.grades import N_GRADES

FOCAL_GAMMA = 2.0

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, 5), grade (B,) int64) -> mean loss, a scalar."""


def build_loss(name: str, *, ordinal_sigma: float = 0.4, class_weights: Tensor | None = None) -> Loss:
    """The loss ``ce``, ``focal`` or ``ordinal``, with an optional weight per grade (5,).

    - ``ce``: cross-entropy, -log p_y.
    - ``focal``: -(1 - p_y)^2 log p_y (Lin et al. 2017, "Focal Loss for Dense Object Detection", gamma 2).
    - ``ordinal``: cross-entropy against labels smoothed along the grades, q_k ~ exp(-(k - y)^2 / (2 s^2)) (Diaz
      and Marathe 2019, "Soft Labels for Ordinal Regression"), so that a miss by one grade costs less than a miss by
      three. ``ordinal_sigma`` is s, in grades: 0.4 leaves 0.92 to the grade itself, 0.7 only 0.58 (grade 2).

    With weights, each image counts by the weight of its true grade, and the mean is over the sum of the weights.
    """
    steps = torch.arange(N_GRADES, dtype=torch.float32)
    soft = torch.softmax(-((steps[:, None] - steps[None, :]) ** 2) / (2 * ordinal_sigma**2), dim=1)  # (5, 5)

    moved: dict[torch.device, Tensor] = {}  # a copy per step would make a GPU wait

    def per_image(logits: Tensor, grade: Tensor) -> Tensor:  # -> (B,)
        if name == "ordinal":
            if logits.device not in moved:
                moved[logits.device] = soft.to(logits.device)
            targets = moved[logits.device]
            return F.cross_entropy(logits, targets[grade], reduction="none")
        ce = F.cross_entropy(logits, grade, reduction="none")
        return ce * (1 - torch.exp(-ce)) ** FOCAL_GAMMA if name == "focal" else ce

    def loss(logits: Tensor, grade: Tensor) -> Tensor:
        losses = per_image(logits.float(), grade)
        if class_weights is None:
            return losses.mean()
        weights = class_weights.to(losses.device)[grade]
        return (losses * weights).sum() / weights.sum()

    return loss


def divide_loss(loss: Loss, grade: Tensor, *, class_weights: Tensor | None = None) -> Callable[[Tensor, slice], Tensor]:
    """The loss of a batch with grades ``grade`` (B,) as a function of (logits (b, 5) of a piece, its place in the
    batch), whose values over all pieces add up to ``loss`` of the batch.

    ``loss`` is a mean over images or, with the same ``class_weights`` (5,) as here, over weights: a piece counts by its
    share of the images, or of the sum of the weights.
    """

    def part(logits: Tensor, piece: slice) -> Tensor:
        mean = loss(logits, grade[piece])
        if len(logits) == len(grade):
            return mean
        if class_weights is None:
            return mean * (len(logits) / len(grade))
        weights = class_weights.to(logits.device)[grade]
        return mean * (weights[piece].sum() / weights.sum())

    return part


def balanced_weights(counts: np.ndarray) -> Tensor:
    """Weights (5,) float32 by inverse frequency: n / (k * n_grade) over the k grades that occur, 0 for the others.

    ``counts``: training images per grade, (5,). The same as scikit-learn's ``class_weight="balanced"``.
    """
    present = counts > 0
    weights = np.zeros(N_GRADES)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return torch.from_numpy(weights).float()
