"""Another library's policy becomes the teacher of a run: read, checked against the task, written as a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onestride.adopt.cameras import context_order, matched, reordered
from onestride.adopt.cleandiffuser import Told, is_cleandiffuser, read_cleandiffuser
from onestride.adopt.columns import Columns, normalizer_of
from onestride.adopt.diffusion_policy import read_original
from onestride.adopt.foreign import ForeignPolicy
from onestride.adopt.lerobot import read_lerobot
from onestride.checkpoint import CONFIG, load_config, seal_with
from onestride.files import CheckpointError, ensure_writable, exclusive
from onestride.folders import replace_folder
from onestride.methods.building import build_generator
from onestride.methods.diffusion_planner import DP
from onestride.policy.policy import Policy
from onestride.policy.store import SELECTOR
from onestride.robot.control_spec import ControlSpec
from onestride.robot.fields import split_images
from onestride.runs.run import TEACHER
from onestride.seals import sha256
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.medoid import MEDOID
from onestride.selectors.store import save_selector
from onestride.tasks.task import Task


@dataclass(frozen=True)
class Sampling:
    """How an adopted policy samples here, where not as its files say. steps: network calls per chunk."""

    solver: str | None = None
    steps: int | None = None


def read_policy(path: Path, told: Told | None = None) -> ForeignPolicy:
    """Return the policy at ``path``: a folder that LeRobot saved, a checkpoint of diffusion_policy or CleanDiffuser's.

    Args:
        path: where it is.
        told: what the user says of it, which CleanDiffuser's files do not.

    Raises:
        CheckpointError: there is none, or one that is not read; nothing in it was executed.
        ValueError: its own files say what was told, or the data that it learnt from cannot be read.
    """
    if not path.exists():
        raise CheckpointError(f"there is no policy at {path}")
    if path.is_file() and is_cleandiffuser(path):
        return read_cleandiffuser(path, told)
    foreign = read_lerobot(path) if path.is_dir() else read_original(path)
    if told is not None and (told.horizon, told.noise_levels) != (None, None):
        raise ValueError(f"{path} says itself what --horizon and --noise-levels are for; leave them away")
    return foreign


@dataclass(frozen=True)
class Adopted:
    """What was adopted. policy: as it is here. foreign: as it was read. notes: for the user."""

    policy: Policy
    foreign: ForeignPolicy
    notes: tuple[str, ...]


def adopt(
    run: Path,
    path: Path,
    task: Task,
    name: str = TEACHER,
    sampling: Sampling | None = None,
    told: Told | None = None,
) -> Adopted:
    """Write the policy at ``path`` into ``run/<name>`` as a checkpoint of the task.

    Raises:
        CheckpointError: it cannot be read, is of another task, or the folder holds another checkpoint.
        ValueError: it cannot sample in that way, or see ``read_policy``.
    """
    folder = run / name
    foreign = read_policy(path, told)
    policy = policy_of(foreign, task, path, sampling or Sampling())
    identity = _identity(path, policy, foreign.told)
    if (folder / CONFIG).is_file():
        if (load_config(folder)["training"] or {}).get("id") == identity:
            return Adopted(policy, foreign, (*foreign.notes, "it was there already"))
        raise CheckpointError(
            f"{folder} holds another checkpoint, which is not overwritten; choose another --run or --as, or delete it"
        )
    ensure_writable(run)
    training = {"id": identity, "adopted": {"from": foreign.library, "source": path.name}}
    selector = {"kind": MEDOID.name, "id": MEDOID.name, "options": asdict(MEDOID.options)}
    with exclusive(folder):
        policy.save(folder, training)
        replace_folder(folder, lambda new: seal_with(new, (SELECTOR,), ranked_by=selector))
        if not (run / MEDOID.name / CONFIG).is_file():  # students of the run are ranked by it too
            save_selector(run / MEDOID.name, policy.selector, task.name, {"id": MEDOID.name})
    notes = list(foreign.notes)
    if foreign.n_action_steps != task.control.n_action_steps:
        notes.append(f"it carried out {foreign.n_action_steps} actions of a chunk, here {task.control.n_action_steps}")
    return Adopted(policy, foreign, tuple(notes))


def policy_of(foreign: ForeignPolicy, task: Task, path: Path, sampling: Sampling) -> Policy:
    """Return a foreign policy as a policy of the task.

    Raises:
        CheckpointError: its shapes are not the task's, or its weights are not of its network.
        ValueError: it cannot sample in that way.
    """
    foreign = _as_fields(foreign, task.control, path)
    _check_task(foreign, task, path)
    changes: dict[str, Any] = {"solver": sampling.solver or foreign.config.solver}
    if sampling.steps is not None or sampling.solver is not None:
        changes["sample_steps"] = sampling.steps
    config = replace(foreign.config, **changes)
    if not 1 <= (config.sample_steps or 1) <= config.n_steps:
        raise ValueError(f"--steps is {config.sample_steps}, expected 1 to the policy's {config.n_steps} noise levels")
    record = task.with_control(horizon=foreign.horizon)
    sizes = {camera.name: (camera.shape[0], camera.shape[1]) for camera in task.control.cameras}
    which = matched(foreign.cameras, sizes, str(path))
    try:
        generator: Any = build_generator(
            DP, config, record.plans, cameras=sizes, n_obs_steps=foreign.n_obs_steps, vision=foreign.vision
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: no network is of such sizes ({error})") from error
    if foreign.vision is None:
        _load(generator.network, foreign.weights, path)
    else:
        there = dict(foreign.features) | {camera.name: foreign.vision.features for camera in foreign.cameras}
        order = context_order(
            foreign.n_obs_steps,
            [(name, there[name]) for name in foreign.order],
            [name for name, _ in foreign.features],
            [foreign.cameras[number].name for number in which.values()],
        )
        step_dim = config.film_unet.step_dim
        _load(generator.planner.network, reordered(foreign.weights, step_dim, order), path)
        for name, number in which.items():
            _load(generator.encoders[name], foreign.cameras[number].encoder, path)
    normalizer = normalizer_of(foreign.actions, foreign.step, foreign.n_obs_steps, str(path))
    selector = MEDOID.make(None, normalizer, task.control, MEDOID.options)
    whole = CandidateSampling((1.0,), (1.0,))  # noise as it was trained with, not scaled
    return Policy(record, generator, normalizer, selector=selector, sampling=whole)


def _as_fields(foreign: ForeignPolicy, control: ControlSpec, path: Path) -> ForeignPolicy:
    """Return a policy with its numbers in the order of the task's fields, where these are called as there."""
    fields = tuple((field.name, field.size) for field in control.fields if not field.camera)
    if foreign.vision is None or dict(fields).keys() != dict(foreign.features).keys():
        return foreign
    for name, size in foreign.features:
        if size != dict(fields)[name]:
            raise CheckpointError(f"{path}: {name} has {size} numbers, and the task's field {dict(fields)[name]}")
    names, sizes = zip(*foreign.features, strict=True)
    parts = [dict(zip(names, column.split(sizes), strict=True)) for column in foreign.step]
    step = Columns(*(torch.cat([part[name] for name, _ in fields]) for part in parts))
    return replace(foreign, features=fields, step=step)


