"""THE preprocessing: a frozen, JSON-able spec, and the only code that applies it.

Everything that looks at a photograph - training, evaluation, prediction, export - goes through this module. The spec
belongs to the checkpoint: whoever uses a model takes the spec from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from retino_cli.data.pictures import EncodedPicture, decode
from retino_cli.data.retina import find_field
from retino_cli.data.square import FILTERS, Interpolation, cut_square
from retino_cli.errors import DataError, UsageError, WeightsError

if TYPE_CHECKING:
    import torch

Crop = Literal["retina", "none"]

# The statistics that ImageNet weights expect, RGB in [0, 1]. Source: torchvision's ResNet weights, `transforms()`.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

SPEC_VERSION: Final = 2
"""Raised whenever the same spec would give other pixels than before; older versions are applied as they were.

1: Pillow resizes. 2: torch's kernel does, with crop "retina" and most boxes (``data.square``): in some pixels of a
thousand 1 level of 255 more or less.
"""
_TORCH_KERNEL_SINCE: Final = 2


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
        version = fields["version"]
        if type(version) is not int or not 1 <= version <= SPEC_VERSION:
            raise WeightsError(
                f"preprocessing spec has version {version!r}; this retino applies versions 1 to {SPEC_VERSION}",
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


@dataclass(frozen=True)
class PreparedPicture:
    """A picture as the model's input, still uint8, and where it comes from.

    ``pixels``: (S, S, 3) uint8, RGB.
    ``box``: left, top, right, bottom of what was kept, in pixels of the upright original.
    ``fallback``: no field was found, the whole frame was kept (never with crop "none").
    ``width``, ``height``: of the upright original, in pixels.
    ``sha256``: hex, of ``pixels`` and the original's width and height. Pictures with identical decoded pixels share it,
    under the same spec.
    """

    pixels: np.ndarray
    box: tuple[int, int, int, int]
    fallback: bool
    width: int
    height: int
    sha256: str


# A JPEG is decoded at the coarsest scale that leaves the crop's longer side at least this many times S. Mean absolute
# difference from decoding in full, in 1/255, over seven IDRiD photographs (mean, and the worst one in brackets), by
# what is left of the crop's longer side, as a multiple of S:
#             1/8, 1.3 x S   1/8, 1.9 x S   1/4, 1.7 x S   1/4, 3.8 x S
#   bilinear   .28 (.45)      .21 (.35)      .22 (.25)      .11 (.12)
#   bicubic    .33 (.51)      .22 (.37)      .25 (.29)      .12 (.14)
#   lanczos    .36 (.56)      .24 (.40)      .27 (.32)      .13 (.15)
# Below 1 x S the worst exceeds .7. Most of the rest is rounding in the two steps.
_MARGIN: Final = 4 / 3
_SMALLEST: Final = 8
"""Pixels a side. The smallest data set in use has 28; a thumbnail's thumbnail or a tracking pixel shows no retina."""


def prepare_picture(source: str | EncodedPicture, spec: PreprocessSpec) -> PreparedPicture:
    """Decode ``source`` (a path, "FILE.npz#train/12", or a picture in memory), crop, pad, resize: the first half of the
    preprocessing.

    The result differs from decoding in full, cropping to ``box``, padding to a square with black (crop "retina") and
    resizing with antialias by less than 1/255 on average.

    Raises ``DataError`` naming the file where it cannot be read, or is no photograph (a side below 8 pixels).
    """
    # The field usually spans at least the frame's shorter side; that side also limits the whole frame, squeezed.
    decoded = decode(source, lambda width, height: _coarsest_scale(min(width, height), spec.image_size))
    if min(decoded.width, decoded.height) < _SMALLEST:
        raise DataError(f"{source}: has only {decoded.width}x{decoded.height} pixels, too few for a photograph")
    if spec.crop == "none":
        box, fallback = (0, 0, decoded.width, decoded.height), False
        # By Pillow alone, as in the lab: the same pixels, bit for bit, where nothing was decoded at a smaller scale.
        image = decoded.image.resize(
            (spec.image_size, spec.image_size), FILTERS[spec.interpolation], box=_scaled(box, decoded.scale)
        )
        pixels = np.asarray(image)
    else:
        box, fallback = find_field(decoded)
        # A field that is small in its frame: once more, finer.
        finer = _coarsest_scale(max(box[2] - box[0], box[3] - box[1]), spec.image_size)
        if finer < decoded.scale:
            decoded = decode(source, lambda width, height: finer)
        pixels = cut_square(
            decoded, box, spec.image_size, spec.interpolation, torch_kernel=spec.version >= _TORCH_KERNEL_SINCE
        )
    digest = digest_picture(pixels, decoded.width, decoded.height)
    return PreparedPicture(pixels, box, fallback, decoded.width, decoded.height, digest)


def digest_picture(pixels: np.ndarray, width: int, height: int) -> str:
    """SHA-256 in hex of prepared pixels (S, S, 3) uint8, contiguous, and of the original's size in pixels."""
    digest = hashlib.sha256(pixels.data)
    digest.update(f"{width}x{height}".encode())
    return digest.hexdigest()


def _coarsest_scale(side: int, image_size: int) -> int:
    return next(scale for scale in (8, 4, 2, 1) if scale == 1 or side >= _MARGIN * image_size * scale)


def _scaled(box: tuple[int, int, int, int], scale: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left / scale, top / scale, right / scale, bottom / scale


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, S, S) in 0..255 -> float32 in [0, 1]; the memory format is kept."""
    import torch

    # Division, not multiplication by 1/255: the same rounding as torchvision's ToTensor, bit for bit.
    return images.to(torch.float32).div_(255.0)


def normalise(images: torch.Tensor, spec: PreprocessSpec) -> torch.Tensor:
    """float (B, 3, S, S) in [0, 1] -> (images - mean) / std by channel; the input itself where mean is 0 and std 1."""
    if spec.mean == (0.0, 0.0, 0.0) and spec.std == (1.0, 1.0, 1.0):
        return images
    return standardise(images, *statistics(spec, images.dtype, images.device))


def standardise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(images - mean) / std; what :func:`normalise` does with the :func:`statistics` of a spec."""
    return (images - mean).div_(std)


@lru_cache(maxsize=16)
def statistics(spec: PreprocessSpec, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (1, 3, 1, 1) on ``device``, kept there: a copy per batch would make a GPU wait."""
    import torch

    with torch.inference_mode(False):  # made once, perhaps first in an evaluation, and used in training as well
        mean, std = (torch.tensor(values, dtype=dtype, device=device) for values in (spec.mean, spec.std))
        return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
