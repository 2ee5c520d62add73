"""The arm's body as a function of where its hand is, and its clearance filter.

Observations hold the hand's position and no joint angles. In this task they need none: the tool points down, joint 3
stays at pi, and the arm lies in a vertical plane, so that the inverse kinematics has one answer, in closed form. It
includes the millimetres by which the links lie beside the plane.
"""

from __future__ import annotations

import numpy as np

from onestride.clearance.filter import ClearanceFilter
from onestride.clearance.motions import NumpyMotions, PositionLimits
from onestride.clearance.native import Arm, ArmMotions, Choice, chosen
from onestride.clearance.positions import PositionReference
from onestride.tasks.kinova.control_spec import MAX_STEP, REACH_MARGIN
from onestride.tasks.kinova.links import (
    BASE_HEIGHT,
    FOREARM,
    LINKS,
    SHOULDER_HEIGHT,
    TOOL_OFFSET,
    TOOL_RADIUS,
    UPPER_ARM,
    VELOCITY_LIMITS,
    WRIST_HEIGHT,
)
from onestride.tasks.kinova.scene import CONTROL_DT, MAX_OBSTACLES, WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import OBSTACLE_DIM

#: The largest change of the hand's velocity, and the braking along its path [m/s^2].
ACCELERATION_LIMIT, DECELERATION = 4.0, 3.0
#: How far the ends of the capsules are from where the reference has them, at most (8,) [m]: what
#: ``results/clearance/tracking.json`` has measured, and a third more.
TRACKING = 1e-3 * np.array([0.5, 4.0, 7.5, 9.0, 10.5, 10.5, 10.0, 10.0])
TABLE = np.array([[0.0, 0.0, 1.0, 0.0]])

#: The capsules, from the shoulder to the tool: their radii (8,) [m].
RADII = np.array([*(link.radius for link in LINKS), TOOL_RADIUS])
#: Which of the points of ``_points`` are the two ends of each capsule (8, 2).
_ENDS = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 8), (9, 10)])

_y, _z = ([link.offset[axis] for link in LINKS] for axis in (1, 2))
#: How far the shoulder, the upper arm's middle, the elbow, the forearm's end, the wrist and the hand lie to the left of
#: the vertical plane through the base's axis (6,) [m].
_BESIDE = np.cumsum((-_y[1], _z[2], _y[3], -_z[4], _y[5], -_z[6]))
_HAND = _BESIDE[5]
_LEFT = np.array([0.0, *_BESIDE[:5], *[_HAND] * 5])  # of the points of ``_points`` (11,) [m]
_WRIST = -_y[6]  # to the bracelet [m]
#: How far below the wrist wrist_2 ends, the bracelet's capsule begins and ends, and the tool's begins and ends [m].
_BELOW = _WRIST + np.array([-LINKS[5].radius, 0.0, 0.005, 0.02, -TOOL_OFFSET[2] - TOOL_RADIUS])
_SHARE = -_y[4] / FOREARM  # of the forearm before the first joint of the wrist
_SPEEDS = VELOCITY_LIMITS[[0, 1, 3, 5]]  # of the joints that move [rad/s]


