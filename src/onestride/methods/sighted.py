"""Any method with cameras: encoders whose features are more context of its generator, which knows of no image.

    context (B, C) | encoder of each camera (B, F of every image) -> the generator's context (B, E)

At a decision the features are made once, before candidates are drawn (``embed``). In training they are made of randomly
cropped images, and each serves several draws of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from onestride.methods.method import Group
from onestride.methods.wrapped import WrappedLearner, WrappedPlanner
from onestride.networks.rgb_encoder import RgbEncoder, RgbEncoderConfig
from onestride.networks.vision import ImageEncoder, VisionConfig
from onestride.plans.spec import PlanSpec

#: Begins the names of a batch's columns that are cameras' images, uint8 (B, n_obs_steps, height, width, 3).
IMAGE = "image."
#: How cameras are encoded: by an encoder of ours, or by an adopted policy's.
Vision = VisionConfig | RgbEncoderConfig


class SightedPlanner(WrappedPlanner):
    """A generator whose context is made of numbers and images.

    Args:
        planner: the method's generator, whose context has ``sighted_spec`` many numbers.
        cameras: height and width of each camera's image [px], by its name.
        vision: how they are encoded.
    """

    def __init__(self, planner: Any, cameras: Mapping[str, tuple[int, int]], vision: Vision) -> None:
        super().__init__(planner)
        self.vision = vision
        self.encoders = nn.ModuleDict({name: encoder_of(size, vision) for name, size in cameras.items()})

    def embed(self, context: Tensor, images: Mapping[str, Tensor], rng: torch.Generator | None = None) -> Tensor:
        """Return the generator's context (B, E) of context (B, C) and images (B, n, height, width, 3), 0 to 255.

        rng: draws where images are cropped, in training.
        """
        last = slice(None) if self.vision.images is None else slice(-self.vision.images, None)
        seen = (encode(images[name][:, last], rng) for name, encode in self.encoders.items())
        return torch.cat((context, *seen), 1)

    def seen(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return a batch with features in its context instead of images, each row as often as noise is drawn for it.

        A batch without images has features in its context already.
        """
        images = {name.removeprefix(IMAGE): column for name, column in batch.items() if name.startswith(IMAGE)}
        if not images:
            return batch
        rest = {name: column for name, column in batch.items() if not name.startswith(IMAGE)}
        made = rest | {"context": self.embed(batch["context"], images, rng)}
        return {name: column.repeat_interleave(self.vision.draws, 0) for name, column in made.items()}

    def take_encoders(self, teacher: Any) -> None:
        """Take a teacher's encoders as they are; they are not trained.

        Raises:
            ValueError: it has none, or others.
        """
        theirs = getattr(teacher, "vision", None)
        mine = replace(self.vision, draws=1, frozen=False)
        if theirs is None or replace(theirs, draws=1, frozen=False) != mine:
            raise ValueError(f"the teacher's encoders are {theirs}, these are {self.vision}; give the same --vision")
        self.encoders.load_state_dict(teacher.encoders.state_dict())
        self.encoders.requires_grad_(False)


class SightedLearner(WrappedLearner):
    """A method's learner with cameras: its first phase trains encoders too, unless they were taken from a teacher."""

    deployed: SightedPlanner

    def groups(self) -> Sequence[Group]:
        """Return the method's groups."""
        first, *others = super().groups()
        encoders = [p for p in self.deployed.encoders.parameters() if p.requires_grad]
        return (replace(first, parameters=[*first.parameters, *encoders]), *others)


def encoder_of(size: tuple[int, int], vision: Vision) -> nn.Module:
    """Return an untrained encoder of a camera's images: height and width [px]."""
    return ImageEncoder(*size, vision) if isinstance(vision, VisionConfig) else RgbEncoder(*size, vision)


def with_cameras(
    build: Callable[[Any, PlanSpec], Any], config: Any, spec: PlanSpec, cameras: Mapping[str, tuple[int, int]],
    n_obs_steps: int, vision: Vision,
) -> SightedPlanner:  # fmt: skip
    """Return a method's generator with encoders of cameras: height and width of each image [px] by name.

    n_obs_steps: images of each camera that a decision sees.
    """
    seen = n_obs_steps if vision.images is None else vision.images
    if seen > n_obs_steps:
        raise ValueError(f"vision.images is {seen}, and a decision sees {n_obs_steps} of each camera")
    features = len(cameras) * seen * vision.features
    return SightedPlanner(build(config, replace(spec, context_dim=spec.context_dim + features)), cameras, vision)