def _load(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Give a network weights that have to be of exactly its names and shapes, and finite."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if missing := sorted(wanted.keys() ^ found.keys()):
        raise CheckpointError(f"{path}: its weights are of another network than its settings say ({missing[0]!r:.120})")
    for name, shape in found.items():
        if shape != wanted[name]:
            raise CheckpointError(
                f"{path}: '{name}' has shape {shape}, its settings and this task imply {wanted[name]}: they are not of "
                "one policy"
            )
        if not bool(weights[name].isfinite().all()):
            raise CheckpointError(f"{path}: '{name}' holds a number that is not finite")
    network.load_state_dict(weights)


def _check_task(foreign: ForeignPolicy, task: Task, path: Path) -> None:
    """Raise CheckpointError where a policy is not of this task's observations and actions."""
    control, of_task = task.control, f"task '{task.name}'"
    if not _of_chunks(task):
        raise CheckpointError(
            f"{path} makes chunks of actions from observations as they are, which plans of {of_task} are not; name a "
            "task of chunks, such as --task pusht"
        )
    step = sum(size for _, size in foreign.features)
    named = " + ".join(f"{name} ({size})" for name, size in foreign.features)
    if (foreign.n_obs_steps, step) != (control.n_obs_steps, control.numbers_dim):
        raise CheckpointError(
            f"{path} is given {foreign.n_obs_steps} observations of {step} numbers, {named}; {of_task} has "
            f"{control.n_obs_steps} of {control.numbers_dim}: {control.layout}"
        )
    action_dim = len(foreign.actions.shift)
    if action_dim != control.action_dim:
        raise CheckpointError(f"{path} gives actions of {action_dim} numbers, {of_task} takes {control.action_dim}")
    future = foreign.horizon - foreign.config.film_unet.past_rows
    if not control.n_action_steps <= future:
        raise CheckpointError(
            f"{path} makes {future} actions from now on, and {of_task} carries out {control.n_action_steps} of a chunk"
        )


def _of_chunks(task: Task) -> bool:
    """Whether plans are the robot's own actions and what is observed is their context, as it is."""
    control = task.control
    rng = torch.Generator().manual_seed(0)
    if control.state_dim or task.conditions or task.context_dim != control.n_obs_steps * control.numbers_dim:
        return False
    example = np.zeros(control.observation_dim) if control.example is None else control.example
    row = torch.from_numpy(example.astype(np.float32))[None] + torch.rand((1, control.observation_dim), generator=rng)
    given, context = task.encode(row), row
    if control.cameras:
        context, images = split_images(control.fields, row, control.n_obs_steps)
        there = given.images or {}
        if there.keys() != images.keys() or not all(torch.equal(there[name], images[name]) for name in images):
            return False
    seen = torch.rand((1, control.n_obs_steps - 1 + control.horizon, control.numbers_dim), generator=rng)
    actions = torch.rand((1, control.horizon, control.action_dim), generator=rng)
    return bool(torch.equal(given.context, context) and torch.equal(task.plan_window(seen, actions)[0], actions))


def _identity(path: Path, policy: Policy, told: str) -> str:
    """What the adopted checkpoint depends on: the files, what was told of them, and how it samples."""
    files = sorted(p for p in path.glob("*") if p.suffix in (".json", ".safetensors")) if path.is_dir() else [path]
    said = [(p.name, sha256(p)) for p in files], asdict(policy.generator.config), policy.task.name
    if policy.task.control.cameras:
        said = *said, asdict(policy.generator.vision)
    if told:
        said = *said, told
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]
