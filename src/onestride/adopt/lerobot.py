"""LeRobot's ``DiffusionPolicy``: a folder with config.json, model.safetensors and the processors' files.

Since LeRobot 0.4 the normalisation is in the processors' files; before, in the weights themselves. Its network, what it
is given and how it samples: see ``modeling_diffusion.py`` and ``normalize_processor.py`` of LeRobot 0.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from onestride.adopt.cameras import cameras_of, size_of, vision_of
from onestride.adopt.columns import Columns, columns_of
from onestride.adopt.foreign import ForeignPolicy, network_of, renamed, sampling_of
from onestride.data.lerobot import ENVIRONMENT, STATE
from onestride.files import CheckpointError, read_json
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.networks.rgb_encoder import COLOURS, RgbEncoderConfig
from onestride.tensors import load_unsealed

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PROCESSORS = {"policy_preprocessor.json": "normalizer_processor", "policy_postprocessor.json": "unnormalizer_processor"}
#: Steps of a processor that change no number: names, a batch dimension, a device.
HARMLESS = ("rename_observations_processor", "to_batch_processor", "device_processor")
ACTION = "action"
CAMERA = "VISUAL"
#: In the order in which the network is given them; between the two come the cameras.
TYPES = {STATE: "STATE", ENVIRONMENT: "ENV"}
Count = Annotated[int, Meta(ge=1, le=65_536)]


@dataclass(frozen=True)
class Feature:
    """What is observed or done, by its name."""

    type: str
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class DiffusionSettings:
    """What is needed of config.json; where an entry is missing it is as LeRobot has it by default."""

    input_features: dict[str, Feature]
    output_features: dict[str, Feature]
    n_obs_steps: Count
    horizon: Count
    n_action_steps: Count
    normalization_mapping: dict[str, str] = field(
        default_factory=lambda: {"STATE": "MIN_MAX", "ACTION": "MIN_MAX", "VISUAL": "MEAN_STD"}
    )
    n_groups: Count = 8
    noise_scheduler_type: str = "DDPM"
    num_train_timesteps: Annotated[int, Meta(ge=1, le=10_000)] = 100
    beta_schedule: str = "squaredcos_cap_v2"
    prediction_type: str = "epsilon"
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Meta(gt=0)] = 1.0
    num_inference_steps: Count | None = None
    vision_backbone: str = "resnet18"
    resize_shape: tuple[Count, Count] | None = None
    crop_ratio: Annotated[float, Meta(gt=0, le=1)] = 1.0
    crop_shape: tuple[Count, Count] | None = None
    crop_is_random: bool = True
    use_group_norm: bool = False
    spatial_softmax_num_keypoints: Count = 32


def read_lerobot(folder: Path) -> ForeignPolicy:
    """Return the policy in a folder that LeRobot saved.

    Raises:
        CheckpointError: no such folder, another policy type, features or settings that are not read, or files that are
            missing or damaged.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}: name the folder that LeRobot saved (.../pretrained_model)")
    kind = read_json(folder / CONFIG, dict[str, Any]).get("type")
    if kind != "diffusion":
        what = "no LeRobot policy's (no 'type')" if kind is None else f"of LeRobot's policy type {kind!r:.40}"
        raise CheckpointError(f"{folder} is {what}; type 'diffusion' (DiffusionPolicy) can be adopted")
    settings: DiffusionSettings = read_json(folder / CONFIG, DiffusionSettings)
    features, sizes, action_dim = _features(settings, folder)
    weights, encoders, others = _weights(folder)
    said = _normalisation(folder, settings, others)
    step = Columns(*(torch.cat(parts) for parts in zip(*(said(name, size) for name, size in features), strict=True)))
    actions = said(ACTION, action_dim)
    vision = _vision(settings, folder) if sizes else None
    colours = {name: said(name, COLOURS) for name in sizes}
    cameras = () if vision is None else cameras_of(sizes, colours, encoders, vision, str(folder))
    if encoders and vision is None:
        raise CheckpointError(f"{folder / WEIGHTS} has encoders of images, and {CONFIG} names no camera")
    network = network_of(weights, settings.n_groups, settings.n_obs_steps - 1, str(folder))
    sampling: dict[str, Any] = sampling_of(
        str(folder / CONFIG),
        scheduler=settings.noise_scheduler_type,
        schedule=settings.beta_schedule,
        prediction=settings.prediction_type,
        steps=settings.num_train_timesteps,
        calls=settings.num_inference_steps,
        clip=settings.clip_sample_range if settings.clip_sample else None,
    )
    return ForeignPolicy(
        library="LeRobot",
        config=TeacherConfig(film_unet=network, **sampling),
        weights=weights,
        horizon=settings.horizon,
        n_obs_steps=settings.n_obs_steps,
        n_action_steps=settings.n_action_steps,
        features=features,
        step=step,
        actions=actions,
        cameras=cameras,
        vision=vision,
        order=tuple(name for name in (STATE, *sizes, ENVIRONMENT) if name in sizes or name in dict(features)),
    )


