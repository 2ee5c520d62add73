"""OGBench's cubes as state action-chunk tasks, learnt from its scripted oracles (Park et al. 2025).

A plan is a chunk of 16 relative actions without states, (H, 5). Its context is what the last two observations say,
goals included, and at a finer scale what is left to do by the last one. Nothing of the plan is known before it is made.
Eight rows are carried out, then the next decision is made.
Everything is normalised to -1 ... 1 by its limits.

Demonstrations start anywhere and go anywhere. Episodes of an evaluation are OGBench's five tasks in turn, each start
shaken and turned by its seed, so that success means what it means there, except that goals are given as positions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.networks.normalizer import Scaling
from onestride.plans.given import Given
from onestride.robot.clock import Clock
from onestride.tasks.cubes.control_spec import (
    ARM_DIM,
    CONTROL_DT,
    CUBE_DIM,
    CUBES,
    GOAL_DIM,
    GRIPPER,
    KINDS,
    N_OBS_STEPS,
    SCALE,
    Cubes,
    control_spec,
    kind_of,
)
from onestride.tasks.cubes.demonstrations import demonstrations
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment
from onestride.tasks.metric import Metric
from onestride.tasks.task import Benchmark, Task

FINE, FINE_DIM = 0.05, 8  # [m]; numbers of each cube that ``context_of`` adds
SUCCESS = Metric("success", "success", digits=0, kind="share", spread=False, better="higher")
STEPS = Metric("steps_to_success", "steps to success", digits=0, better="lower")


def cubes(name: str) -> Task:
    """Return the task ``name``, one of ``CUBES``. The return of an episode is 1 where it succeeded and 0 elsewhere."""
    spec, which = control_spec(name), CUBES[name]
    kinds = tuple(
        Metric(f"success_{kind}", f"success, {kind}", digits=0, kind="share", spread=False, better="higher")
        for kind in KINDS
    )
    return Task(
        control=spec,
        context_dim=spec.observation_dim + FINE_DIM * which.cubes,
        known=(),
        scaling=Scaling("limits", "limits"),
        encode=lambda observation: Given(observation[:, :0], context_of(observation, which), None),
        plan_window=lambda seen, actions: (actions, context_of(seen[:, :N_OBS_STEPS].flatten(1), which)),
        command=lambda plans, _frame: plans[:, 0].clamp(-1, 1),
        score=None,
        paths=lambda plans, _frame: plans[..., :3].cumsum(-2),
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=partial(_robot, name),
        first_observation=partial(_first_observation, which.environment),
        measure=partial(_measure, name),
        measure_episode=partial(measure_episode, name),
        metrics=(SUCCESS, STEPS, *(kinds if which.cubes > 1 else ())),
        notes=(
            "Episodes are OGBench's five tasks in turn; starts are shaken and turned by the episode's seed. Success is "
            "OGBench's: every cube within 0.04 m of its place, be it in the gripper.",
        ),
        benchmark=Benchmark(which.environment, 0.0, 1.0),
        demonstrations=demonstrations(name),
    )


def context_of(observation: Tensor, which: Cubes) -> Tensor:
    """Return a decision's observation (B, 2 * step_dim), then ``FINE_DIM`` numbers of each cube by its last half.

    A grasp takes a centimetre, and observations reach over the whole table. So for each cube: where it is from the
    gripper and its goal from it, x, y, z each in 0.05 m and cut off at 1; then the cosine and sine of four times the
    angle between cube and gripper, which is the same for all four ways to grasp it.
    """
    n = which.cubes
    last = observation[:, -which.observation_dim :]
    gripper, cubes = last[:, None, GRIPPER : GRIPPER + 5], last[:, ARM_DIM : ARM_DIM + CUBE_DIM * n]
    cubes, goals = cubes.unflatten(1, (n, CUBE_DIM)), last[:, -GOAL_DIM * n :].unflatten(1, (n, GOAL_DIM))
    at, (cos, sin) = cubes[..., :3], (cubes[..., CUBE_DIM - 2 + i] for i in range(2))
    near = torch.cat((at - gripper[..., :3], goals - at), -1) / (SCALE * FINE)
    cos, sin = cos * gripper[..., 3] + sin * gripper[..., 4], sin * gripper[..., 3] - cos * gripper[..., 4]
    for _ in range(2):  # twice the angle, and twice that
        cos, sin = cos * cos - sin * sin, 2 * cos * sin
    fine = torch.cat((near.clamp(-1, 1), cos[..., None], sin[..., None]), -1)
    return torch.cat((observation, fine.flatten(1)), 1)


def measure_episode(name: str, episode: Episode) -> dict[str, float | None]:
    """Return whether the episode succeeded, also under its kind, and after how many steps; None: does not apply."""
    return _measured(name, episode.observations[0], episode.terminated, len(episode))


def _measured(name: str, first: np.ndarray, success: bool, steps: int) -> dict[str, float | None]:
    count = CUBES[name].cubes
    measured = {"success": float(success), "steps_to_success": float(steps) if success else None}
    if count > 1:
        kind = kind_of(first, count)
        measured |= {f"success_{each}": float(success) if each == kind else None for each in KINDS}
    return measured


def _robot(name: str, seed: int, clock: Clock) -> GymRobot:
    return GymRobot(CUBES[name].environment, CONTROL_DT, seed, clock, control_spec(name).goal_reached)


def _first_observation(which: str, seed: int) -> np.ndarray:
    env = make_environment(which)
    observation, _ = env.reset(seed=seed)
    env.close()
    return np.tile(np.asarray(observation, dtype=np.float64), N_OBS_STEPS)


def _measure(name: str, robot: GymRobot, _seed: int) -> dict[str, Any]:
    world: Any = robot.environment.unwrapped
    return {"return_raw": robot.total, **_measured(name, world.first, robot.total > 0, robot.steps)}
