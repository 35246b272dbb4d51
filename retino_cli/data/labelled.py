"""Prepared pictures together with their grades: what training and evaluation take batches from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retino_cli.data.manifest import Manifest
from retino_cli.data.prepared import PreparedImages


@dataclass(frozen=True)
class LabelledImages:
    """The readable images of one split, in the manifest's order. ``kept``: their rows in ``manifest.table``, (N,)."""

    manifest: Manifest
    images: PreparedImages
    kept: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest, images: PreparedImages) -> LabelledImages:
        """Join a manifest with what :func:`~retino_cli.data.prepared.prepare` made of it, without unreadable images."""
        return cls(manifest=manifest, images=images, kept=np.flatnonzero(images.rows >= 0))

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def grade(self) -> np.ndarray:
        """(N,) int64, 0..4."""
        return self.column("grade").astype(np.int64)

    def column(self, name: str) -> np.ndarray:
        """A column of the manifest for the readable images, (N,)."""
        return np.asarray(self.manifest.table[name].to_numpy()[self.kept])

    def batch(self, index: np.ndarray, device: torch.device) -> Tensor:
        """Pictures ``index`` (B,) as uint8 (B, 3, S, S) in channels-last memory format, on ``device``."""
        return to_device(self.images.gather(self.kept[index]), device)


def to_device(pictures: np.ndarray, device: torch.device) -> Tensor:
    """(B, S, S, 3) uint8 -> uint8 (B, 3, S, S) in channels-last memory format, on ``device``."""
    pixels = torch.from_numpy(pictures)
    if device.type == "cuda":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    elif device.type != "cpu":
        pixels = pixels.to(device)
    return pixels.permute(0, 3, 1, 2)