def _vision(settings: DiffusionSettings, folder: Path) -> RgbEncoderConfig:
    """How cameras are encoded."""
    resize, ratio, crop = settings.resize_shape, settings.crop_ratio, settings.crop_shape
    if resize is not None:  # then LeRobot derives the crop from it
        crop = (int(resize[0] * ratio), int(resize[1] * ratio)) if ratio < 1 else None
    return vision_of(
        str(folder),
        backbone=settings.vision_backbone,
        group_norm=settings.use_group_norm,
        keypoints=settings.spatial_softmax_num_keypoints,
        resize=resize,
        crop=crop,
        random_crop=settings.crop_is_random,
    )


def _features(
    settings: DiffusionSettings, folder: Path
) -> tuple[tuple[tuple[str, int], ...], dict[str, tuple[int, int]], int]:
    """Names and sizes of the numbers that are observed, of the cameras, in the network's order, and of an action."""
    cameras = {
        name: size_of(feature.shape, name, str(folder))
        for name, feature in settings.input_features.items()
        if feature.type == CAMERA
    }
    given = {name: feature for name, feature in settings.input_features.items() if feature.type != CAMERA}
    found = {name: feature.type for name, feature in given.items()}
    if STATE not in found or any(TYPES.get(name) != kind for name, kind in found.items()):
        raise CheckpointError(
            f"{folder} is given {', '.join(found) or 'nothing'!s:.200}; expected {STATE} and, perhaps, {ENVIRONMENT} "
            "and cameras"
        )
    if list(settings.output_features) != [ACTION]:
        raise CheckpointError(f"{folder} gives {', '.join(settings.output_features)!s:.200}; expected '{ACTION}' alone")
    for name, feature in (*given.items(), *settings.output_features.items()):
        if len(feature.shape) != 1:
            raise CheckpointError(f"{folder}: {name} has shape {feature.shape}, expected one number of columns")
    sizes = tuple((name, given[name].shape[0]) for name in TYPES if name in given)
    return sizes, cameras, settings.output_features[ACTION].shape[0]


def _weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The network's weights by our names, those of the encoders of images, and whatever else is in the file."""
    tensors, _ = load_unsealed(folder / WEIGHTS, "fetch it again")
    network, encoders, others = {}, {}, {}
    for name, value in tensors.items():
        plain = name.replace("_orig_mod.", "")  # of a compiled network
        if plain.startswith("diffusion.unet."):
            network[plain.removeprefix("diffusion.unet.")] = value.float()
        elif plain.startswith("diffusion.rgb_encoder."):
            encoders[plain.removeprefix("diffusion.rgb_encoder.")] = value
        else:
            others[plain] = value
    return renamed(network), encoders, others


