"""THE preprocessing: a frozen, JSON-able spec, and the only code that applies it.

Everything that looks at a photograph - training, evaluation, prediction, export - goes through this module. The spec
belongs to the checkpoint: whoever uses a model takes the spec from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from retino_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    import torch

Crop = Literal["retina", "none"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

# The statistics that ImageNet weights expect, RGB in [0, 1]. Source: torchvision's ResNet weights, `transforms()`.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

SPEC_VERSION: Final = 1
"""Raised whenever the same spec would give other pixels than before."""


@dataclass(frozen=True)
class PreprocessSpec:
    """How a photograph becomes the model's input.

    ``image_size``: side S of the square input in pixels, 8..4096.
    ``crop``: "retina" crops to the round field and pads to a square with black; "none" resizes the whole frame straight
    to (S, S), as the lab does.
    ``interpolation``: filter of the resize, always with antialias.
    ``mean``, ``std``: RGB, of values in [0, 1]; (0, 0, 0) and (1, 1, 1) mean no normalisation.
    ``version``: version of this code's pixels.

    Raises ``UsageError`` for a value out of range.
    """

    image_size: int = 224
    crop: Crop = "retina"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        if isinstance(self.image_size, bool) or not isinstance(self.image_size, int):
            raise UsageError(f"image size {self.image_size!r} is not a whole number of pixels")
        if not 8 <= self.image_size <= 4096:
            raise UsageError(f"image size {self.image_size} is out of range: 8 to 4096 pixels")
        for name, value, choices in (
            ("crop", self.crop, get_args(Crop)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
        ):
            if value not in choices:
                raise UsageError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers = tuple(float(value) for value in values)
            if len(numbers) != 3 or not all(abs(number) < 1e3 for number in numbers):
                raise UsageError(f"{name} {values!r} must be three finite numbers, one for each of R, G, B")
            # A spec read from JSON brings lists and whole numbers: one spelling, so that equal specs hash alike.
            object.__setattr__(self, name, numbers)
        if not all(value > 0 for value in self.std):
            raise UsageError(f"std {self.std!r} must be greater than 0 in every channel")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; ``from_dict`` is its inverse."""
        fields = dataclasses.asdict(self)
        return fields | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PreprocessSpec:
        """The spec that ``to_dict`` wrote. Raises ``WeightsError`` for one that this version of retino cannot apply."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        missing = sorted(known - set(fields))
        if unknown or missing:
            wrong = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(
                missing
            )
            raise WeightsError(
                f"preprocessing spec has fields that do not fit this retino: {'; '.join(wrong)}", _UPGRADE
            )
        if fields["version"] != SPEC_VERSION:
            raise WeightsError(
                f"preprocessing spec has version {fields['version']!r}; this retino applies version {SPEC_VERSION}",
                _UPGRADE,
            )
        try:
            return cls(**fields)
        except (UsageError, TypeError, ValueError) as error:
            raise WeightsError(f"preprocessing spec cannot be applied: {error}", _UPGRADE) from error

    @property
    def hash(self) -> str:
        """12 hex digits of the SHA-256 of the spec as canonical JSON."""
        return _hash(self.to_dict())

    @property
    def geometry_hash(self) -> str:
        """``hash`` without mean and std: two specs that give the same uint8 pixels share it. Names the cache."""
        fields = self.to_dict()
        del fields["mean"], fields["std"]
        return _hash(fields)


_UPGRADE: Final = "use the version of retino that wrote it, or train again"


def _hash(fields: dict[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, S, S) in 0..255 -> float32 in [0, 1]; the memory format is kept."""
    import torch

    # Division, not multiplication by 1/255: the same rounding as torchvision's ToTensor, bit for bit.
    return images.to(torch.float32).div_(255.0)


def normalise(images: torch.Tensor, spec: PreprocessSpec) -> torch.Tensor:
    """float (B, 3, S, S) in [0, 1] -> (images - mean) / std by channel; the input itself where mean is 0 and std 1."""
    import torch

    if spec.mean == (0.0, 0.0, 0.0) and spec.std == (1.0, 1.0, 1.0):
        return images
    mean = torch.tensor(spec.mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std
