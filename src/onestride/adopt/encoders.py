"""How diffusion_policy's policies see: the settings and the weights of their two encoders of observations.

``MultiImageObsEncoder`` resizes, crops and normalises images as torchvision does, and its ResNet-18 ends in the mean of
each map. robomimic's ``ObservationEncoder`` ends in a spatial softmax, a linear layer and a ReLU. Numbers pass through
both as they are. See diffusion_policy 5ba07ac and robomimic 0.2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from onestride.adopt.cameras import BACKBONE, size_of, vision_of
from onestride.adopt.settings import Settings
from onestride.data.pickled import describe
from onestride.files import CheckpointError
from onestride.networks.rgb_encoder import COLOURS, RgbEncoderConfig

MULTI_IMAGE, RESNET = "MultiImageObsEncoder", "get_resnet"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of its colours
CROP = [76, 76]  # of robomimic's encoder by default
#: What a ``VisualCore`` has of which nothing is taken: backbone and pool again, and what is made anew here.
MADE = ("nets.0.", "nets.1.", "pool.temperature", "pool.pos_")


@dataclass(frozen=True)
class Seen:
    """What a policy with cameras observes.

    Attributes:
        shapes: of numbers and images by name, in the order in which the network's condition has them.
        cameras: height and width of each camera's images [px].
        vision: how they are encoded.
        encoders: each camera's weights, by LeRobot's names or by ours.
        shift, spread: what is taken from an image that was normalised already, and what it is divided by then (3,).
        notes: for the user.
    """

    shapes: dict[str, tuple[int, ...]]
    cameras: dict[str, tuple[int, int]]
    vision: RgbEncoderConfig
    encoders: dict[str, dict[str, Tensor]]
    shift: Tensor = field(default_factory=lambda: torch.zeros(COLOURS))
    spread: Tensor = field(default_factory=lambda: torch.ones(COLOURS))
    notes: tuple[str, ...] = ()


def multi_image(settings: Settings, weights: Mapping[str, Tensor]) -> Seen:
    """Return what a ``MultiImageObsEncoder`` sees: cameras first, then numbers, both by the alphabet.

    Raises:
        CheckpointError: it is another encoder, has another backbone, or its weights are of other cameras.
    """
    said, where = "policy.obs_encoder", settings.where
    kind = _kind(settings.at(f"{said}._target_"))
    backbone = _kind(settings.at(f"{said}.rgb_model._target_") or "a model of each camera's own")
    if kind != MULTI_IMAGE:
        raise CheckpointError(f"{where} sees by {kind}; {MULTI_IMAGE} and robomimic's ObservationEncoder can be read")
    shapes, cameras = _shapes(settings)
    shared = settings.at(f"{said}.share_rgb_model") is True
    resize = _sides(settings, f"{said}.resize_shape")
    # Without chance it does not crop at all, whatever its crop_shape.
    crop = _sides(settings, f"{said}.crop_shape") if settings.at(f"{said}.random_crop") is not False else None
    vision = vision_of(
        where,
        backbone=str(settings.at(f"{said}.rgb_model.name")) if backbone == RESNET else backbone,
        group_norm=settings.at(f"{said}.use_group_norm") is True and not shared,  # which leaves a shared one as it is
        keypoints=None,
        resize=resize,
        crop=crop,
        random_crop=crop is not None,
        antialias=False,
    )
    models = _of_each(weights, "key_model_map", ["rgb"] if shared else list(cameras), where)
    encoders = {
        name: {f"network.{key}": value for key, value in models["rgb" if shared else name].items()} for name in cameras
    }
    order = {name: shapes[name] for name in (*sorted(cameras), *sorted(shapes.keys() - cameras.keys()))}
    smaller = resize and any(height > resize[0] or width > resize[1] for height, width in cameras.values())
    notes = ("its images are made smaller as torchvision did before 0.17, without averaging",) if smaller else ()
    if settings.at(f"{said}.imagenet_norm") is not True:
        return Seen(order, cameras, vision, encoders, notes=notes)
    mean, deviation = (torch.tensor(each) for each in IMAGENET)
    return Seen(order, cameras, vision, encoders, mean, deviation, notes)


def observation_encoder(settings: Settings, weights: Mapping[str, Tensor]) -> Seen:
    """Return what robomimic's ``ObservationEncoder`` sees: what is observed in the order of ``shape_meta``.

    Raises:
        CheckpointError: it has another backbone, or its weights are of other cameras.
    """
    shapes, cameras = _shapes(settings)
    cores = _of_each(weights, "obs_nets", list(cameras), settings.where)
    encoders = {name: _core(made, settings.where) for name, made in cores.items()}
    maps = {made["pool.nets.weight"].shape[:1] if "pool.nets.weight" in made else () for made in encoders.values()}
    if len(maps) != 1 or not (keypoints := maps.pop()):
        raise CheckpointError(
            f"{settings.where}: its encoders have no spatial softmax of so many keypoints each, which robomimic's "
            f"'VisualCore' has in diffusion_policy; {BACKBONE} with one can be adopted"
        )
    crop = _sides(settings, "policy.crop_shape", CROP)
    vision = vision_of(
        settings.where,
        backbone=BACKBONE,
        group_norm=settings.at("policy.obs_encoder_group_norm") is True,
        keypoints=keypoints[0],
        resize=None,
        crop=crop,
        random_crop=crop is not None,
    )
    anywhere = crop is not None and settings.at("policy.eval_fixed_crop") is not True
    notes = ("there images are cropped anywhere at a decision too (eval_fixed_crop), here in the middle",)
    return Seen(shapes, cameras, vision, encoders, notes=notes if anywhere else ())


#: Reads what a policy of this name observes.
ENCODERS: dict[str, Callable[[Settings, Mapping[str, Tensor]], Seen]] = {
    "DiffusionUnetImagePolicy": multi_image,
    "DiffusionUnetHybridImagePolicy": observation_encoder,
}


def _kind(target: Any) -> str:
    return str(target).rpartition(".")[2][:60]


def _shapes(settings: Settings) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, int]]]:
    """Shapes of what is observed by name, in order, and the size of those that are cameras' images [px]."""
    place, where = "policy.shape_meta.obs", settings.where
    found = settings.at(place)
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{where}: {place} is {describe(found):.60}, expected shapes and types by name")
    shapes, cameras = {}, {}
    for name, attributes in found.items():
        said = settings.value(attributes)
        said = said if isinstance(said, dict) else {}
        kind, shape = settings.value(said.get("type", "low_dim")), settings.value(said.get("shape"))
        if kind not in ("rgb", "low_dim") or not isinstance(shape, list) or not 1 <= len(shape) <= 3:
            raise CheckpointError(
                f"{where}: {name!r:.60} is {describe(kind):.30} of shape {shape!s:.40}; rgb and low_dim can be read"
            )
        sides = f"{place}.{name:.60}.shape"
        shapes[name] = tuple(settings.counted(settings.value(side), sides) for side in shape)
        if kind == "rgb":
            cameras[name] = size_of(shapes[name], name, where)
        else:
            settings.counted(prod(shapes[name]), sides)
    if len(cameras) in (0, len(shapes)):
        raise CheckpointError(f"{where} observes {', '.join(shapes)!s:.200}; cameras and numbers can be read")
    return shapes, cameras


