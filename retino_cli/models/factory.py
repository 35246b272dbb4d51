"""The one place where a model is made from its names, which :mod:`retino_cli.config` lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

from retino_cli.config import ARCHITECTURES, HEADS, STEMS, TIMM_PREFIX, is_timm
from retino_cli.errors import UsageError
from retino_cli.models.resnet import BasicBlock, Bottleneck, ResNet

_DEPTHS: Final[dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


def build_model(
    arch: str, *, head: str = "linear", stem: str = "7x7", dropout: float = 0.25, image_size: int = 224
) -> nn.Module:
    """Build a grader with fresh random weights (drawn from torch's global generator): (B, 3, H, W) -> logits (B, 5).

    ``arch`` is one of :data:`ARCHITECTURES` or ``timm:NAME``, ``head`` of :data:`HEADS`, ``stem`` of :data:`STEMS`;
    ``dropout`` in [0, 1) is used by the lab head only. Networks of timm have a stem of their own: ``stem`` does not
    count for them, and ``image_size`` (pixels) counts for those that are made for one size only. Raises UsageError,
    listing the choices, for anything else.
    """
    _check_choice("head", head, HEADS, flag="--head")
    if not 0.0 <= dropout < 1.0:
        raise UsageError(f"Dropout {dropout:g} is out of range: it is a probability, at least 0 and below 1.")
    if is_timm(arch):
        from retino_cli.models.timm_backbones import build_backbone

        return build_backbone(arch, head=head, dropout=dropout, image_size=image_size)
    _check_choice("architecture", arch, (*ARCHITECTURES, f"{TIMM_PREFIX}NAME"), flag="--arch")
    _check_choice("stem", stem, STEMS, flag="--stem")
    block, layers = _DEPTHS[arch]
    return ResNet(block, layers, head=head, stem=stem, dropout=dropout)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters (buffers such as batch norm's running means are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _check_choice(kind: str, name: str, choices: Sequence[str], *, flag: str) -> None:
    if name not in choices:
        raise UsageError(f"Unknown {kind} '{name}' ({flag}); the choices are {', '.join(choices)}.")
