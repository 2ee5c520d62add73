"""The image encoders of other libraries' policies, so that what was trained there sees here what it saw there.

    images, 0 to 255 -> / 255 -> (x - shift) / spread -> resize -> crop -> ResNet-18 -> features

Features are a linear layer and a ReLU of keypoints, as in ``DiffusionRgbEncoder`` of LeRobot 0.6.1, which has the
processors' normalisation before it, and in ``VisualCore`` of robomimic 0.2.0; or the mean of each map, as in
``MultiImageObsEncoder`` of diffusion_policy. From ours (``vision.py``) it differs in how images are normalised, in what
is resized, and in the ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from onestride.networks.resnet import ResNet18, fixed_norm, group_norm
from onestride.networks.vision import CHUNK, GROUP, SpatialSoftmax, crop

COLOURS = 3


@dataclass(frozen=True)
class RgbEncoderConfig:
    """How an adopted policy's cameras are encoded, each by an encoder of its own.

    Attributes:
        norm: of the ResNet-18: "group" (GroupNorm of 16 channels), or "fixed": BatchNorm with the statistics that it
            had, which are never updated again.
        keypoints: K, of the spatial softmax; features are 2 K. None: there is none, and features are the maps' means.
        resize: height and width that images are made before they are cropped [px]; None: as they are.
        crop: height and width of what is looked at [px], in the middle at a decision; None: all.
        random_crop: whether it lies anywhere in training.
        antialias: whether pixels are averaged where images get smaller.
        draws: see ``VisionConfig``.
        frozen: see ``VisionConfig``.
    """

    norm: Literal["group", "fixed"]
    keypoints: int | None
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    random_crop: bool = True
    antialias: bool = True
    draws: int = 4
    frozen: bool = False

    def __post_init__(self) -> None:
        counts = [1 if self.keypoints is None else self.keypoints, *(self.resize or ()), *(self.crop or ())]
        if self.norm not in ("group", "fixed") or min(self.draws, *counts) < 1:
            raise ValueError(f"no encoder is of such settings: {self}")

    @property
    def features(self) -> int:
        """F, of one image."""
        return ResNet18.channels if self.keypoints is None else 2 * self.keypoints

    @property
    def images(self) -> None:
        """All images are looked at that a decision sees, see ``VisionConfig``."""
        return


class RgbEncoder(nn.Module):
    """One camera's images to features.

    Args:
        height, width: of an image [px].
        config: of the encoder.

    Raises:
        ValueError: the crop is larger than the image.
    """

    shift: Tensor
    spread: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, config: RgbEncoderConfig) -> None:
        super().__init__()
        size = config.resize or (height, width)
        self.size, self.random_crop, self.resized = config.crop or size, config.random_crop, config.resize is not None
        if self.size[0] > size[0] or self.size[1] > size[1]:
            raise ValueError(
                f"a crop of {self.size[0]} x {self.size[1]} px is larger than images of {size[0]} x {size[1]}"
            )
        self.register_buffer("shift", torch.zeros(COLOURS))
        self.register_buffer("spread", torch.ones(COLOURS))
        if config.resize:
            self.register_buffer("rows", resizing_matrix(height, size[0], config.antialias), persistent=False)
            self.register_buffer("columns", resizing_matrix(width, size[1], config.antialias), persistent=False)
        self.network = ResNet18(partial(group_norm, group=GROUP) if config.norm == "group" else fixed_norm)
        self.maps = None
        if config.keypoints is not None:
            self.maps = nn.Conv2d(self.network.channels, config.keypoints, 1)
            self.centres = SpatialSoftmax()
            self.output = nn.Linear(config.features, config.features)

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Return features (B, n F) of images (B, n, height, width, 3), 0 to 255.

        rng: draws where they are cropped, in training; by default they are cropped in the middle.
        """
        if len(images) > CHUNK and not torch.is_grad_enabled():  # the maps of so many would take gigabytes
            return torch.cat([self(part, rng) for part in images.split(CHUNK)])
        rng = rng if self.random_crop else None
        seen = self.resize(images) if self.resized else self.normalise(crop(images, self.size, rng))
        x = (crop(seen, self.size, rng) if self.resized else seen).flatten(0, 1).permute(0, 3, 1, 2)
        maps = self.network(x)
        features = maps.mean((2, 3)) if self.maps is None else self.output(self.centres(self.maps(maps))).relu()
        return features.unflatten(0, images.shape[:2]).flatten(1)

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (..., 3), 0 to 255, by the statistics that the policy was trained with."""
        return (images.float() / 255 - self.shift) / self.spread

    def resize(self, images: Tensor) -> Tensor:
        """Return images (B, n, h, w, 3), 0 to 255, normalised and in the size that ``crop`` is a part of."""
        rows = torch.einsum("ih,bnhwc->bniwc", self.rows, self.normalise(images))
        return torch.einsum("jw,bniwc->bnijc", self.columns, rows)


def resizing_matrix(size: int, to: int, antialias: bool = True) -> Tensor:
    """Return the weights (to, size) by which torchvision's ``Resize`` makes pixels of others along one side.

    It is bilinear, and averages where an image gets smaller (antialias); along each side it is linear by itself.
    """
    return interpolate(torch.eye(size)[None, None], (to, size), mode="bilinear", antialias=antialias)[0, 0]