def _sides(settings: Settings, place: str, missing: list[int] | None = None) -> tuple[int, int] | None:
    """Height and width [px], which all cameras have in common; None: there are none."""
    parent, _, last = place.rpartition(".")
    above = settings.at(parent)
    found = settings.at(place) if isinstance(above, dict) and last in above else missing
    each = list(found.values()) if isinstance(found, dict) else [found]
    if any(sides != each[0] for sides in each[1:]):
        raise CheckpointError(f"{settings.where}: {place} differs between cameras; one for all can be read")
    sides = settings.value(each[0]) if each else None
    if sides is None:
        return None
    if not isinstance(sides, list) or len(sides) != 2:
        raise CheckpointError(f"{settings.where}: {place} is {sides!s:.60}, expected a height and a width")
    height, width = (settings.counted(settings.value(side), place) for side in sides)
    return height, width


def _of_each(weights: Mapping[str, Tensor], module: str, names: list[str], where: str) -> dict[str, dict[str, Tensor]]:
    """The weights of each of these, which have to be all that there are."""
    made: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for key, value in weights.items():
        if key == "_dummy_variable":
            continue
        top, _, rest = key.partition(".")
        name, _, inner = rest.partition(".")
        if top != module or name not in made:
            raise CheckpointError(f"{where}: its encoder has {key!r:.80}, and its settings {', '.join(names)!s:.120}")
        made[name][inner] = value
    if missing := [name for name, found in made.items() if not found]:
        raise CheckpointError(f"{where}: its encoder has no weights of {missing[0]:.80}")
    return made


def _core(weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights of robomimic's ``VisualCore`` by LeRobot's names, its softmax's temperature in those of its maps."""
    temperature = weights.get("pool.temperature", torch.ones(1))
    if temperature.numel() != 1:
        raise CheckpointError(
            f"{where}: its softmax has a temperature of shape {tuple(temperature.shape)}, expected (1,)"
        )
    made = {}
    for name, value in weights.items():
        if name.startswith("pool.nets."):
            made[name] = value / temperature.item()
        elif not name.startswith(MADE):
            made[name.replace("backbone.nets.", "backbone.").replace("nets.3.", "out.")] = value
    return made
