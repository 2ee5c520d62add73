"""Obstacles as rows of numbers, and scenes of moves past them: a start, a goal and static obstacles. NumPy alone.

An obstacle is one row of eight numbers, so that a scene is a plain array everywhere:
``[kind, cx, cy, cz, hx, hy, hz, yaw]`` with kind 0 absent, 1 sphere (hx is the radius), 2 box (half extents, turned by
yaw [rad] about z) or 3 pillar (a vertical cylinder from floor to ceiling: hx is the radius, hz half the height).
Lengths are in metres, z is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import Field

OBSTACLE_DIM = 8
ABSENT, SPHERE, BOX, PILLAR = 0.0, 1.0, 2.0, 3.0
#: What the kinds are, and how many of the three sizes each one has.
KINDS = {
    ABSENT: ("absent", 0), SPHERE: ("a sphere, its radius first", 1), BOX: ("a box", 3),
    PILLAR: ("a pillar, its radius first and half its height last", 3),
}  # fmt: skip
FAR = 1.0  # distances are clipped to this, because farther obstacles do not matter [m]


def obstacle_fields(count: int) -> tuple[Field, ...]:
    """Return the names and units of ``count`` obstacles' numbers."""
    parts = (("kind", (), ""), ("center", (3,), "m"), ("half_extents", (3,), "m"), ("yaw", (), "rad"))
    return tuple(Field(f"obstacle{i}_{name}", shape, unit) for i in range(count) for name, shape, unit in parts)


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


def check_problem(
    goal: np.ndarray, obstacles: np.ndarray, low: np.ndarray, high: np.ndarray, kinds: Sequence[float]
) -> None:
    """Raise ObservationError for a goal or obstacles that cannot be acted on.

    Args:
        goal: (3,) [m].
        obstacles: (K, 8).
        low: smallest goal (3,) [m].
        high: largest goal (3,) [m].
        kinds: of obstacles that there may be, ``ABSENT`` among them.

    Raises:
        ObservationError: the goal lies outside the workspace or inside an obstacle, or an obstacle is of another kind
            or without size.
    """
    if (goal < low).any() or (goal > high).any():
        raise ObservationError(
            f"the goal {np.round(goal, 3).tolist()} m is outside the workspace "
            f"{low.tolist()} .. {high.tolist()} m; choose one inside"
        )
    for number, (kind, *_, x, y, z, _) in enumerate(obstacles.tolist()):
        if kind not in kinds or any(size <= 0 for size in (x, y, z)[: KINDS[kind][1]]):
            *most, last = (f"{each:g} ({KINDS[each][0]})" for each in kinds)
            raise ObservationError(
                f"obstacle {number} has kind {kind:g} and half extents {[x, y, z]} m; expected kind "
                f"{', '.join(most)} or {last}, and sizes above 0"
            )
    depth = distance(goal, obstacles)
    if depth <= 0:
        raise ObservationError(
            f"the goal {np.round(goal, 3).tolist()} m lies {-1000 * depth:.0f} mm inside an obstacle; "
            "move the goal or correct the obstacle"
        )
