"""OGBench's scene as state action-chunk tasks, learnt from its scripted oracles (Park et al. 2025).

Plans and history are those of the cubes (``tasks/cubes/task.py``). The context is what the last two observations say,
and at the scale of a grasp where the four things to touch are from the gripper, and what is left to do. Starts and
goals are drawn by an episode's seed; OGBench's five tasks with a cube are not among them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onestride.networks.normalizer import Scaling
from onestride.plans.given import Given
from onestride.robot.clock import Clock
from onestride.tasks.cubes.control_spec import CENTRE, CONTROL_DT, GRIPPER, N_OBS_STEPS, SCALE
from onestride.tasks.cubes.task import FINE, STEPS, SUCCESS
from onestride.tasks.gym import GymRobot
from onestride.tasks.lockstep import make_environment
from onestride.tasks.scenes.control_spec import (
    BUTTONS,
    DRAWER,
    DRAWER_SCALE,
    GOAL_DIM,
    SCENES,
    STATE_DIM,
    STEP_DIM,
    WINDOW,
    WINDOW_SCALE,
    control_spec,
)
from onestride.tasks.scenes.demonstrations import demonstrations
from onestride.tasks.task import Benchmark, Task

#: Where the two buttons are, and the closed drawer's and window's handles [m].
PLACES = np.array([[0.58, -0.05, 0.125], [0.58, 0.05, 0.125], [0.3305, -0.24, 0.08], [0.286, 0.225, 0.237]])
FINE_DIM = 3 * len(PLACES) + GOAL_DIM


def scene(name: str) -> Task:
    """Return the task ``name``, one of ``SCENES``. The return of an episode is 1 where it succeeded and 0 elsewhere."""
    spec, environment = control_spec(name), SCENES[name].environment
    return Task(
        control=spec,
        context_dim=spec.observation_dim + FINE_DIM,
        known=(),
        scaling=Scaling("limits", "limits"),
        encode=lambda observation: Given(observation[:, :0], context_of(observation), None),
        plan_window=lambda seen, actions: (actions, context_of(seen[:, :N_OBS_STEPS].flatten(1))),
        command=lambda plans, _frame: plans[:, 0].clamp(-1, 1),
        score=None,
        paths=lambda plans, _frame: plans[..., :3].cumsum(-2),
        scenes=lambda count, seed: [seed + i for i in range(count)],
        environment=partial(_robot, name),
        first_observation=partial(_first_observation, environment),
        measure=_measure,
        measure_episode=lambda episode: _measured(episode.terminated, len(episode)),
        metrics=(SUCCESS, STEPS),
        notes=(
            "Starts and goals are drawn by the episode's seed. Success: buttons as asked for, drawer and window within "
            "0.04 m of where they are to be.",
        ),
        benchmark=Benchmark(environment, 0.0, 1.0),
        demonstrations=demonstrations(name),
    )


def context_of(observation: Tensor) -> Tensor:
    """Return a decision's observation (B, 2 * STEP_DIM), then ``FINE_DIM`` numbers by its last half.

    Where both buttons and both handles are from the gripper, x, y, z each in 0.05 m and cut off at 1; whether each
    button is otherwise than it is to be; how far drawer and window have to go, likewise in 0.05 m.
    """
    last = observation[:, -STEP_DIM:]
    drawer, window = last[:, DRAWER] / DRAWER_SCALE, last[:, WINDOW] / WINDOW_SCALE
    places = torch.from_numpy(PLACES).to(last).expand(len(last), -1, -1)
    none = torch.zeros_like(drawer)
    moved = torch.stack((none, -drawer, none), 1), torch.stack((window, none, none), 1)  # of the two handles
    places = places + torch.cat((torch.zeros_like(places[:, :2]), torch.stack(moved, 1)), 1)
    gripper = last[:, GRIPPER : GRIPPER + 3] / SCALE + torch.from_numpy(CENTRE).to(last)
    near = ((places - gripper[:, None]) / FINE).clamp(-1, 1).flatten(1)
    goal = last[:, STATE_DIM:]
    buttons = goal[:, :2] - last[:, list(BUTTONS)]
    left = torch.stack((goal[:, 2] / DRAWER_SCALE - drawer, goal[:, 3] / WINDOW_SCALE - window), 1) / FINE
    return torch.cat((observation, near, buttons, left.clamp(-1, 1)), 1)


def _measured(success: bool, steps: int) -> dict[str, float | None]:
    return {"success": float(success), "steps_to_success": float(steps) if success else None}


def _robot(name: str, seed: int, clock: Clock) -> GymRobot:
    return GymRobot(SCENES[name].environment, CONTROL_DT, seed, clock, control_spec(name).goal_reached)


def _first_observation(environment: str, seed: int) -> np.ndarray:
    env = make_environment(environment)
    observation, _ = env.reset(seed=seed)
    env.close()
    return np.tile(np.asarray(observation, dtype=np.float64), N_OBS_STEPS)


def _measure(robot: GymRobot, _seed: int) -> dict[str, Any]:
    return {"return_raw": robot.total, **_measured(robot.total > 0, robot.steps)}
