"""Scenes of the arm task: a start, a goal and 1-4 static obstacles, and the distance to them.

Everything is in the robot's base frame, metres, z up; the base stands on the table plane z = 0.

An obstacle is one row of eight numbers, so that a scene is a plain array on every side of the house:
``[kind, cx, cy, cz, hx, hy, hz, yaw]`` with kind 0 absent, 1 sphere (hx is the radius), 2 box
(half extents, turned by yaw [rad] about z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MAX_OBSTACLES = 4
OBSTACLE_DIM = 8
ABSENT, SPHERE, BOX = 0.0, 1.0, 2.0
FAR = 1.0  # distances are cut here [m]: farther obstacles do not matter

#: Where starts and goals lie and planned paths stay [m]: reachable tool down, clear of the arm's singular rim.
WORKSPACE_LOW = np.array([0.28, -0.32, 0.06])
WORKSPACE_HIGH = np.array([0.57, 0.32, 0.32])


@dataclass(frozen=True)
class Scene:
    """One problem: move the end-effector from ``start`` (3,) to ``goal`` (3,) [m] past ``obstacles`` (4, 8)."""

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


def signed_distance(points: Tensor, obstacles: Tensor) -> Tensor:
    """Distance [m] from points to the nearest obstacle surface, negative inside, at most ``FAR``.

    points ``(B, P, 3)``, obstacles ``(B, K, 8)`` -> ``(B, P)``, or both without B.
    """
    if points.dim() == 2:
        return signed_distance(points[None], obstacles[None])[0]
    return distance_of_coordinates(points.transpose(1, 2), obstacles)


def distance_of_coordinates(points: Tensor, obstacles: Tensor) -> Tensor:
    """``signed_distance`` of points as ``(B, 3, P)``.

    A sphere is a box of no extent, rounded by its radius: one formula serves both. All obstacles' local
    coordinates come from one matrix product and points stay the last axis throughout, which is ten times
    faster on a CPU than trailing axes of three and four: this runs inside every decision.
    """
    kind, cx, cy, cz, hx, hy, hz, yaw = obstacles.unbind(-1)  # each (B, K)
    k = kind.shape[-1]
    is_box = kind == BOX
    cos, sin, zero = yaw.cos(), yaw.sin(), torch.zeros_like(yaw)
    # Rows: every obstacle's local x, then every y, then every z. (B, 3K, 3)
    turn = torch.stack(
        (torch.cat((cos, -sin, zero), -1), torch.cat((sin, cos, zero), -1), torch.cat((zero, zero, zero + 1), -1)), -1
    )
    center = torch.cat((cos * cx + sin * cy, cos * cy - sin * cx, cz), -1)  # (B, 3K)
    half = torch.cat((hx, hy, hz), -1) * is_box.repeat(1, 3)
    q = torch.baddbmm(-center[..., None], turn, points).abs() - half[..., None]  # (B, 3K, P)
    x, y, z = q.clamp(min=0).square().split(k, 1)  # (B, K, P) each
    inside = torch.maximum(torch.maximum(q[:, :k], q[:, k : 2 * k]), q[:, 2 * k :]).clamp(max=0)
    rounding = torch.where(kind == SPHERE, hx, torch.where(kind == ABSENT, -10.0 * FAR, 0.0))
    distance = (x + y + z + 1e-12).sqrt() + inside - rounding[..., None]  # (B, K, P)
    return distance.amin(1).clamp(max=FAR)
