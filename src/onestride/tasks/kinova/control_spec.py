"""The control interface of the arm task. ``task.py`` has the task.

The observation (41,) is [position 3 (m), velocity 3 (m/s), goal 3 (m), obstacles 4 x 8] in the base frame. A plan's row
is [position 3, velocity 3 | displacement 3] in a frame at the goal whose unit of length is the remaining distance.
"""

from __future__ import annotations

import numpy as np

from onestride.robot.control_spec import ControlSpec, observation_vector
from onestride.robot.fields import Field
from onestride.robot.limits import Limits
from onestride.tasks.directions import axes_toward
from onestride.tasks.kinova.scene import ACCELERATION, CONTROL_DT, MAX_OBSTACLES, SPEED, WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import ABSENT, BOX, OBSTACLE_DIM, SPHERE, check_problem, obstacle_fields

OBSERVATION_DIM = 9 + MAX_OBSTACLES * OBSTACLE_DIM
NAME = "kinova"
HORIZON = 32

NEAREST = 0.02  # smallest unit of length of the plan's frame [m]
GOAL_RADIUS = 0.005  # r_goal of the paper [m]
REACH_MARGIN = 0.02  # commands may leave the workspace of starts and goals by this [m]
MAX_STEP = 1.5 * SPEED * CONTROL_DT  # largest distance of a command from the arm [m]


def validate_observation(observation: np.ndarray) -> None:
    """Raise ObservationError for an observation that cannot be acted on.

    Raises:
        ObservationError: a wrong shape, a number that is not finite, an obstacle of unknown kind or without size, or a
            goal outside the workspace or inside an obstacle.
    """
    observation = observation_vector(
        observation, OBSERVATION_DIM, f": position 3, velocity 3, goal 3, obstacles {MAX_OBSTACLES} x {OBSTACLE_DIM}"
    )
    obstacles = observation[9:].reshape(MAX_OBSTACLES, OBSTACLE_DIM)
    check_problem(observation[6:9], obstacles, WORKSPACE_LOW, WORKSPACE_HIGH, (ABSENT, SPHERE, BOX))


def goal_reached(observation: np.ndarray) -> bool:
    """Return whether the end-effector is within ``GOAL_RADIUS`` of the goal."""
    return bool(np.linalg.norm(observation[:3] - observation[6:9]) <= GOAL_RADIUS)


def hold_command(observation: np.ndarray) -> np.ndarray:
    """Return the tool's position, as the target that keeps it there (3,) [m]."""
    return observation[:3].copy()


def commands(plan: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Return the Cartesian position targets of all rows (H, 3) [m] of a plan (H, 9) made from an observation (41,).

    A row's target is its position plus its displacement. The frame is that of ``task.make_frame``.
    """
    position, goal = np.asarray(observation[:3], np.float64), observation[6:9]
    way = float(np.linalg.norm(goal - position))
    axes = axes_toward(goal - position)
    length = max(way, NEAREST)
    stride = CONTROL_DT * min(np.sqrt(2 * ACCELERATION * length), SPEED)
    return goal + (plan[:, :3] * length + plan[:, 6:] * stride) @ axes


def action_columns(targets: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Return position targets of the first rows (n, 3) [m] as displacements (n, 3) of a plan's rows.

    A row's displacement counts from where the arm is then: at first where it is observed, later at the target before,
    since a target is where the arm should be one control period on.
    """
    position, goal = np.asarray(observation[:3], np.float64), observation[6:9]
    length = max(float(np.linalg.norm(goal - position)), NEAREST)
    stride = CONTROL_DT * min(np.sqrt(2 * ACCELERATION * length), SPEED)
    before = np.concatenate((position[None], targets))[:-1]
    return (targets - before) @ axes_toward(goal - position).T / stride


def control_spec() -> ControlSpec:
    """Return the control interface of the arm task."""
    center = (WORKSPACE_LOW + WORKSPACE_HIGH) / 2
    return ControlSpec(
        name=NAME,
        observation_dim=OBSERVATION_DIM,
        state_dim=6,
        action_dim=3,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        validate_observation=validate_observation,
        goal_reached=goal_reached,
        limits=Limits(WORKSPACE_LOW - REACH_MARGIN, WORKSPACE_HIGH + REACH_MARGIN, max_step=MAX_STEP),
        commands=commands,
        action_columns=action_columns,
        position_commands=True,
        hold_command=hold_command,
        dwell_steps=4,
        layout="position 3 [m], velocity 3 [m/s], goal 3 [m], then 4 obstacles of 8 numbers each: kind (0 absent, "
        "1 sphere, 2 box), center 3 [m], half extents 3 [m] (of a sphere the first is its radius), yaw [rad]; all in "
        "the base frame",
        named=(
            Field("position", (3,), "m"),
            Field("velocity", (3,), "m/s"),
            Field("goal", (3,), "m"),
            *obstacle_fields(MAX_OBSTACLES),
        ),
        example=np.concatenate((WORKSPACE_LOW, np.zeros(3), center, np.zeros(MAX_OBSTACLES * OBSTACLE_DIM))),
    )
