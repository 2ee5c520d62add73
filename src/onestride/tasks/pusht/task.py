"""PushT as a state action-chunk task, as Diffusion Policy has it (Chi et al. 2023): push the T onto its outline.

A plan is a chunk of 16 actions without states, (H, 2), positions that the agent moves towards [px]. What the last two
observations say is its context; nothing of the plan is known before it is made. Eight rows are carried out, then the
next decision is made. Everything is normalised to -1 ... 1 by its limits. What is observed is the agent and the
corners of the T ("pusht", which are the keypoints of other codebases too), or the agent and an image ("pusht-image").
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from onestride.data.episode import Episode
from onestride.networks.normalizer import Scaling
from onestride.plans.given import Given
from onestride.robot.control_spec import ControlSpec
from onestride.robot.fields import split_images
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment
from onestride.tasks.metric import Metric
from onestride.tasks.pusht import planner
from onestride.tasks.pusht.control_spec import CONTROL_DT, N_OBS_STEPS, SIZE, control_spec, image_control_spec
from onestride.tasks.pusht.environment import ID, IMAGE_ID
from onestride.tasks.task import Benchmark, Demonstrations, Task

SOLVED = 1.0  # reward of a step that solves it


def pusht() -> Task:
    """Return the task. The return of an episode is its best reward, 1 where the T was brought onto its outline."""
    return _task(control_spec(), ID, Demonstrations(planner.chunk, planner.metadata()))


def pusht_image() -> Task:
    """Return the task in which the T is seen by a camera; episodes, demonstrations and metrics are the same."""
    spec = image_control_spec()
    own = Demonstrations(partial(planner.chunk, spec=spec), planner.metadata(spec.name))
    return _task(spec, IMAGE_ID, own)


def _task(spec: ControlSpec, environment: str, demonstrations: Demonstrations) -> Task:
    def encode(observation: Tensor) -> Given:
        numbers, images = split_images(spec.fields, observation, N_OBS_STEPS) if spec.cameras else (observation, {})
        return Given(observation[:, :0], numbers, None, images)

    def first_observation(seed: int) -> np.ndarray:
        env = make_environment(environment)
        observation, _ = env.reset(seed=seed)
        env.close()
        return np.tile(np.asarray(observation, dtype=np.float64), N_OBS_STEPS)

    return Task(
        control=spec,
        context_dim=N_OBS_STEPS * spec.numbers_dim,
        known=(),
        scaling=Scaling("limits", "limits"),
        encode=encode,
        plan_window=lambda seen, actions: (actions, seen[:, :N_OBS_STEPS].flatten(1)),
        command=lambda plans, _frame: plans[:, 0].clamp(0.0, SIZE),
        score=None,
        paths=lambda plans, _frame: pad(plans, (0, 1)),
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=lambda seed, clock: GymRobot(environment, CONTROL_DT, seed, clock, terminated_as="solved"),
        first_observation=first_observation,
        measure=_measure,
        measure_episode=measure_episode,
        metrics=(
            Metric("success", "solved", digits=0, kind="share", spread=False, better="higher"),
            Metric("best_reward", "best reward", digits=3, better="higher"),
        ),
        benchmark=Benchmark(environment, 0.0, 1.0),
        demonstrations=demonstrations,
    )


def measure_episode(episode: Episode) -> dict[str, float]:
    """Return whether the episode ended solved, and its best reward, which is what the field reports."""
    best = float(episode.rewards.max())
    return {"success": float(best >= SOLVED), "best_reward": best}


def _measure(robot: GymRobot, _seed: int) -> dict[str, Any]:
    return {"return_raw": robot.total, "success": float(robot.ended == "solved"), "best_reward": robot.best}
