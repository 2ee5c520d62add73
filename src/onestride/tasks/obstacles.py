"""Obstacles as rows of numbers, and scenes of moves past them: a start, a goal and static obstacles. NumPy alone.

An obstacle is one row of eight numbers, so that a scene is a plain array everywhere:
``[kind, cx, cy, cz, hx, hy, hz, yaw]`` with kind 0 absent, 1 sphere (hx is the radius), 2 box (half extents, turned by
yaw [rad] about z) or 3 pillar (a vertical cylinder from floor to ceiling: hx is the radius, hz half the height).
Lengths are in metres, z is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

OBSTACLE_DIM = 8
ABSENT, SPHERE, BOX, PILLAR = 0.0, 1.0, 2.0, 3.0
FAR = 1.0  # distances are clipped to this, because farther obstacles do not matter [m]


@dataclass(frozen=True)
class Scene:
    """One problem: move from a start to a goal past obstacles.

    Attributes:
        start: (3,) [m].
        goal: (3,) [m].
        obstacles: (K, 8), with K = ``max_obstacles``.

    Raises:
        ValueError: an array has another shape, or a number that is not finite.
    """

    max_obstacles: ClassVar[int]

    start: np.ndarray
    goal: np.ndarray
    obstacles: np.ndarray

    def __post_init__(self) -> None:
        shapes = (("start", (3,)), ("goal", (3,)), ("obstacles", (self.max_obstacles, OBSTACLE_DIM)))
        for name, shape in shapes:
            value = getattr(self, name)
            if value.shape != shape:
                raise ValueError(f"scene.{name} has shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"scene.{name} holds a non-finite number; check where the scene came from")


def distance(point: np.ndarray, obstacles: np.ndarray) -> float:
    """Return the signed distance from a point (3,) to the nearest surface of obstacles (K, 8) [m].

    It is negative inside and at most ``FAR``. A pillar's is that of a cylinder where the point is between its ends.
    ``distance.py`` computes it for many points at once.
    """
    nearest = FAR
    for kind, *numbers in obstacles:
        offset, half, yaw = point - numbers[:3], np.array(numbers[3:6]), numbers[6]
        if kind == SPHERE:
            nearest = min(nearest, float(np.linalg.norm(offset)) - half[0])
        elif kind == PILLAR:
            beyond = max(abs(float(offset[2])) - half[2], 0.0)
            nearest = min(nearest, float(np.hypot(np.hypot(offset[0], offset[1]), beyond)) - half[0])
        elif kind == BOX:
            cos, sin = np.cos(yaw), np.sin(yaw)
            beyond = np.abs(np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ offset) - half
            nearest = min(nearest, float(np.linalg.norm(beyond.clip(min=0)) + min(beyond.max(), 0.0)))
    return float(nearest)
