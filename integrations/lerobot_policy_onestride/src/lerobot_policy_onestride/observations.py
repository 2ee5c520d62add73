"""LeRobot's batches as onestride's observations: which of their entries are numbers, which are images, and how large.

An observation's numbers are ``observation.state`` and then ``observation.environment_state``, where there is one.
Images come as (3, height, width), 0 to 1; encoders and exported planners take (height, width, 3), 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.configs import FeatureType
from lerobot.utils.constants import OBS_ENV_STATE, OBS_IMAGE, OBS_IMAGES, OBS_STATE
from torch import Tensor

#: In the order in which planners are given them.
NUMBERS = (OBS_STATE, OBS_ENV_STATE)


@dataclass(frozen=True)
class Observed:
    """Observations of a batch.

    Attributes:
        numbers: (B, T, numbers), the oldest first.
        images: (B, T, height, width, 3), 0 to 255, by camera.
    """

    numbers: Tensor
    images: dict[str, Tensor]


def camera_of(key: str) -> str:
    """Return the name of a camera by its entry: ``top`` of ``observation.images.top``, ``image`` of the only one."""
    return key.removeprefix(f"{OBS_IMAGES}.").removeprefix("observation.").replace(".", "_")


def sizes_of(features: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Return how many numbers each entry has, and height and width of each camera's images [px] by its name.

    Args:
        features: that are observed, LeRobot's ``PolicyFeature`` by name.

    Raises:
        ValueError: numbers that have several dimensions, or images that have not three channels first.
    """
    numbers, cameras = {}, {}
    for key in (*NUMBERS, *sorted(features.keys() - set(NUMBERS))):
        if key not in features:
            continue
        feature, shape = features[key], tuple(features[key].shape)
        if key in NUMBERS:
            if len(shape) != 1:
                raise ValueError(f"'{key}' has shape {shape}, expected one dimension")
            numbers[key] = shape[0]
        elif feature.type is FeatureType.VISUAL:
            if len(shape) != 3 or shape[0] != 3:
                raise ValueError(f"'{key}' has shape {shape}, expected (3, height, width)")
            cameras[camera_of(key)] = shape[1:]
    return numbers, cameras


def is_image(key: str) -> bool:
    """Return whether an entry of a batch is a camera's image; ``..._is_pad`` is not, which data sets add."""
    return (key == OBS_IMAGE or key.startswith(f"{OBS_IMAGES}.")) and not key.endswith("_is_pad")


def entries_of(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the entries of a batch that are observed."""
    return {key: value for key, value in batch.items() if key in NUMBERS or is_image(key)}


def with_time(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return entries as (B, T, ...): those of one observation, (B, ...), get a T of 1.

    Raises:
        ValueError: they are of different times.
    """
    there = {key: value.ndim == (5 if is_image(key) else 3) for key, value in entries.items()}
    made = {key: value if there[key] else value[:, None] for key, value in entries.items()}
    lengths = {key: value.shape[1] for key, value in made.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the batch has different numbers of observations: {lengths}; give as many of each")
    return made


def observed(entries: Mapping[str, Tensor]) -> Observed:
    """Return the entries of a batch, (B, T, ...) each, as observations.

    Raises:
        ValueError: there are no numbers among them.
    """
    parts = [entries[key] for key in NUMBERS if key in entries]
    if not parts:
        raise ValueError(f"the batch has no {' and no '.join(NUMBERS)}; it has {sorted(entries) or 'no observation'}")
    images = {camera_of(key): bytes_of(value) for key, value in entries.items() if is_image(key)}
    return Observed(torch.cat(parts, 2), images)


def bytes_of(images: Tensor) -> Tensor:
    """Return images (..., 3, height, width), 0 to 1 or uint8, as (..., height, width, 3), 0 to 255."""
    last = images.movedim(-3, -1)
    return last if images.dtype == torch.uint8 else last * 255