def _normalisation(
    folder: Path, settings: DiffusionSettings, others: Mapping[str, Tensor]
) -> Callable[[str, int], Columns]:
    """How each feature of so many columns is normalised: by the processors' files, or by buffers among the weights."""
    inside = {name: value for name, value in others.items() if name.split(".")[0] in NORMALISERS}
    if unknown := sorted(others.keys() - inside.keys()):
        raise CheckpointError(f"{folder / WEIGHTS} has weights of something else than the network: {unknown[0]:.120}")
    modes = settings.normalization_mapping
    if inside:
        names = (*settings.input_features, ACTION)
        seen, done = (_buffers(inside, name, names) for name in ("normalize_inputs", "unnormalize_outputs"))
        by = (modes, seen), (modes, done)
    else:
        by = tuple(_processor(folder, name) for name in PROCESSORS)
    (how_seen, seen), (how_done, done) = by

    def columns(name: str, size: int) -> Columns:
        how, statistics = (how_done, done) if name == ACTION else (how_seen, seen)
        kind = "ACTION" if name == ACTION else settings.input_features[name].type
        return columns_of(how.get(kind, "IDENTITY"), statistics.get(name, {}), size, name)

    return columns


#: Modules of LeRobot before 0.4 whose buffers are the normalisation.
NORMALISERS = ("normalize_inputs", "normalize_targets", "unnormalize_outputs")


def _buffers(inside: Mapping[str, Tensor], module: str, features: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """The statistics of ``module.buffer_observation_state.min`` and others, by name: underscores stand for dots."""
    names = {name.replace(".", "_"): name for name in features}
    made: dict[str, dict[str, Tensor]] = {}
    for name, value in inside.items():
        at, _, statistic = name.removeprefix(f"{module}.buffer_").rpartition(".")
        if name.startswith(f"{module}.buffer_") and at in names:
            made.setdefault(names[at], {})[statistic] = value
    return made


def _processor(folder: Path, name: str) -> tuple[dict[str, str], dict[str, dict[str, Tensor]]]:
    """How a processor normalises each type of feature, and the statistics of each feature."""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {name}, and no normalisation among its weights: without it numbers are in unknown units. "
            "Copy the processors' files beside the weights (LeRobot's migrate_policy_normalization makes them)"
        )
    steps: list[Step] = read_json(path, Processor).steps
    others = [step.registry_name for step in steps if step.registry_name not in (*HARMLESS, PROCESSORS[name])]
    normalise = [step for step in steps if step.registry_name == PROCESSORS[name]]
    if others or len(normalise) != 1:
        found = ", ".join(others) or f"{len(normalise)} times {PROCESSORS[name]}"
        raise CheckpointError(
            f"{path} has {found!s:.120}; {PROCESSORS[name]} once, and steps that change no number, can be read"
        )
    (step,) = normalise
    if step.state_file is None or Path(step.state_file).name != step.state_file:
        raise CheckpointError(f"{path} names no file of statistics beside it: {step.state_file!s:.80}")
    if step.config.get("normalize_observation_keys") is not None:
        raise CheckpointError(
            f"{path} normalises some observations only (normalize_observation_keys), which is not read"
        )
    tensors, _ = load_unsealed(folder / step.state_file, "fetch it again")
    statistics: dict[str, dict[str, Tensor]] = {}
    for entry, value in tensors.items():
        feature, _, statistic = entry.rpartition(".")
        statistics.setdefault(feature, {})[statistic] = value
    how = step.config.get("norm_map")
    if not isinstance(how, dict) or not all(isinstance(mode, str) for mode in how.values()):
        raise CheckpointError(f"{path} does not say how it normalises (no norm_map)")
    return how, statistics


@dataclass(frozen=True)
class Step:
    """A step of a processor."""

    registry_name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    state_file: str | None = None


@dataclass(frozen=True)
class Processor:
    """A processor's file."""

    steps: list[Step]
