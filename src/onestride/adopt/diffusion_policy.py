"""Checkpoints of diffusion_policy (Chi et al. 2023): ``{"cfg", "state_dicts", "pickles"}``, saved by torch with dill.

Their pickle makes OmegaConf's objects. It is read value by value and makes none: an object is a record of its class's
name and state, from which the settings are taken. A name that no such checkpoint needs is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onestride.adopt.cameras import camera_of
from onestride.adopt.columns import Columns
from onestride.adopt.encoders import ENCODERS, Seen
from onestride.adopt.foreign import ForeignPolicy, network_of, renamed, sampling_of
from onestride.adopt.settings import Budget, Settings, plain_settings
from onestride.data.pickled import describe
from onestride.data.torch_weights import open_torch
from onestride.files import CheckpointError, size_of_file
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.networks.rgb_encoder import COLOURS

LOWDIM = "DiffusionUnetLowdimPolicy"
POLICIES = (LOWDIM, *ENCODERS)
#: What such a checkpoint's pickle may name: settings, containers, and how dill writes a built-in type or bytes.
NAMED = re.compile(
    r"omegaconf\.[\w.]+|typing\.Any|collections\.(OrderedDict|defaultdict)|_codecs\.encode|dill\._dill\._load_type"
    r"|builtins\.(dict|list|tuple|set|int|float|str|bool|bytes)|pathlib\.(Posix)?Path"
)


def read_original(path: Path) -> ForeignPolicy:
    """Return the policy in a checkpoint of diffusion_policy. Nothing in the file is executed.

    Raises:
        CheckpointError: a damaged file, another kind of policy, or a pickle that names what it should not.
    """
    size_of_file(path)
    try:
        with open_torch(path, lambda kind: NAMED.fullmatch(kind) is not None) as file:
            saved = file.value if isinstance(file.value, dict) else {}
            if not {"cfg", "state_dicts"} <= saved.keys():
                found = ", ".join(sorted(saved)[:5]) or describe(file.value)
                raise ValueError(f"it holds {found:.120}, not 'cfg' and 'state_dicts'")
            settings = Settings(plain_settings(saved["cfg"], Budget()), str(path))
            states = saved["state_dicts"] if isinstance(saved["state_dicts"], dict) else {}
            averaged = settings.at("training.use_ema") and "ema_model" in states
            found = file.tensors(states.get("ema_model" if averaged else "model"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be adopted: {error!s:.400}; expected a .ckpt of diffusion_policy, a .pt of "
            "CleanDiffuser, or LeRobot's folder. Nothing in it was executed"
        ) from error
    if found is None:
        raise CheckpointError(f"{path} has no weights where a policy's are (state_dicts: {', '.join(states)!s:.80})")
    return _policy(settings, {name: torch.from_numpy(value) for name, value in found.items()}, str(path))


def _policy(settings: Settings, weights: Mapping[str, Tensor], where: str) -> ForeignPolicy:
    kind = str(settings.at("policy._target_")).rpartition(".")[2]
    if kind not in POLICIES:
        raise CheckpointError(f"{where} is a {kind:.60}; {', '.join(POLICIES)} can be adopted")
    said = {
        name: settings.at(f"policy.{name}")
        for name in ("obs_as_global_cond", "obs_as_local_cond", "pred_action_steps_only", "oa_step_convention")
    }
    if kind != LOWDIM:  # these have no such settings but the first, which is so by default
        said |= {"oa_step_convention": True, "obs_as_global_cond": said["obs_as_global_cond"] is not False}
    if not said["obs_as_global_cond"] or said["obs_as_local_cond"] or said["pred_action_steps_only"]:
        raise CheckpointError(f"{where} has {said}; observations as a global condition, and whole chunks, can be read")
    horizon, n_obs, n_act = (settings.count(name) for name in ("horizon", "n_obs_steps", "n_action_steps"))
    network = renamed(_below("model.", weights))
    shape = network_of(
        network,
        settings.count("policy.model.n_groups" if kind == LOWDIM else "policy.n_groups", 8),
        n_obs - 1 if said["oa_step_convention"] else n_obs,
        where,
    )
    seen = ENCODERS[kind](settings, _below("obs_encoder.", weights)) if kind != LOWDIM else None
    given = _observed(seen, weights, where) if seen else _unnamed(weights, where)
    return ForeignPolicy(
        library="diffusion_policy",
        config=TeacherConfig(film_unet=shape, **_sampling(settings, where)),
        weights=network,
        horizon=horizon,
        n_obs_steps=n_obs,
        n_action_steps=n_act,
        actions=_columns(weights, "action", where),
        **given,
    )


def _below(start: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def _unnamed(weights: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """What a policy of states says of its observations, which are one vector."""
    step = _columns(weights, "obs", where)
    note = "its observations have no names: that their numbers are in the task's order is yours to know"
    return {"features": (("obs", len(step.shift)),), "step": step, "notes": (note,)}


def _observed(seen: Seen, weights: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """What a policy with cameras says of its observations, which have names."""
    numbers = [(name, prod(shape)) for name, shape in seen.shapes.items() if name not in seen.cameras]
    parts = [_columns(weights, name, where, size) for name, size in numbers]
    cameras = []
    for name, encoder in seen.encoders.items():
        colours = _columns(weights, name, where)
        if len(colours.shift) != 1:
            raise CheckpointError(
                f"{where}: the images of '{name}' are normalised by {len(colours.shift)} numbers, expected one for all"
            )
        shift, spread, still = (column.expand(COLOURS) for column in colours)
        before = Columns(shift + spread * seen.shift.double(), spread * seen.spread.double(), still)
        cameras.append(camera_of(name, seen.cameras[name], before, encoder, seen.vision, where))
    note = (
        f"its numbers are {', '.join(name for name, _ in numbers)}: a task that calls its fields so may have them in "
        "any order, another has to have them in this one"
    )
    named = (note,) if len(numbers) > 1 else ()
    return {
        "features": tuple(numbers),
        "step": Columns(*(torch.cat(column) for column in zip(*parts, strict=True))),
        "cameras": tuple(cameras),
        "vision": seen.vision,
        "order": tuple(seen.shapes),
        "notes": (*named, *seen.notes),
    }


def _sampling(settings: Settings, where: str) -> dict[str, Any]:
    """The teacher's settings for how it samples."""
    scheduler = {name: settings.at(f"policy.noise_scheduler.{name}") for name in SCHEDULER}
    handed = {name: settings.at(f"policy.{name}") or None for name in STEP}
    for name, found in (scheduler | handed).items():
        if name not in READ and found not in (SCHEDULER.get(name), None):
            raise CheckpointError(f"{where}: its noise scheduler has {name} = {describe(found)}: this is not read")
    clip = (scheduler["clip_sample_range"] or 1.0) if scheduler["clip_sample"] is not False else None
    if clip is not None and not (isinstance(clip, int | float) and 0 < clip < inf):
        raise CheckpointError(f"{where}: its noise scheduler clips to {describe(clip)}, expected a number above 0")
    return sampling_of(
        where,
        scheduler=str(scheduler["_target_"]).rpartition(".")[2].removesuffix("Scheduler"),
        schedule=str(scheduler["beta_schedule"]),
        prediction=str(scheduler["prediction_type"] or "epsilon"),
        steps=settings.count("policy.noise_scheduler.num_train_timesteps"),
        calls=settings.count("policy.num_inference_steps", 0) or None,
        clip=None if clip is None else float(clip),
    )


