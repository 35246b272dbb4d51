"""Prepared pictures together with their grades: what training and evaluation take batches from."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    resident: Tensor | None = None
    """(N, S, S, 3) uint8 on a device: all pictures, where :meth:`resident_on` put them there."""

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

    def subset(self, chosen: np.ndarray) -> LabelledImages:
        """The images that ``chosen`` (N,) bool marks, in the same order."""
        resident = None if self.resident is None else self.resident[torch.from_numpy(np.flatnonzero(chosen))]
        return replace(self, kept=self.kept[chosen], resident=resident)

    def listed(self) -> Manifest:
        """The manifest of these images alone: without unreadable ones, and without those that were left out."""
        rows = np.zeros(len(self.manifest.table), dtype=bool)
        rows[self.kept] = True
        return self.manifest.take(rows)

    def column(self, name: str) -> np.ndarray:
        """A column of the manifest for the readable images, (N,)."""
        return np.asarray(self.manifest.table[name].to_numpy()[self.kept])

    def batch(self, index: np.ndarray, device: torch.device) -> Tensor:
        """Pictures ``index`` (B,) as uint8 (B, 3, S, S) in channels-last memory format, on ``device``."""
        if self.resident is not None and self.resident.device == device:
            rows = to_device_async(torch.from_numpy(index), device)
            return self.resident[rows].permute(0, 3, 1, 2)
        return to_device(self.images.gather(self.kept[index]), device)

    def resident_on(self, device: torch.device, *, most_bytes: int) -> LabelledImages:
        """The same with all pictures on ``device``, where they take no more than ``most_bytes`` there; else unchanged.

        A batch is then a gather in the device's own memory, and nothing travels during the training.
        """
        shape = self.images.shape
        if len(self) == 0 or len(self) * int(np.prod(shape)) > most_bytes:
            return self
        resident = torch.empty((len(self), *shape), dtype=torch.uint8, device=device)
        for start in range(0, len(self), _CHUNK):
            part = self.images.gather(self.kept[start : start + _CHUNK])
            resident[start : start + len(part)] = torch.from_numpy(part).to(device)
        return replace(self, resident=resident)


_CHUNK = 256
"""Pictures that travel at once when all of them move to a device."""


def to_device_async(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on ``device``; on CUDA through pinned memory, so that the copy does not make the program wait."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def to_device(pictures: np.ndarray, device: torch.device) -> Tensor:
    """(B, S, S, 3) uint8 -> uint8 (B, 3, S, S) in channels-last memory format, on ``device``."""
    return to_device_async(torch.from_numpy(pictures), device).permute(0, 3, 1, 2)
