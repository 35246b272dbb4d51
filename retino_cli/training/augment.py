"""Augmentation of whole batches on the device.

What happens to an image is a pure function of (seed, epoch, image index): :func:`draw_parameters` makes one table of
random numbers per epoch, a row an image, so a resumed run, another batch size or another number of processes sees the
same pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed.

    ``flips``: horizontal and vertical, each with probability one half. ``rotation``: degrees either way. ``scale``: the
    range of the area kept, 1 being the whole picture. ``ratio``: the range of width to height. ``shift``: share of the
    side either way. ``brightness`` and ``contrast``: factor of 1 plus or minus this much.
    """

    flips: bool = False
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @property
    def warps(self) -> bool:
        """Whether pixels have to be interpolated (a flip alone only moves them)."""
        return self.rotation > 0 or self.shift > 0 or self.scale != (1.0, 1.0) or self.ratio != (1.0, 1.0)

    @property
    def changes_light(self) -> bool:
        return self.brightness > 0 or self.contrast > 0


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "flips": Augmentation(flips=True),
    # Huang et al. 2023, table of the chosen components.
    "strong": Augmentation(
        flips=True,
        rotation=180.0,
        scale=(0.87, 1.15),
        ratio=(0.7, 1.3),
        shift=0.2,
        brightness=0.2,
        contrast=0.2,
    ),
    # Free rotation about a picture that stays in the frame: for pictures that are cropped to the field already.
    "free": Augmentation(
        flips=True,
        rotation=180.0,
        scale=(0.7, 1.4),
        shift=0.1,
        brightness=0.2,
        contrast=0.2,
    ),
}

N_PARAMETERS = 9


def draw_parameters(*, seed: int, epoch: int, n_images: int) -> np.ndarray:
    """Uniform random numbers in [0, 1), shape (n_images, 9), float64; row i does not depend on n_images."""
    return np.random.default_rng([seed, epoch, 1]).random((n_images, N_PARAMETERS))


def draw_order(*, seed: int, epoch: int, n_images: int) -> np.ndarray:
    """The order in which the epoch visits the images: a permutation of 0..n_images-1, shape (n_images,), int64."""
    return np.random.default_rng([seed, epoch, 0]).permutation(n_images)


def augment(images: Tensor, parameters: Tensor, augmentation: Augmentation) -> Tensor:
    """Change a batch of images.

    ``images``: float (B, 3, S, S) in [0, 1]; ``parameters``: (B, 9) in [0, 1) on the same device. Returns the same
    shape, memory format and range. Where the picture is moved away, black comes in, as around the retina. All geometry
    is one affine map and so one (bilinear) interpolation.
    """
    u = parameters.to(images.dtype)  # (B, 9)
    if augmentation.warps:
        layout = torch.channels_last if images.stride(1) == 1 else torch.contiguous_format
        images = F.grid_sample(
            images,
            _grid(_affine(u, augmentation), images.shape[2], images.shape[3]),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        ).contiguous(memory_format=layout)  # grid_sample forgets the layout
    elif augmentation.flips:
        images = _flip(images, u[:, 0] < 0.5, axis=3)
        images = _flip(images, u[:, 1] < 0.5, axis=2)
    if augmentation.changes_light:
        images = _relight(images, u, augmentation)
    return images


def _grid(affine: Tensor, height: int, width: int) -> Tensor:
    """Where each output pixel is read, (B, H, W, 2), from (B, 2, 3).

    The same as torch's ``affine_grid`` (align_corners=False) up to rounding, as two outer sums instead of a matrix
    product over all pixels, which took longer than the interpolation itself.
    """
    x = (torch.arange(width, device=affine.device, dtype=affine.dtype) * 2 + 1) / width - 1  # (W,)
    y = (torch.arange(height, device=affine.device, dtype=affine.dtype) * 2 + 1) / height - 1  # (H,)
    along_x = affine[:, :, 0, None] * x  # (B, 2, W)
    along_y = affine[:, :, 1, None] * y + affine[:, :, 2, None]  # (B, 2, H)
    grid = affine.new_empty((len(affine), height, width, 2))
    for axis in (0, 1):
        torch.add(along_x[:, axis, None, :], along_y[:, axis, :, None], out=grid[..., axis])
    return grid


def _affine(u: Tensor, augmentation: Augmentation) -> Tensor:
    """(B, 2, 3): for each output position in [-1, 1]^2, where in the input it is read."""
    angle = (u[:, 2] * 2 - 1) * math.radians(augmentation.rotation)
    log_ratio = _between(u[:, 4], math.log(augmentation.ratio[0]), math.log(augmentation.ratio[1]))
    area = _between(u[:, 3], *augmentation.scale)
    width, height = (area * log_ratio.exp()).sqrt(), (area / log_ratio.exp()).sqrt()  # share of the side that is seen
    if augmentation.flips:
        width = torch.where(u[:, 0] < 0.5, -width, width)
        height = torch.where(u[:, 1] < 0.5, -height, height)
    shift_x, shift_y = ((u[:, k] * 2 - 1) * 2 * augmentation.shift for k in (5, 6))  # the side is 2 long here
    cos, sin = angle.cos(), angle.sin()
    return torch.stack(
        [
            torch.stack([cos * width, -sin * height, shift_x], dim=1),
            torch.stack([sin * width, cos * height, shift_y], dim=1),
        ],
        dim=1,
    )


def _flip(images: Tensor, chosen: Tensor, *, axis: int) -> Tensor:
    return torch.where(chosen[:, None, None, None], images.flip(axis), images)


def _relight(images: Tensor, u: Tensor, augmentation: Augmentation) -> Tensor:
    """Brightness multiplies; contrast stretches about the picture's own mean grey. The result is clipped to [0, 1].

    With brightness b, contrast c and mean m: c (b x - b m) + b m = b c x + b m (1 - c).
    """
    brightness = 1 + (u[:, 7] * 2 - 1) * augmentation.brightness
    contrast = 1 + (u[:, 8] * 2 - 1) * augmentation.contrast
    mean = images.mean(dim=(1, 2, 3))  # (B,)
    gain, offset = brightness * contrast, brightness * mean * (1 - contrast)
    return (images * gain[:, None, None, None]).add_(offset[:, None, None, None]).clamp_(0, 1)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + u * (high - low)
