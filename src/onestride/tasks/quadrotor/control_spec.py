"""The control interface of the quadrotor, in NumPy alone. ``task.py`` has the task.

The observation (57,) is [position 3 (m), velocity 3 (m/s), goal 3 (m), obstacles 6 x 8] in the room's frame. A command
is the velocity to head for [m/s], as a Crazyflie's commander takes it. It is approached with the time constant
``RESPONSE``: the present velocity and ``RESPONSE`` times an acceleration is a command that asks for that acceleration.
A plan's row is [position 3, velocity 3 | acceleration 3] in a frame at the goal whose unit of length is the remaining
distance.
"""

from __future__ import annotations

import numpy as np

from onestride.robot.control_spec import ControlSpec, observation_vector
from onestride.robot.fields import Field
from onestride.robot.limits import Limits
from onestride.tasks.directions import axes_toward
from onestride.tasks.obstacles import ABSENT, BOX, OBSTACLE_DIM, PILLAR, check_problem, obstacle_fields
from onestride.tasks.quadrotor.scene import (
    ACCELERATION,
    CONTROL_DT,
    FLIGHT_HIGH,
    FLIGHT_LOW,
    MAX_OBSTACLES,
    RESPONSE,
    SPEED,
)

NAME = "quadrotor"
OBSERVATION_DIM = 9 + MAX_OBSTACLES * OBSTACLE_DIM
HORIZON = 144  # as many rows as the demonstrator's longest path takes: 3.6 s

NEAREST = 0.1  # smallest unit of length of the plan's frame [m]
GOAL_RADIUS = 0.05  # [m]
DWELL_STEPS = 8  # for which it stays there: 0.2 s
LARGEST = 1.5 * SPEED  # of a command, along each axis [m/s]
LEAD = ACCELERATION * RESPONSE  # of a command before the velocity, for the unit of a plan's acceleration [m/s]


def validate_observation(observation: np.ndarray) -> None:
    """Raise ObservationError for an observation that cannot be acted on.

    Raises:
        ObservationError: a wrong shape, a number that is not finite, an obstacle of unknown kind or without size, or a
            goal outside the room's box of flight or inside an obstacle.
    """
    observation = observation_vector(
        observation, OBSERVATION_DIM, f": position 3, velocity 3, goal 3, obstacles {MAX_OBSTACLES} x {OBSTACLE_DIM}"
    )
    obstacles = observation[9:].reshape(MAX_OBSTACLES, OBSTACLE_DIM)
    check_problem(observation[6:9], obstacles, FLIGHT_LOW, FLIGHT_HIGH, (ABSENT, BOX, PILLAR))


def goal_reached(observation: np.ndarray) -> bool:
    """Return whether the quadrotor is within ``GOAL_RADIUS`` of the goal."""
    return bool(np.linalg.norm(observation[:3] - observation[6:9]) <= GOAL_RADIUS)


def commands(plan: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Return the velocities of all rows (H, 3) [m/s] of a plan (H, 9) made from an observation (57,).

    A row's command is its velocity, and ahead of it by its acceleration. The frame is that of ``task.make_frame``.
    """
    offset = observation[6:9] - np.asarray(observation[:3], np.float64)
    length = max(float(np.linalg.norm(offset)), NEAREST)
    unit = min(np.sqrt(2 * ACCELERATION * length), SPEED)  # of velocity [m/s]
    wanted = (plan[:, 3:6] * unit + plan[:, 6:] * LEAD) @ axes_toward(offset)
    return wanted.clip(-LARGEST, LARGEST)


def control_spec() -> ControlSpec:
    """Return the control interface of the quadrotor."""
    center = (FLIGHT_LOW + FLIGHT_HIGH) / 2
    largest = np.full(3, LARGEST)
    return ControlSpec(
        name=NAME,
        observation_dim=OBSERVATION_DIM,
        state_dim=6,
        action_dim=3,
        horizon=HORIZON,
        control_dt=CONTROL_DT,
        validate_observation=validate_observation,
        goal_reached=goal_reached,
        limits=Limits(-largest, largest),
        commands=commands,
        rest=np.zeros(3),
        dwell_steps=DWELL_STEPS,
        layout=f"position 3 [m], velocity 3 [m/s], goal 3 [m], then {MAX_OBSTACLES} obstacles of 8 numbers each: kind "
        "(0 absent, 2 box, 3 pillar), center 3 [m], half extents 3 [m] (of a pillar the first is its radius), yaw "
        "[rad]; all in the room's frame",
        named=(
            Field("position", (3,), "m"),
            Field("velocity", (3,), "m/s"),
            Field("goal", (3,), "m"),
            *obstacle_fields(MAX_OBSTACLES),
        ),
        example=np.concatenate((FLIGHT_LOW, np.zeros(3), center, np.zeros(MAX_OBSTACLES * OBSTACLE_DIM))),
    )
