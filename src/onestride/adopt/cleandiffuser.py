"""CleanDiffuser's Diffusion Policy (Dong et al. 2024): a file of ``{"model", "model_ema"}``, weights and nothing else.

What its pipelines train with ``nn: chi_unet`` and ``diffusion: ddpm`` is read: ``ChiUNet1d`` with observations as a
global condition, which predicts the noise of ``DDPM`` and is clipped to -1 ... 1. It is Diffusion Policy's U-Net, whose
condition passes a linear layer first. What no weight's shape shows is told by the user, and the normalisation, of every
column by its least and its most, is taken from the data again. See ``ddpm.py``, ``chiunet.py`` and ``MinMaxNormalizer``
of CleanDiffuser 05f17fc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onestride.adopt.columns import Columns
from onestride.adopt.foreign import SCHEDULE, ForeignPolicy, network_of, renamed, sampling_of
from onestride.data.adapters import read_episodes
from onestride.data.torch_weights import open_torch
from onestride.files import CheckpointError, size_of_file
from onestride.methods.diffusion_planner import TeacherConfig
from onestride.networks.normalizer import RunningMoments
from onestride.robot.fields import Field
from onestride.runs.ingest import keys_of
from onestride.tasks.task import Task

STATES = ("model", "model_ema")  # the averaged weights are those that its pipelines evaluate
#: Names in ``ChiUNet1d`` -> names in ``FilmUNet``.
NAMES = (
    (r"^map_emb\.", "time.net."),
    (r"^global_cond_encoder\.", "context."),
    (r"^(down|up)s\.(\d+)\.0\.", r"\1.\2.first."),
    (r"^(down|up)s\.(\d+)\.1\.", r"\1.\2.second."),
    (r"^(down|up)s\.(\d+)\.2\.conv\.", r"\1sample.\2."),
    (r"^mids\.0\.", "middle.first."),
    (r"^mids\.1\.", "middle.second."),
    (r"^final_conv\.([01])\.", r"output.0.\1."),
    (r"^final_conv\.3\.", "output.1."),
    (r"\.conv1\.", ".first."),
    (r"\.conv2\.", ".second."),
    (r"\.cond_encoder\.", ".time."),
    (r"\.residual_conv\.", ".skip."),
)
GROUPS, FEWEST_CHANNELS = 8, 32  # below so many channels it has fewer groups


@dataclass(frozen=True)
class Told:
    """What the user says of a policy whose file does not.

    Attributes:
        task: what it does: the size of an observation, and how many it is given.
        horizon: rows of a chunk, with those before now.
        noise_levels: of its diffusion.
        data: the episodes that it learnt from.
    """

    task: Task
    horizon: int | None = None
    noise_levels: int | None = None
    data: Path | None = None


def is_cleandiffuser(path: Path) -> bool:
    """Return whether a file holds what CleanDiffuser saves: two state dicts of these names."""
    size_of_file(path)
    try:
        with open_torch(path) as file:
            return isinstance(file.value, dict) and set(STATES) <= file.value.keys()
    except ValueError:  # the reader of the other kind of file says why it is none
        return False


def read_cleandiffuser(path: Path, told: Told | None) -> ForeignPolicy:
    """Return the policy in a file that CleanDiffuser saved. Nothing in it is executed.

    Raises:
        CheckpointError: something that the file does not say is not told, the weights are of another network, or the
            task's observations are of another size.
        ValueError: the data cannot be read.
    """
    weights = _weights(path)
    network = _network(weights, str(path))
    if told is None or told.horizon is None or told.noise_levels is None or told.data is None:
        raise CheckpointError(f"{path} is CleanDiffuser's, which saves weights alone: {_missing(told)}")
    horizon, levels, control = told.horizon, told.noise_levels, told.task.control
    if horizon < 1 or horizon & (horizon - 1):
        raise CheckpointError(f"--horizon is {horizon}, and the ChiUNet1d in {path} takes powers of 2")
    if not 1 <= levels <= 10_000:
        raise CheckpointError(f"--noise-levels is {levels}, expected 1 to 10000")
    given, wanted = network["context.weight"].shape[1], control.n_obs_steps * control.numbers_dim
    if given != wanted:
        raise CheckpointError(
            f"{path} is given {given} numbers; task '{told.task.name}' has {control.n_obs_steps} observations of "
            f"{control.numbers_dim}, which are {wanted}: {control.layout}"
        )
    shape = network_of(network, GROUPS, control.n_obs_steps - 1, str(path))
    if min(shape.down_dims) < FEWEST_CHANNELS:
        raise CheckpointError(f"{path} has levels of {shape.down_dims} channels; {FEWEST_CHANNELS} or more can be read")
    sampling: dict[str, Any] = sampling_of(
        str(path), scheduler="DDPM", schedule=SCHEDULE, prediction="epsilon", steps=levels, calls=None, clip=1.0
    )
    step, actions, rows = limits_of(told.data, told.task)
    return ForeignPolicy(
        library="CleanDiffuser",
        config=TeacherConfig(film_unet=replace(shape, context_width=len(network["context.weight"])), **sampling),
        weights=network,
        horizon=horizon,
        n_obs_steps=control.n_obs_steps,
        n_action_steps=control.n_action_steps,
        features=(("observation", control.numbers_dim),),
        step=step,
        actions=actions,
        told=repr((horizon, [values.tolist() for values in (*step[:2], *actions[:2])])),
        notes=(
            f"normalised by the least and the most of {rows} steps in {told.data.name}, as it was by its own data: "
            "these have to be the episodes that it learnt from",
            f"its file does not say so, and it is taken as DDPM of {levels} noise levels that predicts noise",
            "its observations have no names: that their numbers are in the task's order is yours to know",
        ),
    )


def _missing(told: Told | None) -> str:
    """What has to be told, by which option, and where a run of CleanDiffuser has it."""
    asked = (
        ("--horizon", "the rows of a chunk, 'horizon' in its configuration", told and told.horizon),
        ("--noise-levels", "those of its diffusion, 'sample_steps' there", told and told.noise_levels),
        ("--data", "the episodes that it learnt from, by which it was normalised", told and told.data),
    )
    return "give " + "; ".join(f"{option} ({what})" for option, what, value in asked if value is None)


def _weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights of the diffusion network by its own names."""
    try:
        with open_torch(path) as file:
            found = file.tensors(file.value["model_ema"])
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be adopted: {error!s:.400}; expected two state dicts of tensors. Nothing in it was executed"
        ) from error
    if found is None:
        raise CheckpointError(f"{path}: its 'model_ema' is no state dict of tensors")
    weights = {name: torch.from_numpy(value) for name, value in found.items()}
    if others := sorted(name for name in weights if not name.startswith("diffusion.")):
        raise CheckpointError(
            f"{path} has weights beside its diffusion network's ({others[0]!r:.80}): its condition passes a network of "
            "its own. IdentityCondition can be adopted, as nn: chi_unet has it"
        )
    return {name.removeprefix("diffusion."): value for name, value in weights.items()}


