"""Scenes of the arm task: a start, a goal and 1 to 4 static obstacles, with the workspace and the arm's speed limits.

Everything is in the robot's base frame, in metres, with z up. The base stands on the table plane z = 0.

An obstacle is one row of eight numbers, so that a scene is a plain array everywhere:
``[kind, cx, cy, cz, hx, hy, hz, yaw]`` with kind 0 absent, 1 sphere (hx is the radius) or 2 box (half extents, turned
by yaw [rad] about z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_OBSTACLES = 4
OBSTACLE_DIM = 8
ABSENT, SPHERE, BOX = 0.0, 1.0, 2.0
FAR = 1.0  # distances are clipped to this, because farther obstacles do not matter [m]

#: The box of starts, goals and planned paths [m]: reachable with the tool down, and without singularities of the arm.
WORKSPACE_LOW = np.array([0.28, -0.32, 0.06])
WORKSPACE_HIGH = np.array([0.57, 0.32, 0.32])
#: The end-effector's control period and limits, in the data and in the task.
CONTROL_DT = 0.05  # [s]
SPEED = 0.4  # [m/s]
ACCELERATION = 1.5  # [m/s^2], along the path and across it


@dataclass(frozen=True)
class Scene:
    """One problem: move the end-effector from a start to a goal past obstacles.

    Attributes:
        start: (3,) [m].
        goal: (3,) [m].
        obstacles: (4, 8).

    Raises:
        ValueError: an array has another shape, or a number that is not finite.
    """

    start: np.ndarray
    goal: np.ndarray
    obstacles: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in (("start", (3,)), ("goal", (3,)), ("obstacles", (MAX_OBSTACLES, OBSTACLE_DIM))):
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"scene.{name} has shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"scene.{name} holds a non-finite number; check where the scene came from")


def distance(point: np.ndarray, obstacles: np.ndarray) -> float:
    """Return the signed distance from a point (3,) to the nearest surface of obstacles (K, 8) [m].

    It is negative inside and at most ``FAR``. ``distance.py`` computes it for many points at once.
    """
    nearest = FAR
    for kind, *numbers in obstacles:
        offset, half, yaw = point - numbers[:3], np.array(numbers[3:6]), numbers[6]
        if kind == SPHERE:
            nearest = min(nearest, float(np.linalg.norm(offset)) - half[0])
        elif kind == BOX:
            cos, sin = np.cos(yaw), np.sin(yaw)
            beyond = np.abs(np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ offset) - half
            nearest = min(nearest, float(np.linalg.norm(beyond.clip(min=0)) + min(beyond.max(), 0.0)))
    return float(nearest)
