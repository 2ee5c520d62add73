"""A trained planner as a behaviour: its own episodes become data, in the environment of its task or of a like one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onestride.checkpoint import CONFIG
from onestride.files import CheckpointError
from onestride.policy.policy import Policy, unselected
from onestride.progress import console
from onestride.robot.control_spec import ControlSpec

RATE = 0.01  # largest relative difference of control periods
#: What of a checkpoint's config does not change what it does.
HISTORY = ("training", "versions")


class PlannerBehaviour:
    """A checkpoint's policy that collects episodes: its selector ranks its candidates, as in an evaluation.

    Without a selector it draws one candidate and takes it. An episode depends on its own generator alone, to the last
    bit: rows are decided one after another.
    """

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.policy, control = policy, policy.control
        self.name = "/".join(folder.resolve().parts[-2:])
        does = {k: v for k, v in policy.config.items() if k not in HISTORY} | {"candidates": policy.candidates}
        self.identity = hashlib.sha256(json.dumps(does, sort_keys=True).encode()).hexdigest()[:12]
        self.observation_dim, self.action_dim = control.step_dim, control.action_dim
        self.n_obs_steps = control.n_obs_steps

    def act(self, observations: np.ndarray, streams: Sequence[np.random.Generator], /) -> np.ndarray:
        """Return the actions that are carried out next (B, n_action_steps, A) for observations (B, n_obs_steps O)."""
        made = []
        for observation, stream in zip(observations, streams, strict=True):
            self.policy.reset(int(stream.integers(2**63)))
            made.append(self.policy.predict_action_chunk(observation[None]))
        return np.concatenate(made)


def planner_behaviour(folder: Path, control: ControlSpec) -> PlannerBehaviour:
    """Return the planner in a checkpoint's folder, to collect in the environment of a task.

    It may have been trained for another task of the same shapes and rate, such as a body with other masses, whose
    limits contain those of this one: what it asks for beyond them is clipped. That is said on the screen.

    Args:
        folder: of the checkpoint.
        control: the control interface of the task.

    Raises:
        CheckpointError: there is no planner in the folder, or its task has other shapes, narrower limits or another
            rate.
    """
    if not (folder / CONFIG).is_file() and (inside := sorted(p.parent for p in folder.glob(f"*/{CONFIG}"))):
        raise CheckpointError(f"{folder} is a run: name one of its planners, {', '.join(map(str, inside))}")
    policy = Policy.from_pretrained(folder)
    if policy.selector is None or policy.selector is unselected:
        policy = Policy.from_pretrained(folder, candidates=1, selector=unselected)
    of = policy.control
    if of.name == control.name:
        return PlannerBehaviour(folder, policy)
    differ = [
        f"{what} ({its}, not {mine})"
        for what, its, mine in (
            ("numbers of an observation", of.step_dim, control.step_dim),
            ("numbers of an action", of.action_dim, control.action_dim),
        )
        if its != mine
    ]
    clipped = False
    if of.action_dim == control.action_dim:
        below, above = control.limits.low - of.limits.low, of.limits.high - control.limits.high
        clipped = bool((below > 0).any() or (above > 0).any())
        if (below < 0).any() or (above < 0).any():
            differ.append("wider limits of actions")
    if abs(of.control_dt / control.control_dt - 1) > RATE:
        differ.append(f"control period ({of.control_dt:g} s, not {control.control_dt:g} s)")
    if differ:
        raise CheckpointError(
            f"{folder} was trained for task '{of.name}' and cannot act in '{control.name}', which differs in "
            f"{', '.join(differ)}; name the run's task with --task, or another planner"
        )
    narrower = ", its actions clipped to narrower limits" if clipped else ""
    console.print(f"{folder} was trained for '{of.name}' and acts in '{control.name}'{narrower}", highlight=False)
    return PlannerBehaviour(folder, policy)
