"""The quadrotor's clearance filter. Its body is a sphere around the airframe."""

from __future__ import annotations

import numpy as np

from onestride.clearance.filter import ClearanceFilter
from onestride.clearance.native import Choice, chosen
from onestride.clearance.velocities import VelocityLimits, VelocityReference
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.quadrotor.scene import (
    ACCELERATION,
    BODY_RADIUS,
    CONTROL_DT,
    MAX_OBSTACLES,
    RESPONSE,
    ROOM_HIGH,
    ROOM_LOW,
    SPEED,
)

#: The hull is a flat cylinder of ``BODY_RADIUS``, half as high as this [m]; the sphere goes around its edge.
HULL_HEIGHT = 0.03
RADIUS = float(np.hypot(BODY_RADIUS, HULL_HEIGHT / 2))
#: The room's four walls, floor and ceiling (6, 4).
ROOM = np.concatenate((np.hstack((np.eye(3), ROOM_LOW[:, None])), np.hstack((-np.eye(3), -ROOM_HIGH[:, None]))))
#: What the filter lets through: a little faster than the data, and with half as much acceleration again.
LIMITS = VelocityLimits(
    speed=1.1 * SPEED,
    acceleration=1.5 * ACCELERATION,
    deceleration=ACCELERATION,
    response=RESPONSE,
    control_dt=CONTROL_DT,
    # What ``results/clearance/tracking.json`` has measured, and a third more.
    reaction=0.08,
    tracking=0.054,
)


def clearance_filter(
    *, margin: float = 0.005, obstacle_speed: float = 0.0, max_age: float = 0.05, limits: VelocityLimits = LIMITS,
    kernel: Choice = "auto",
) -> ClearanceFilter:  # fmt: skip
    """Return the quadrotor's clearance filter.

    Args:
        margin: least distance of the airframe from obstacles and the room, beside all errors [m].
        obstacle_speed: largest speed of any point of an obstacle [m/s].
        max_age: nothing is certified by an older observation [s].
        limits: what the filter lets through, and how far the robot is from it then.
        kernel: what computes distances: "native" (C, built by this machine's compiler), "numpy", or "auto": C where it
            can be.

    Raises:
        NativeError: "native", and C cannot be built here.
    """
    reference = VelocityReference(RADIUS + margin, limits)
    return ClearanceFilter(
        reference, obstacles_of, ROOM, obstacle_speed=obstacle_speed, max_age=max_age, kernel=chosen(kernel)
    )


def obstacles_of(observation: np.ndarray) -> np.ndarray:
    """Return the obstacles (6, 8) of an observation (57,)."""
    return observation[9:].reshape(MAX_OBSTACLES, OBSTACLE_DIM)
