"""Checkpoints of diffusion_policy (Chi et al. 2023): ``{"cfg", "state_dicts", "pickles"}``, saved by torch with dill.

Their pickle makes OmegaConf's objects. It is read value by value and makes none: an object is a record of its class's
name and state, from which the settings are taken. A name that no such checkpoint needs is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onestride.adopt.columns import Columns
from onestride.adopt.foreign import ForeignPolicy, network_of, renamed, sampling_of
from onestride.data.pickled import Made, describe
from onestride.data.torch_weights import open_torch
from onestride.files import CheckpointError, size_of_file
from onestride.methods.diffusion_planner import TeacherConfig

POLICY = "DiffusionUnetLowdimPolicy"
#: What such a checkpoint's pickle may name: settings, containers, and how dill writes a built-in type or bytes.
NAMED = re.compile(
    r"omegaconf\.[\w.]+|typing\.Any|collections\.(OrderedDict|defaultdict)|_codecs\.encode|dill\._dill\._load_type"
    r"|builtins\.(dict|list|tuple|set|int|float|str|bool|bytes)|pathlib\.(Posix)?Path"
)
DEEPEST = 30  # settings in settings


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
            settings = plain_settings(saved["cfg"], Budget())
            states = saved["state_dicts"] if isinstance(saved["state_dicts"], dict) else {}
            averaged = _at(settings, "training.use_ema") and "ema_model" in states
            found = file.tensors(states.get("ema_model" if averaged else "model"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be adopted: {error!s:.400}; expected a .ckpt of diffusion_policy, a .pt of "
            "CleanDiffuser, or LeRobot's folder. Nothing in it was executed"
        ) from error
    if found is None:
        raise CheckpointError(f"{path} has no weights where a policy's are (state_dicts: {', '.join(states)!s:.80})")
    return _policy(settings, {name: torch.from_numpy(value) for name, value in found.items()}, str(path))


def _policy(settings: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> ForeignPolicy:
    kind = str(_at(settings, "policy._target_")).rpartition(".")[2]
    if "Image" in kind:
        raise CheckpointError(f"{where} is a {kind:.60}: cameras are not supported by this command yet")
    if kind != POLICY:
        raise CheckpointError(f"{where} is a {kind:.60}; {POLICY} can be adopted")
    said = {
        name: _at(settings, f"policy.{name}")
        for name in ("obs_as_global_cond", "obs_as_local_cond", "pred_action_steps_only", "oa_step_convention")
    }
    if not said["obs_as_global_cond"] or said["obs_as_local_cond"] or said["pred_action_steps_only"]:
        raise CheckpointError(f"{where} has {said}; observations as a global condition, and whole chunks, can be read")
    horizon, n_obs, n_act = (_count(settings, name, where) for name in ("horizon", "n_obs_steps", "n_action_steps"))
    network = renamed({name.removeprefix("model."): v for name, v in weights.items() if name.startswith("model.")})
    shape = network_of(
        network,
        _count(settings, "policy.model.n_groups", where, 8),
        n_obs - 1 if said["oa_step_convention"] else n_obs,
        where,
    )
    scheduler = {name: _at(settings, f"policy.noise_scheduler.{name}") for name in SCHEDULER}
    for name in SCHEDULER.keys() - READ:
        if scheduler[name] not in (SCHEDULER[name], None):
            raise CheckpointError(
                f"{where}: its noise scheduler has {name} = {describe(scheduler[name])}: this is not read"
            )
    clipped = scheduler["clip_sample"] is not False
    sampling: dict[str, Any] = sampling_of(
        where,
        scheduler=str(scheduler["_target_"]).rpartition(".")[2].removesuffix("Scheduler"),
        schedule=str(scheduler["beta_schedule"]),
        prediction=str(scheduler["prediction_type"] or "epsilon"),
        steps=_count(settings, "policy.noise_scheduler.num_train_timesteps", where),
        calls=_count(settings, "policy.num_inference_steps", where, 0) or None,
        clip=float(scheduler["clip_sample_range"] or 1.0) if clipped else None,
    )
    step, actions = (_columns(weights, name, where) for name in ("obs", "action"))
    return ForeignPolicy(
        library="diffusion_policy",
        config=TeacherConfig(film_unet=shape, **sampling),
        weights=network,
        horizon=horizon,
        n_obs_steps=n_obs,
        n_action_steps=n_act,
        features=(("obs", len(step.shift)),),
        step=step,
        actions=actions,
        notes=("its observations have no names: that their numbers are in the task's order is yours to know",),
    )


#: Settings of diffusers' schedulers, and what they are where this library's samplers are the same.
SCHEDULER = {
    "_target_": None, "beta_schedule": None, "prediction_type": None, "clip_sample": None, "clip_sample_range": None,
    "variance_type": "fixed_small", "set_alpha_to_one": True, "steps_offset": 0, "thresholding": False,
    "timestep_spacing": "leading", "rescale_betas_zero_snr": False, "trained_betas": None,
}  # fmt: skip
READ = {"_target_", "beta_schedule", "prediction_type", "clip_sample", "clip_sample_range"}


def _columns(weights: Mapping[str, Tensor], field: str, where: str) -> Columns:
    """How a field is normalised: ``x scale + offset``, of which no scale is 0."""
    scale, offset = (weights.get(f"normalizer.params_dict.{field}.{name}") for name in ("scale", "offset"))
    if scale is None or offset is None:
        there = sorted({name.split(".")[2] for name in weights if name.startswith("normalizer.params_dict.")})
        raise CheckpointError(f"{where} has no normaliser of '{field}'; it has {', '.join(there)[:120] or 'none'}")
    if scale.shape != offset.shape or scale.dim() != 1 or not bool((scale > 0).all() & offset.isfinite().all()):
        raise CheckpointError(f"{where}: the normaliser of '{field}' is none: a scale and an offset for every column")
    scale, offset = scale.double(), offset.double()
    return Columns(-offset / scale, 1 / scale, torch.zeros(len(scale)))


# ---------------------------------------------------------------- OmegaConf's records


class Budget:
    """How many values may still be read: records may hold one another many times over."""

    left = 100_000

    def spend(self, depth: int) -> None:
        """Count a value.

        Raises:
            ValueError: there are too many, or it is nested too deeply.
        """
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            raise ValueError("its settings are nested too deeply")


def plain_settings(made: Any, budget: Budget, depth: int = 0) -> Any:
    """Return settings as dictionaries, lists and values, from the records of OmegaConf's objects.

    Raises:
        ValueError: there are too many, or they are nested too deeply.
    """
    budget.spend(depth)
    if isinstance(made, Made):
        state = made.state if isinstance(made.state, dict) else {}
        return plain_settings(state.get("_content", state.get("_val")), budget, depth + 1)
    if isinstance(made, dict):
        return {name: plain_settings(value, budget, depth + 1) for name, value in made.items()}
    if isinstance(made, list):
        return [plain_settings(value, budget, depth + 1) for value in made]
    return made


def _at(settings: Any, place: str, depth: int = 0) -> Any:
    """Return the setting at a place such as ``policy.horizon``, of which ``${horizon}`` stands for another place's."""
    value = settings
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    named = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    return _at(settings, named[1], depth + 1) if named and depth < DEEPEST else value


def _count(settings: Any, place: str, where: str, missing: int | None = None) -> int:
    """Return a positive whole number of the settings, or ``missing`` where there is none."""
    value = _at(settings, place)
    if value is None and missing is not None:
        return missing
    if type(value) is not int or not 1 <= value <= 65_536:
        raise CheckpointError(f"{where}: {place} is {describe(value):.60}, expected a number of 1 or more")
    return value
