"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The linear average of its ``members``' probabilities, as Gulshan et al. (2016, doi:10.1001/jama.2016.17216) took
    it over ten networks that were trained on the same data.

    :meth:`forward` takes what each member takes and gives log((1/M) sum over m of softmax(z_m)), (B, 5) float32: the
    softmax of these is the mean of the members' probabilities, so that an ensemble stands wherever a network does.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        logs = torch.stack([torch.log_softmax(member(images).float(), dim=1) for member in self.members])  # (M, B, 5)
        return torch.logsumexp(logs, dim=0) - math.log(len(self.members))
