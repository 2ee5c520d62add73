"""ResNet-18 without its classifier (He et al. 2016), with GroupNorm in place of BatchNorm.

Layers are called as in torchvision, whose weights of convolutions it therefore takes. torchvision itself is no
dependency: its packages need the one build of torch that each was made for.
"""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, or beside a 1 x 1 convolution where the size changes."""

    def __init__(self, inside: int, outside: int, stride: int, group: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.GroupNorm(outside // group, outside)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.GroupNorm(outside // group, outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.GroupNorm(outside // group, outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, outside, h / stride, w / stride)."""
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(h + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Images (B, 3, height, width) to maps (B, 512, height / 32, width / 32).

    Args:
        group: channels of a GroupNorm's group.
    """

    channels = 512

    def __init__(self, group: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.GroupNorm(64 // group, 64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for number, (outside, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), 1):
            blocks = BasicBlock(inside, outside, stride, group), BasicBlock(outside, outside, 1, group)
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