def _planar(hand: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the arm's plane and joints for positions of the hand (..., 3).

    Returns:
        x and y of the plane's direction away from the base, the hand's distance from the base's axis in it, its height
        [m], and the angles of the upper arm and of the forearm above the horizontal [rad]; (...) each.
    """
    x, y, z = hand[..., 0], hand[..., 1], hand[..., 2]
    square = np.maximum(x * x + y * y, 1e-6)
    away = np.sqrt(np.maximum(square - _HAND**2, 1e-6))
    outward = (away * x + _HAND * y) / square, (away * y - _HAND * x) / square
    height = z + (WRIST_HEIGHT - SHOULDER_HEIGHT)  # of the wrist above the shoulder
    distance = np.sqrt(away**2 + height**2)
    cosine = (distance**2 + (UPPER_ARM**2 - FOREARM**2)) / (2 * UPPER_ARM * distance)
    lift = np.arctan2(height, away) + np.arccos(np.clip(cosine, -1.0, 1.0))
    fall = np.arctan2(height - UPPER_ARM * np.sin(lift), away - UPPER_ARM * np.cos(lift))
    return *outward, away, z, lift, fall


def body(hand: np.ndarray) -> np.ndarray:
    """Return the ends of the arm's capsules (..., 8, 2, 3) [m] for positions of the hand (..., 3) [m]."""
    x, y, away, z, lift, fall = _planar(hand)
    points = np.empty((*away.shape, 11, 3))
    out, up = np.empty(points.shape[:-1]), np.empty(points.shape[:-1])  # within the plane
    elbow_out, elbow_up = UPPER_ARM * np.cos(lift), SHOULDER_HEIGHT + UPPER_ARM * np.sin(lift)
    out[..., :2], up[..., 0], up[..., 1] = 0.0, BASE_HEIGHT, SHOULDER_HEIGHT
    out[..., 2], up[..., 2] = elbow_out / 2, (SHOULDER_HEIGHT + elbow_up) / 2
    out[..., 3], up[..., 3] = elbow_out, elbow_up
    for point, share in ((4, _SHARE), (5, 1.0)):
        out[..., point] = elbow_out + share * FOREARM * np.cos(fall)
        up[..., point] = elbow_up + share * FOREARM * np.sin(fall)
    out[..., 6:], up[..., 6:] = away[..., None], (z + WRIST_HEIGHT)[..., None] - _BELOW
    points[..., 0] = out * x[..., None] - _LEFT * y[..., None]
    points[..., 1] = out * y[..., None] + _LEFT * x[..., None]
    points[..., 2] = up
    return points[..., _ENDS, :]


def seconds_between(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return how long the joints take from one position of the hand to another (...) [s], at their largest speeds."""
    x, y, _, _, lift, fall = _planar(np.stack((begin, end)))
    turn = np.abs(np.arctan2(x[0] * y[1] - y[0] * x[1], x[0] * x[1] + y[0] * y[1]))
    angles = np.stack((turn, np.abs(lift[1] - lift[0]), np.abs(np.diff(fall - lift, axis=0)[0]),
                       np.abs(fall[1] - fall[0])), -1)  # fmt: skip
    return (angles / _SPEEDS).max(-1)


#: The same for C.
ARM = Arm(
    UPPER_ARM, FOREARM, BASE_HEIGHT, SHOULDER_HEIGHT, WRIST_HEIGHT, tuple(_LEFT), tuple(_BELOW), _SHARE, tuple(_SPEEDS)
)


def clearance_filter(
    *, margin: float = 0.003, obstacle_speed: float = 0.0, max_age: float = 0.1, kernel: Choice = "auto"
) -> ClearanceFilter:
    """Return the arm's clearance filter.

    Args:
        margin: least distance of the arm from obstacles and the table, beside all errors [m].
        obstacle_speed: largest speed of any point of an obstacle [m/s].
        max_age: nothing is certified by an older observation [s].
        kernel: what computes: "native" (C, built by this machine's compiler), "numpy", or "auto": C where it can be.

    Raises:
        NativeError: "native", and C cannot be built here.
    """
    low, high = WORKSPACE_LOW - REACH_MARGIN, WORKSPACE_HIGH + REACH_MARGIN
    limits = PositionLimits(low, high, MAX_STEP / CONTROL_DT, ACCELERATION_LIMIT, DECELERATION, CONTROL_DT)
    native = chosen(kernel)
    motions = ArmMotions(native, ARM, limits) if native else NumpyMotions(body, seconds_between, limits)
    reference = PositionReference(motions, RADII + TRACKING + margin, float(TRACKING[-1]), limits)
    return ClearanceFilter(
        reference, obstacles_of, TABLE, obstacle_speed=obstacle_speed, max_age=max_age, kernel=native
    )


def obstacles_of(observation: np.ndarray) -> np.ndarray:
    """Return the obstacles (4, 8) of an observation (41,)."""
    return observation[9:].reshape(MAX_OBSTACLES, OBSTACLE_DIM)
