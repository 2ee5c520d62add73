"""OGBench's cubes as state action-chunk tasks, learnt from its scripted oracles (Park et al. 2025).

A plan is a chunk of 16 relative actions without states, (H, 5). What the last two observations say, goals included, is
its context; nothing of the plan is known before it is made. Eight rows are carried out, then the next decision is made.
Everything is normalised to -1 ... 1 by its limits.

Demonstrations start anywhere and go anywhere. Episodes of an evaluation are OGBench's five tasks in turn, each start
shaken and turned by its seed, so that success means what it means there, except that goals are given as positions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from onestride.data.episode import Episode
from onestride.networks.normalizer import Scaling
from onestride.plans.given import Given
from onestride.robot.clock import Clock
from onestride.tasks.cubes.control_spec import CONTROL_DT, CUBES, KINDS, N_OBS_STEPS, control_spec, kind_of
from onestride.tasks.cubes.demonstrations import demonstrations
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment
from onestride.tasks.metric import Metric
from onestride.tasks.task import Benchmark, Task

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
        **vars(spec),
        context_dim=spec.observation_dim,
        known=(),
        scaling=Scaling("limits", "limits"),
        encode=lambda observation: Given(observation[:, :0], observation, None),
        plan_window=lambda seen, actions: (actions, seen[:, :N_OBS_STEPS].flatten(1)),
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
