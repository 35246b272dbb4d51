"""The one place where a model is made from its names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

from retino_cli.errors import UsageError
from retino_cli.models.resnet import BasicBlock, Bottleneck, ResNet

_DEPTHS: Final[dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}

ARCHITECTURES: Final[tuple[str, ...]] = tuple(_DEPTHS)
HEADS: Final[tuple[str, ...]] = ("lab", "linear")
STEMS: Final[tuple[str, ...]] = ("7x7", "3x3")

SMALL_IMAGE_SIZE: Final = 64
"""Pictures up to this many px get the 3x3 stem: the standard one leaves a 28 px picture one pixel at the end."""


def build_model(arch: str, *, head: str = "linear", stem: str = "7x7", dropout: float = 0.25) -> ResNet:
    """Build a grader with fresh random weights (drawn from torch's global generator): (B, 3, H, W) -> logits (B, 5).

    ``arch`` is one of :data:`ARCHITECTURES`, ``head`` of :data:`HEADS`, ``stem`` of :data:`STEMS`; ``dropout`` in
    [0, 1) is used by the lab head only. Raises UsageError, listing the choices, for anything else.
    """
    _check_choice("architecture", arch, ARCHITECTURES, flag="--arch")
    _check_choice("head", head, HEADS, flag="--head")
    _check_choice("stem", stem, STEMS, flag="--stem")
    if not 0.0 <= dropout < 1.0:
        raise UsageError(f"Dropout {dropout:g} is out of range: it is a probability, at least 0 and below 1.")
    block, layers = _DEPTHS[arch]
    return ResNet(block, layers, head=head, stem=stem, dropout=dropout)


def stem_for(image_size: int) -> str:
    """The stem that suits pictures of ``image_size`` px: ``"3x3"`` up to 64 px, else ``"7x7"``."""
    return "3x3" if image_size <= SMALL_IMAGE_SIZE else "7x7"


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters (buffers such as batch norm's running means are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _check_choice(kind: str, name: str, choices: Sequence[str], *, flag: str) -> None:
    if name not in choices:
        raise UsageError(f"Unknown {kind} '{name}' ({flag}); the choices are {', '.join(choices)}.")
