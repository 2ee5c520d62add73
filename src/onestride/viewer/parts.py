"""What a scene is drawn of, as data: shapes with a place. ``server.py`` draws them, and nothing else needs viser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onestride.tasks.obstacles import ABSENT, BOX, OBSTACLE_DIM, SPHERE

#: Names and sizes of shapes. box: full width along x, y, z; sphere: radius; cylinder and capsule: radius and height
#: along z, a capsule's without its round ends.
Shape = Literal["box", "sphere", "cylinder", "capsule"]
Colour = tuple[int, int, int]

OBSTACLE: Colour = (232, 126, 60)
GOAL: Colour = (38, 166, 91)
ROBOT: Colour = (200, 204, 212)
JOINT: Colour = (58, 64, 74)
FLOOR: Colour = (236, 239, 243)
WALL: Colour = (150, 160, 175)

#: Candidates from the worst to the best score, and the chosen plan.
WORST, BEST, CHOSEN = np.array([205, 212, 222]), np.array([20, 96, 200]), np.array([214, 30, 90])


@dataclass(frozen=True)
class Part:
    """A shape in a scene.

    Attributes:
        name: unique in its scene. A part of a later picture with this name and shape is the same, moved.
        shape: see ``Shape``.
        size: see ``Shape`` [m].
        colour: red, green, blue, 0 to 255.
        position: (3,) [m].
        wxyz: quaternion (4,).
        opacity: 1 is solid.
        handle: name of the thing that is moved when this part is dragged; "": it cannot be.
    """

    name: str
    shape: Shape
    size: tuple[float, ...]
    colour: Colour
    position: np.ndarray
    wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    opacity: float = 1.0
    handle: str = ""


def about_z(angle: float) -> tuple[float, float, float, float]:
    """Return the quaternion of a turn about z [rad]."""
    return float(np.cos(angle / 2)), 0.0, 0.0, float(np.sin(angle / 2))


def obstacle_parts(obstacles: np.ndarray) -> list[Part]:
    """Return the parts of obstacles (K, 8) that are not absent; ``obstacle0`` ... can be dragged."""
    made = []
    for number, (kind, *numbers) in enumerate(obstacles.reshape(-1, OBSTACLE_DIM).tolist()):
        name, centre, half = f"obstacle{number}", np.array(numbers[:3]), numbers[3:6]
        if kind == ABSENT:
            continue
        if kind == SPHERE:
            made.append(Part(name, "sphere", (half[0],), OBSTACLE, centre, handle=name))
        elif kind == BOX:
            size, turned = tuple(2 * each for each in half), about_z(numbers[6])
            made.append(Part(name, "box", size, OBSTACLE, centre, turned, handle=name))
        else:
            made.append(Part(name, "cylinder", (half[0], 2 * half[2]), OBSTACLE, centre, handle=name))
    return made


def score_colours(scores: np.ndarray) -> np.ndarray:
    """Return the colours (N, 3) uint8 of candidates by the rank of their scores (N,), from ``WORST`` to ``BEST``.

    Those that are not finite are the worst.
    """
    order = np.argsort(np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable"), kind="stable")
    share = (order / max(len(scores) - 1, 1))[:, None] ** 2  # the few best stand out
    return (WORST + share * (BEST - WORST)).round().astype(np.uint8)


def segments(paths: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the line segments (S, 2, 3) of paths (N, H, 3), and the colours of their ends (S, 2, 3).

    Points that are not finite are left away.

    Args:
        paths: positions [m].
        colours: of the paths (N, 3).
    """
    lines = np.stack((paths[:, :-1], paths[:, 1:]), 2)  # (N, H - 1, 2, 3)
    painted = np.broadcast_to(colours[:, None, None], lines.shape)
    kept = np.isfinite(lines).all((2, 3))
    return lines[kept].astype(np.float32), painted[kept].astype(np.uint8)


def capsule(radius: float, height: float, around: int = 20, rings: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and triangles (F, 3) of a capsule about z, its middle at the origin.

    Args:
        radius: [m].
        height: without its round ends [m].
        around: vertices of a circle.
        rings: circles of each round end.
    """
    rise = np.linspace(0, np.pi / 2, rings)
    upper = [(radius * np.cos(a), height / 2 + radius * np.sin(a)) for a in rise]
    profile: Sequence[tuple[float, float]] = [(r, -z) for r, z in reversed(upper)] + upper  # (radius, z), upwards
    angle = np.arange(around) * (2 * np.pi / around)
    vertices = np.array([(r * np.cos(a), r * np.sin(a), z) for r, z in profile for a in angle])
    corner = np.arange((len(profile) - 1) * around).reshape(-1, around)
    beside = np.roll(corner, -1, 1)
    lower = np.stack((corner, beside, beside + around), -1), np.stack((corner, beside + around, corner + around), -1)
    return vertices.astype(np.float32), np.concatenate([each.reshape(-1, 3) for each in lower]).astype(np.uint32)
