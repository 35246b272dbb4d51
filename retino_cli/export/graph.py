"""What is exported: a grader from prepared pixels to answers, as one module."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from retino_cli.evaluation.inference import N_SYMMETRIES, symmetries
from retino_cli.grades import GRADES, N_GRADES, REFERABLE_GRADE
from retino_cli.models.exported import OUTPUTS, REFER_OUTPUT
from retino_cli.preprocess import PreprocessSpec, standardise, statistics, to_float


class GraderGraph(nn.Module):
    """Prepared pictures to answers, in float32: the second half of the preprocessing, the network, the mean over eight
    views where ``tta``, and what predictions are made of.

    :meth:`forward` takes uint8 (B, 3, S, S), RGB, and gives ``output_names``: probabilities (B, 5); score (B,), the sum
    over k of k p_k; grade (B,) int64, the most probable; referable (B,), p2 + p3 + p4; with a ``threshold`` also refer
    (B,) bool, whether referable is at least that.
    """

    def __init__(self, model: nn.Module, spec: PreprocessSpec, *, tta: bool, threshold: float | None) -> None:
        super().__init__()
        self.model = model
        self._tta, self._threshold = tta, threshold
        # Here and not in forward, which the exporter follows with tensors that hold no numbers.
        for name, values in zip(("mean", "std"), statistics(spec, torch.float32, torch.device("cpu")), strict=True):
            self.register_buffer(name, values)
        self.register_buffer("grades", torch.tensor(GRADES, dtype=torch.float32))

    @property
    def output_names(self) -> tuple[str, ...]:
        return OUTPUTS if self._threshold is None else (*OUTPUTS, REFER_OUTPUT)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = standardise(to_float(images), self.get_buffer("mean"), self.get_buffer("std"))
        views = torch.cat(list(_views(pixels))) if self._tta else pixels  # (8 B, 3, S, S)
        probabilities = torch.softmax(self.model(views), dim=1)
        if self._tta:
            probabilities = probabilities.view(N_SYMMETRIES, -1, N_GRADES).mean(dim=0)
        score = (probabilities * self.get_buffer("grades")).sum(dim=1)
        referable = probabilities[:, REFERABLE_GRADE:].sum(dim=1)
        answers = (probabilities, score, probabilities.argmax(dim=1), referable)
        return answers if self._threshold is None else (*answers, referable >= self._threshold)


def _views(images: Tensor) -> Iterator[Tensor]:
    for view in symmetries(images):
        yield view.contiguous()
