"""Encoders of images: a convolutional network, spatial softmax, a linear layer; random crops in training.

    images (B, n, height, width, 3), 0 to 255 -> crop -> network -> heat maps (K) -> their centres (2 K) -> features (F)

The form is that of robomimic (Mandlekar et al. 2021) and Diffusion Policy (Chi et al. 2023): BatchNorm would disagree
with a moving average of weights, so GroupNorm stands in its place, and keypoints replace average pooling, which forgets
where things are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from onestride.networks.resnet import ResNet18, group_norm

CHUNK = 256  # rows that are encoded at a time where nothing is learnt
GROUP = 16  # channels of a GroupNorm's group, as in Diffusion Policy


@dataclass(frozen=True)
class VisionConfig:
    """How a policy's cameras are encoded, each by an encoder of its own.

    Attributes:
        network: "small" (three convolutions: two CPU cores train it) or "resnet18" (for a GPU).
        crop: side of what is looked at, as a share of the image's. In training it lies anywhere, at a decision in the
            middle. Diffusion Policy's 84 of 96 are 0.875.
        keypoints: K, of the spatial softmax.
        features: F, of one image.
        images: how many of each camera's last images are looked at; None: all that a decision sees. One is enough, and
            half of the work of two, where nothing moves by itself.
        draws: from how much noise each image's plans are learnt in one step: encoding costs more than denoising.
        frozen: whether the encoders of the run's teacher are taken as they are, which makes training as quick as from
            states. Students that learn from pairs or from a teacher always take them.
    """

    network: Literal["small", "resnet18"] = "small"
    crop: float = 0.875
    keypoints: int = 32
    features: int = 64
    images: int | None = None
    draws: int = 4
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.network not in ("small", "resnet18"):
            raise ValueError(f"vision.network is {self.network!r}; there are small, resnet18")
        seen = 1 if self.images is None else self.images
        if not 0 < self.crop <= 1 or min(self.keypoints, self.features, self.draws, seen) < 1:
            raise ValueError(
                "vision needs 0 < crop <= 1, and keypoints, features, draws and images of at least 1, got "
                f"{self.crop=}, {self.keypoints=}, {self.features=}, {self.draws=}, {self.images=}"
            )


class SpatialSoftmax(nn.Module):
    """Where each heat map (B, K, h, w) is warm: the mean place (B, 2 K) under its softmax, x then y, in -1 ... 1.

    Levine et al. 2016, "End-to-end training of deep visuomotor policies", section 5.1.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return the centres."""
        height, width = maps.shape[-2:]
        weight = maps.float().flatten(2).softmax(2).unflatten(2, (height, width))
        x = (weight.sum(2) * torch.linspace(-1, 1, width, device=maps.device)).sum(2)
        y = (weight.sum(3) * torch.linspace(-1, 1, height, device=maps.device)).sum(2)
        return torch.stack((x, y), 2).flatten(1)


class SmallConvNet(nn.Sequential):
    """Images (B, 3, height, width) to maps (B, 64, height / 4, width / 4): a twentieth of a ResNet-18's work.

    Two strides, so that a pixel of the maps is four of the image: what a spatial softmax averages over stays fine.
    """

    channels = 64

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inside, outside, kernel, stride in ((3, 16, 5, 2), (16, 32, 3, 2), (32, self.channels, 3, 1)):
            layers.append(nn.Conv2d(inside, outside, kernel, stride, kernel // 2))
            layers += [nn.GroupNorm(outside // GROUP, outside), nn.SiLU()]
        super().__init__(*layers)


class ImageEncoder(nn.Module):
    """One camera's images to features.

    Args:
        height, width: of an image [px].
        config: of the encoder.
    """

    def __init__(self, height: int, width: int, config: VisionConfig) -> None:
        super().__init__()
        self.size = (max(round(config.crop * height), 1), max(round(config.crop * width), 1))
        self.network = SmallConvNet() if config.network == "small" else ResNet18(partial(group_norm, group=GROUP))
        self.maps = nn.Conv2d(self.network.channels, config.keypoints, 1)
        self.centres = SpatialSoftmax()
        self.output = nn.Linear(2 * config.keypoints, config.features)

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Return features (B, n F) of images (B, n, height, width, 3), 0 to 255.

        rng: draws where they are cropped, in training; by default they are cropped in the middle.
        """
        if len(images) > CHUNK and not torch.is_grad_enabled():  # the maps of so many would take gigabytes
            return torch.cat([self(part, rng) for part in images.split(CHUNK)])
        cropped = crop(images, self.size, rng).flatten(0, 1)
        x = cropped.permute(0, 3, 1, 2).float() / 127.5 - 1  # channels last in memory, which a CPU is quickest at
        return self.output(self.centres(self.maps(self.network(x)))).unflatten(0, images.shape[:2]).flatten(1)


def crop(images: Tensor, size: tuple[int, int], rng: torch.Generator | None = None) -> Tensor:
    """Return parts (B, n, *size, 3) of images (B, n, height, width, 3).

    The images of a row are cropped alike, so that what moves between them is what moved. rng: draws where; None: in the
    middle.
    """
    height, width = size
    free = images.shape[2] - height, images.shape[3] - width
    if rng is None:
        top, left = round(free[0] / 2), round(free[1] / 2)  # as torchvision's, of an odd number too
        return images[:, :, top : top + height, left : left + width]
    top, left = (torch.randint(each + 1, (len(images),), generator=rng, device=images.device).tolist() for each in free)
    return torch.stack([image[:, y : y + height, x : x + width] for image, y, x in zip(images, top, left, strict=True)])
