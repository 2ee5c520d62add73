"""Cameras of a policy: how its encoders see, their weights by our names, and the order of what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onestride.adopt.columns import Columns
from onestride.adopt.foreign import ForeignCamera
from onestride.data.lerobot_cameras import column_of
from onestride.files import CheckpointError
from onestride.networks.rgb_encoder import COLOURS, RgbEncoderConfig

BACKBONE = "resnet18"
#: Names in LeRobot's ``DiffusionRgbEncoder``, whose backbone is torchvision's children by their numbers -> ours.
NAMES = (
    (r"^backbone\.0\.", "network.conv1."),
    (r"^backbone\.1\.", "network.bn1."),
    (r"^backbone\.([4-7])\.", lambda found: f"network.layer{int(found[1]) - 3}."),
    (r"^pool\.nets\.", "maps."),
    (r"^out\.", "output."),
)
GRID = "pool.pos_grid"  # of the spatial softmax, which is made anew here
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
EPSILON = 1e-5  # of torchvision's BatchNorm


def vision_of(
    where: str,
    *,
    backbone: str,
    group_norm: bool,
    keypoints: int | None,
    resize: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    random_crop: bool,
    antialias: bool = True,
) -> RgbEncoderConfig:
    """Return how a policy's cameras are encoded, by its settings.

    Raises:
        CheckpointError: by another network than a ResNet-18.
    """
    if backbone != BACKBONE:
        raise CheckpointError(f"{where} sees by {backbone!r:.40}; {BACKBONE} can be adopted")
    norm = "group" if group_norm else "fixed"
    try:
        return RgbEncoderConfig(norm, keypoints, resize, crop, random_crop, antialias)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error


def size_of(shape: Sequence[int], name: str, where: str) -> tuple[int, int]:
    """Return height and width of a camera's images [px], which policies have colours first.

    Raises:
        CheckpointError: it is no image of three colours.
    """
    if len(shape) != 3 or shape[0] != COLOURS:
        raise CheckpointError(f"{where}: {name} has shape {tuple(shape)}; a policy's cameras have (3, height, width)")
    return shape[1], shape[2]


def cameras_of(
    sizes: Mapping[str, tuple[int, int]],
    normalised: Mapping[str, Columns],
    weights: Mapping[str, Tensor],
    vision: RgbEncoderConfig,
    where: str,
) -> tuple[ForeignCamera, ...]:
    """Return a LeRobot policy's cameras, each with its encoder. Where all have one in common, each gets a copy.

    Args:
        sizes: height and width of each camera's images [px] by its name, in the policy's order.
        normalised: how its images, between 0 and 1, are normalised, (3,) each.
        weights: of all encoders, by the names below ``diffusion.rgb_encoder``.
        vision: how they are encoded.
        where: they are from, for the message.

    Raises:
        CheckpointError: there are more or fewer encoders than cameras.
    """
    apart = all(re.match(r"\d+\.", name) for name in weights)
    numbers = {int(name.partition(".")[0]) for name in weights} if apart else set()
    if not weights or (apart and numbers != set(range(len(sizes)))):
        raise CheckpointError(f"{where} has {len(numbers)} encoders of images, and {len(sizes)} cameras")
    made = []
    for number, (name, size) in enumerate(sizes.items()):
        first = f"{number}." if apart else ""
        mine = {key.removeprefix(first): value for key, value in weights.items() if key.startswith(first)}
        made.append(camera_of(name, size, normalised[name], mine, vision, where))
    return tuple(made)


def camera_of(
    name: str,
    size: tuple[int, int],
    normalised: Columns,
    weights: Mapping[str, Tensor],
    vision: RgbEncoderConfig,
    where: str,
) -> ForeignCamera:
    """Return a camera with its encoder.

    Args:
        name: of the camera.
        size: height and width of its images [px].
        normalised: how they, between 0 and 1, are normalised, (3,).
        weights: of its encoder, by LeRobot's names or by ours.
        vision: how they are encoded.
        where: they are from, for the message.

    Raises:
        CheckpointError: a colour never changed, or BatchNorm has no statistics, or others.
    """
    if bool((normalised.spread <= 0).any()):
        raise CheckpointError(f"{where}: a colour of {name} never changed where it was trained, and is divided by 0")
    encoder = _renamed(weights, vision.norm == "fixed", where)
    encoder |= {"shift": normalised.shift.float(), "spread": normalised.spread.float()}
    return ForeignCamera(name, size, encoder)


def _renamed(weights: Mapping[str, Tensor], batch_norm: bool, where: str) -> dict[str, Tensor]:
    """An encoder's weights by our names, with BatchNorm's statistics made a factor and a sum."""
    made: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name == GRID:
            continue
        for pattern, by in NAMES:
            name = re.sub(pattern, by, name)
        made[name] = value.float()
    if not batch_norm:
        return made
    for name in [name for name in made if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        at = name.removesuffix("weight")
        if not {f"{at}{part}" for part in ("bias", *STATISTICS[:2])} <= made.keys():
            raise CheckpointError(
                f"{where}: the normalisation '{name}' has no statistics, and is no GroupNorm by its settings"
            )
        if len({made[f"{at}{part}"].shape for part in ("weight", "bias", *STATISTICS[:2])}) > 1:
            raise CheckpointError(f"{where}: the normalisation '{name}' has statistics of other shapes than its own")
        factor = made[name].double() / (made[f"{at}running_var"].double() + EPSILON).sqrt()
        made[f"{at}bias"] = (made[f"{at}bias"].double() - made[f"{at}running_mean"].double() * factor).float()
        made[f"{at}weight"] = factor.float()
    return {name: value for name, value in made.items() if name.rpartition(".")[2] not in STATISTICS}


def matched(cameras: Sequence[ForeignCamera], wanted: Mapping[str, tuple[int, int]], where: str) -> dict[str, int]:
    """Return which of a policy's cameras (by its number) each of a task's is, in the task's order.

    Raises:
        CheckpointError: one is not there, has images of another size, or the policy has more of them.
    """
    names = [camera.name for camera in cameras]
    if len(cameras) != len(wanted):
        raise CheckpointError(
            f"{where} sees {len(cameras)} cameras ({', '.join(names)[:200] or 'none'}), and the task has {len(wanted)} "
            f"({', '.join(wanted) or 'none'})"
        )
    found = {}
    for name, size in wanted.items():
        try:
            found[name] = names.index(column_of(name, wanted, names, where))
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        seen = cameras[found[name]]
        if seen.size != size:
            raise CheckpointError(
                f"{where} learnt from images of {seen.size[0]} x {seen.size[1]} px of {seen.name}, and the task's "
                f"camera '{name}' has {size[0]} x {size[1]}; name a task whose camera has the policy's size"
            )
    return found


def context_order(
    n_obs_steps: int, there: Sequence[tuple[str, int]], numbers: Sequence[str], cameras: Sequence[str]
) -> Tensor:
    """Return which of a policy's columns of the network's context each of ours is.

    There each observation's numbers and features stand together. Here the numbers of all observations come first, then
    each camera's features of all.

    Args:
        n_obs_steps: observations.
        there: names and sizes of what stands together there, in order.
        numbers: names of those that are numbers, in our order.
        cameras: names of those that are features of cameras, in our order.
    """
    at, step = {}, 0
    for name, size in there:
        at[name], step = range(step, step + size), step + size
    groups = [list(numbers), *([camera] for camera in cameras)]
    return torch.tensor(
        [s * step + column for group in groups for s in range(n_obs_steps) for name in group for column in at[name]]
    )


def reordered(weights: Mapping[str, Tensor], step_dim: int, order: Tensor) -> dict[str, Tensor]:
    """Return the U-Net's weights for a context in our order; ``step_dim`` columns before it are of the noise level."""
    columns = torch.cat((torch.arange(step_dim), step_dim + order))
    return {
        name: value[:, columns] if re.search(r"\.time\.1\.weight$", name) and value.shape[1] == len(columns) else value
        for name, value in weights.items()
    }
