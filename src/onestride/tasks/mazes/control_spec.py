"""Control interfaces of the mazes, in NumPy alone. ``task.py`` has the tasks.

A plan's row is [state | action]: where the body is one control period after the row before, and the command for the
period that begins there: the motors' force on the point, the torques of the ant's joints, -1 to 1.
"""

from __future__ import annotations

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError, as_they_are, observation_vector
from onestride.robot.limits import Limits
from onestride.tasks.mazes.maps import MAZES, goal_reached


def control_spec(name: str) -> ControlSpec:
    """Return the control interface of the task ``name``, one of ``MAZES``."""
    maze = MAZES[name]
    body = maze.body
    limits = Limits(-np.ones(body.action_dim), np.ones(body.action_dim))
    free = [maze.centre((int(row), int(column))) for row, column in np.argwhere(~maze.walls)[[0, -1]]]
    return ControlSpec(
        name=name,
        observation_dim=body.observation_dim,
        state_dim=body.state_dim,
        action_dim=body.action_dim,
        horizon=maze.horizon,
        control_dt=body.control_dt,
        validate_observation=lambda observation: validate_observation(name, observation),
        goal_reached=goal_reached,
        limits=limits,
        commands=lambda plan, _observation: plan[:, body.state_dim :].clip(limits.low, limits.high),
        action_columns=as_they_are,
        rest=np.zeros(body.action_dim),
        example=np.concatenate((free[0], np.zeros(body.state_dim - 2), free[1])),
        layout=body.layout,
    )


def validate_observation(name: str, observation: np.ndarray) -> None:
    """Raise ObservationError for a wrong shape, a number that is not finite, or a goal where no body can go."""
    maze = MAZES[name]
    numbers = observation_vector(observation, maze.body.observation_dim, f" of {name}: {maze.body.layout}")
    try:
        maze.check_goal(numbers[-2:])
    except ValueError as error:
        raise ObservationError(str(error)) from error