#: Settings of diffusers' schedulers, and what they are where this library's samplers are the same.
SCHEDULER = {
    "_target_": None, "beta_schedule": None, "prediction_type": None, "clip_sample": None, "clip_sample_range": None,
    "variance_type": "fixed_small", "set_alpha_to_one": True, "steps_offset": 0, "thresholding": False,
    "timestep_spacing": "leading", "rescale_betas_zero_snr": False, "trained_betas": None,
}  # fmt: skip
STEP = ("eta", "use_clipped_model_output")  # of a policy's, handed on to its scheduler
READ = {"_target_", "beta_schedule", "prediction_type", "clip_sample", "clip_sample_range"}


def _columns(weights: Mapping[str, Tensor], field: str, where: str, size: int | None = None) -> Columns:
    """How a field is normalised: ``x scale + offset``, of which no scale is 0. Its rows have them in common.

    size: of the field; by default that of its last axis.
    """
    scale, offset = (weights.get(f"normalizer.params_dict.{field}.{name}") for name in ("scale", "offset"))
    if scale is None or offset is None:
        there = sorted({name.split(".")[2] for name in weights if name.startswith("normalizer.params_dict.")})
        raise CheckpointError(f"{where} has no normaliser of '{field}'; it has {', '.join(there)[:120] or 'none'}")
    if (
        scale.shape != offset.shape
        or scale.dim() != 1
        or not bool((scale > 0).all() & (scale + offset).isfinite().all())
    ):
        raise CheckpointError(f"{where}: the normaliser of '{field}' is none: a scale and an offset for every column")
    size = len(scale) if size is None else size
    if not len(scale) or size % len(scale):
        raise CheckpointError(f"{where}: '{field}' has {size} numbers, and its normaliser {len(scale)}")
    scale, offset = (column.double().repeat(size // len(scale)) for column in (scale, offset))
    return Columns(-offset / scale, 1 / scale, torch.zeros(size))
