"""Residual networks, built from the two blocks of the paper.

Sources: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (https://arxiv.org/abs/1512.03385). The
bottleneck strides in its 3x3 convolution ("v1.5"), as torchvision's does. Module names, shapes, initialisation and the
order in which random numbers are drawn equal torchvision's, so that its files load as they are, and the same seed gives
the same network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from retino_cli.grades import N_GRADES

LAB_HIDDEN_FEATURES = 50


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias (a batch norm follows); stride 1 keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias (a batch norm follows)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


def build_lab_head(features: int, *, dropout: float, outputs: int = N_GRADES) -> nn.Sequential:
    """The lab report's classifier: (B, features) -> (B, outputs)."""
    return nn.Sequential(
        nn.Linear(features, LAB_HIDDEN_FEATURES),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(LAB_HIDDEN_FEATURES, outputs),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``relu(x' + bn(conv(relu(bn(conv(x))))))``.

    ``x'`` is ``x`` itself, or its 1x1 projection (``downsample``) where stride or channels change.
    Input (B, in_channels, H, W), output (B, channels, H/stride, W/stride).
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H/stride, W/stride)
        out = self.bn2(self.conv2(out))
        out += shortcut
        out = self.relu(out)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut; the last one widens to 4 times the channels.

    ``x'`` as in :class:`BasicBlock`. Input (B, in_channels, H, W), output (B, 4 * channels, H/stride, W/stride).
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn1(self.conv1(x)))  # (B, channels, H, W)
        out = self.relu(self.bn2(self.conv2(out)))  # (B, channels, H/stride, W/stride)
        out = self.bn3(self.conv3(out))  # (B, 4 * channels, H/stride, W/stride)
        out += shortcut
        out = self.relu(out)
        return out


class ResNet(nn.Module):
    """A residual network of any depth: ``block`` repeated ``layers[i]`` times in stage i.

    ``stem``: ``"7x7"`` (stride 2, then max pool: quarter resolution, for photographs) or ``"3x3"`` (stride 1, no max
    pool: full resolution, for pictures of 64 px and less, as MedMNIST's official ResNets at 28 px).

    ``head``: ``"linear"`` is ``fc = Linear(features, outputs)``, exactly torchvision's; ``"lab"`` is
    ``fc = (Linear(features, 50), ReLU, Dropout(dropout), Linear(50, outputs))``, the lab report's classifier.
    ``dropout`` counts in the lab head only. ``features`` is 512 for BasicBlock and 2048 for Bottleneck.

    Raises ValueError for an unknown head or stem; :func:`retino_cli.models.factory.build_model` checks names that come
    from a user.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        *,
        head: str = "linear",
        stem: str = "7x7",
        dropout: float = 0.25,
        outputs: int = N_GRADES,
    ) -> None:
        super().__init__()
        self.maxpool: nn.Module
        if stem == "7x7":
            self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        elif stem == "3x3":
            self.conv1 = conv3x3(3, 64)
            self.maxpool = nn.Identity()
        else:
            raise ValueError(f"unknown stem {stem!r}")
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _make_stage(block, 64, 64, layers[0], stride=1)
        self.layer2 = _make_stage(block, 64 * block.expansion, 128, layers[1], stride=2)
        self.layer3 = _make_stage(block, 128 * block.expansion, 256, layers[2], stride=2)
        self.layer4 = _make_stage(block, 256 * block.expansion, 512, layers[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.features = 512 * block.expansion
        self.fc: nn.Module
        if head == "linear":
            self.fc = nn.Linear(self.features, outputs)
        elif head == "lab":
            self.fc = build_lab_head(self.features, dropout=dropout, outputs=outputs)
        else:
            raise ValueError(f"unknown head {head!r}")
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation by fan-out for convolutions, 1 and 0 for batch norms, PyTorch's default for the head."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, 1)
                nn.init.constant_(module.bias, 0)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> pooled features (B, features), what the head sees.

        Comments give the sizes behind the 7x7 stem; behind the 3x3 stem each is four times as large.
        """
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.maxpool(x)  # (B, 64, H/4, W/4)
        x = self.layer1(x)  # (B, 64 * expansion, H/4, W/4)
        x = self.layer2(x)  # (B, 128 * expansion, H/8, W/8)
        x = self.layer3(x)  # (B, 256 * expansion, H/16, W/16)
        x = self.layer4(x)  # (B, 512 * expansion, H/32, W/32)
        x = self.avgpool(x)  # (B, 512 * expansion, 1, 1)
        return torch.flatten(x, 1)  # (B, features)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, outputs), one per grade."""
        x = self.fc(self.forward_features(x))  # (B, outputs)
        return x


def _make_stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, blocks: int, *, stride: int
) -> nn.Sequential:
    """``blocks`` blocks at one resolution; the first one strides, and projects its shortcut where shapes change."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels))
    first = block(in_channels, channels, stride=stride, downsample=downsample)
    return nn.Sequential(first, *(block(out_channels, channels) for _ in range(blocks - 1)))
