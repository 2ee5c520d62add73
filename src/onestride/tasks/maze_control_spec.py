"""Control interfaces of the point mazes, in NumPy alone. ``mazes.py`` has the tasks.

An observation is [x, y, vx, vy, goal x, goal y] in [m] and [m/s]. A plan's row is [x, y, vx, vy | ax, ay]: where the
point is one control period after the row before, and the motors' command for the period that begins there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onestride.robot.control_spec import ControlSpec, check_numbers
from onestride.robot.limits import Limits

STATE_DIM, ACTION_DIM, OBSERVATION_DIM = 4, 2, 6
CONTROL_DT = 0.01  # [s]
GOAL_RADIUS = 0.45  # within which the environment counts the goal as reached [m]
LAYOUT = "x, y [m], vx, vy [m/s], goal x, goal y [m]"


@dataclass(frozen=True)
class Maze:
    """What differs between the mazes.

    Attributes:
        environment: Gymnasium-Robotics' id.
        episode_steps: after how many steps an episode is cut off.
        horizon: H, rows of a plan: as many as the longest route of the demonstrator takes.
    """

    environment: str
    episode_steps: int
    horizon: int


MAZES = {
    "pointmaze-umaze": Maze("PointMaze_UMaze-v3", 300, 160),
    "pointmaze-medium": Maze("PointMaze_Medium-v3", 600, 288),
    "pointmaze-large": Maze("PointMaze_Large-v3", 800, 432),
}


def goal_reached(observation: np.ndarray) -> bool:
    """Return whether the point is within ``GOAL_RADIUS`` of its goal."""
    return bool(np.hypot(*(observation[:2] - observation[4:])) <= GOAL_RADIUS)


def control_spec(name: str) -> ControlSpec:
    """Return the control interface of the task ``name``, one of ``MAZES``."""
    limits = Limits(-np.ones(ACTION_DIM), np.ones(ACTION_DIM))
    return ControlSpec(
        name=name,
        observation_dim=OBSERVATION_DIM,
        state_dim=STATE_DIM,
        action_dim=ACTION_DIM,
        horizon=MAZES[name].horizon,
        control_dt=CONTROL_DT,
        validate_observation=lambda observation: check_numbers(observation, OBSERVATION_DIM, f" of {name}: {LAYOUT}"),
        goal_reached=goal_reached,
        limits=limits,
        commands=lambda plan, _observation: plan[:, STATE_DIM:].clip(limits.low, limits.high),
        hold_command=lambda _observation: np.zeros(ACTION_DIM),
        layout=LAYOUT,
    )