def _network(weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights by our names, for our embedding of the noise level.

    Raises:
        CheckpointError: they are of another network than ``ChiUNet1d`` with a global condition.
    """
    for start, what in (("local_cond_encoder", "a local condition"), ("map_noise", "another embedding of noise")):
        if any(name.startswith(f"{start}.") for name in weights):
            raise CheckpointError(
                f"{where} has {what} ({start}); ChiUNet1d with obs_as_global_cond and timestep_emb_type 'positional' "
                "can be adopted"
            )
    expected = {"map_emb.0.weight", "map_emb.0.bias", "map_emb.2.weight", "global_cond_encoder.weight"}
    if missing := sorted(expected - weights.keys()):
        raise CheckpointError(
            f"{where} has no {missing[0]}: it is no ChiUNet1d (nn: chi_unet), which alone of its library's networks "
            "can be adopted"
        )
    for name, even in (("map_emb.0.weight", 2), ("global_cond_encoder.weight", 1)):
        if weights[name].dim() != 2 or weights[name].shape[1] % even:
            raise CheckpointError(f"{where}: {name} has shape {tuple(weights[name].shape)}, which no linear layer has")
    made = renamed(weights, NAMES)
    first, bias = made["time.net.0.weight"], made["time.net.0.bias"]
    # It multiplies whole noise levels t by frequencies that are made whole numbers too: the first is 1, all others are
    # 0. Of [cos, sin] that leaves cos t, sin t, ones and zeros; the ones are a bias. Ours is [sin, cos], and its first
    # frequency is 1 as well.
    half = first.shape[1] // 2
    level = torch.zeros_like(first)
    level[:, 0], level[:, half] = first[:, half], first[:, 0]
    constant = first[:, 1:half].double().sum(1)
    return made | {"time.net.0.weight": level, "time.net.0.bias": (bias.double() + constant).float()}


def limits_of(data: Path, task: Task) -> tuple[Columns, Columns, int]:
    """Return how CleanDiffuser normalises by episodes: an observation's columns, an action's, and of how many steps.

    Every column's least becomes -1 and its most 1; of one that never changed, 1 above the least is 1. A field of
    several rows, such as keypoints (9, 2), has the limits of its last axis in common; an observation that is a vector
    has none.

    Raises:
        ValueError: the data cannot be read, or have other columns than the task.
    """
    control, observations, actions = task.control, RunningMoments(), RunningMoments()
    for episode in read_episodes(data, keys=keys_of(task)):
        found = episode.observations.shape[1], episode.actions.shape[1]
        if found != (control.numbers_dim, control.action_dim):
            raise ValueError(
                f"{data} has observations of {found[0]} and actions of {found[1]} numbers; task '{task.name}' has "
                f"{control.numbers_dim} and {control.action_dim}"
            )
        # The observation after the last action is none of the rows that it learnt from.
        observations.add(torch.from_numpy(episode.observations[:-1]))
        actions.add(torch.from_numpy(episode.actions))
    seen, done = observations.moments(), actions.moments()
    fields = control.fields or (Field("observation", (control.numbers_dim,)),)
    sizes = [field.size for field in fields if not field.camera]
    wide = [field.shape[-1] if field.shape else 1 for field in fields if not field.camera]
    low = torch.cat([_shared(part, n, torch.amin) for part, n in zip(seen.low.split(sizes), wide, strict=True)])
    high = torch.cat([_shared(part, n, torch.amax) for part, n in zip(seen.high.split(sizes), wide, strict=True)])
    return _columns(low, high), _columns(done.low, done.high), actions.count


def _shared(limits: Tensor, wide: int, of: Callable[..., Tensor]) -> Tensor:
    """The limits of a field's numbers, all of its rows' in common."""
    return of(limits.view(-1, wide), 0).repeat(len(limits) // wide)


def _columns(low: Tensor, high: Tensor) -> Columns:
    reach = high - low
    half = torch.where(reach == 0, 1.0, reach).double() / 2
    return Columns(low.double() + half, half, torch.zeros(len(low)))
