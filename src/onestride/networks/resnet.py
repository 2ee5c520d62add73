"""ResNet-18 without its classifier (He et al. 2016), with GroupNorm or fixed statistics in place of BatchNorm.

Layers are called as in torchvision, whose weights of convolutions it therefore takes. torchvision itself is no
dependency: its packages need the one build of torch that each was made for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: Makes the normalisation of so many channels.
Norm = Callable[[int], nn.Module]


def group_norm(channels: int, group: int = 16) -> nn.Module:
    """Return a GroupNorm with so many channels to a group."""
    return nn.GroupNorm(channels // group, channels)


class FixedNorm(nn.Module):
    """A factor and a sum for each channel: what BatchNorm is once its statistics do not change any more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, channels, h, w)."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def fixed_norm(channels: int) -> nn.Module:
    """Return a normalisation whose statistics are fixed."""
    return FixedNorm(channels)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, or beside a 1 x 1 convolution where the size changes."""

    def __init__(self, inside: int, outside: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = norm(outside)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = norm(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), norm(outside))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, outside, h / stride, w / stride)."""
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(h + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Images (B, 3, height, width) to maps (B, 512, height / 32, width / 32).

    Args:
        norm: makes the normalisation of so many channels.
    """

    channels = 512

    def __init__(self, norm: Norm = group_norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for number, (outside, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), 1):
            blocks = BasicBlock(inside, outside, stride, norm), BasicBlock(outside, outside, 1, norm)
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            inside = outside
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x
