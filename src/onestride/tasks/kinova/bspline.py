"""The planner of the arm's data: its scenes, limits and margins. ``tasks/bspline.py`` plans."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onestride.tasks import bspline
from onestride.tasks.bspline import Path, PathLimits, Problems, Space
from onestride.tasks.distance import distance_of_coordinates
from onestride.tasks.kinova.arm import BODY_RADII, body_coordinates
from onestride.tasks.kinova.scene import ACCELERATION, CONTROL_DT, MAX_OBSTACLES, SPEED, WORKSPACE_HIGH, WORKSPACE_LOW
from onestride.tasks.obstacles import ABSENT, BOX, SPHERE

#: Increased whenever the same seed would give other data.
VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class BSplineConfig(PathLimits):
    """Limits and margins of the planner, and what its scenes are like.

    Attributes:
        clearance: least distance of the end-effector from an obstacle's surface [m].
        body_clearance: least distance of the arm's body from an obstacle's surface [m].
        crossing: fraction of scenes from one side of the table to the other.
        moving_start: fraction of scenes that start in motion.
        short_move: fraction of scenes with a near goal, because the last centimetres need data too.
    """

    control_dt: float = CONTROL_DT
    speed: float = SPEED
    acceleration: float = ACCELERATION
    comfort: float = 0.015
    clearance: float = 0.05
    body_clearance: float = 0.02
    crossing: float = 0.7
    moving_start: float = 0.5
    short_move: float = 0.25


def space(config: BSplineConfig) -> Space:
    """Return where the arm's paths may lie, and how they are looked for."""
    return Space(
        low=torch.tensor(WORKSPACE_LOW),
        high=torch.tensor(WORKSPACE_HIGH),
        clearances=clearances,
        margins=(config.clearance, config.body_clearance),
        bend=0.16,
        tangent=0.12,
        apart=0.02,
        step=0.012,
    )


def plan(problems: Problems, config: BSplineConfig) -> list[Path]:
    """Return the clear paths of all scenes; see ``tasks/bspline.py``."""
    return bspline.plan(problems, config, space(config))


def feasible_ends(problems: Problems, config: BSplineConfig) -> Tensor:
    """Return which scenes have both ends clear of all obstacles, for the whole arm (S,), bool."""
    return bspline.feasible_ends(problems, config, space(config))


def sample_problems(n: int, config: BSplineConfig, rng: torch.Generator) -> Problems:
    """Return ``n`` random scenes. The first obstacle usually blocks the straight line."""
    low, high = torch.tensor(WORKSPACE_LOW).float(), torch.tensor(WORKSPACE_HIGH).float()

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    start = low + (high - low) * uniform(n, 3)
    goal = low + (high - low) * uniform(n, 3)
    # Long moves go from one side of the table to the other.
    crossing = (uniform(n) < config.crossing) & ((goal[:, 1] - start[:, 1]).abs() < 0.3)
    goal[:, 1] = torch.where(crossing, -torch.sign(start[:, 1]) * (0.15 + 0.2 * uniform(n)), goal[:, 1])
    direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    distance = 0.2 * uniform(n, 1).square() + 0.002
    near = torch.minimum(torch.maximum(start + direction * distance, low), high)
    short = uniform(n, 1) < config.short_move
    goal = torch.where(short, near, goal)

    heading = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)
    moving = uniform(n, 1) < config.moving_start
    velocity = heading * config.speed * uniform(n, 1) * moving
    return Problems(start, velocity, goal, _sample_obstacles(start, goal, ~short, rng))


def _sample_obstacles(start: Tensor, goal: Tensor, may_block: Tensor, rng: torch.Generator) -> Tensor:
    n, k = len(start), MAX_OBSTACLES

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, k, generator=rng)

    count = torch.randint(1, k + 1, (n, 1), generator=rng)
    present = torch.arange(k).expand(n, k) < count
    box = torch.rand(n, k, generator=rng) < 0.5
    # Across the line: somewhere in the middle part of start -> goal. Elsewhere: anywhere in the workspace.
    along = uniform(0.3, 0.7)[..., None]
    across = start[:, None] + along * (goal - start)[:, None] + 0.03 * torch.randn(n, k, 3, generator=rng)
    low, high = torch.tensor(WORKSPACE_LOW).float(), torch.tensor(WORKSPACE_HIGH).float()
    anywhere = low + (high - low) * torch.rand(n, k, 3, generator=rng)
    blocking = (torch.arange(k).expand(n, k) == 0) & may_block & (torch.rand(n, 1, generator=rng) < 0.85)
    center = torch.where(blocking[..., None], across, anywhere)
    radius = uniform(0.025, 0.065)
    half = torch.stack((uniform(0.02, 0.06), uniform(0.02, 0.06), uniform(0.04, 0.14)), -1)
    half = torch.where(box[..., None], half, radius[..., None].expand(n, k, 3))
    # Boxes stand on the table; spheres hang where they were put, but not through the table.
    z = torch.where(box, half[..., 2], torch.maximum(center[..., 2], radius))
    kind = torch.where(present, torch.where(box, BOX, SPHERE), ABSENT)
    yaw = torch.where(box, uniform(0.0, torch.pi), torch.zeros(n, k))
    rows = torch.stack((kind, center[..., 0], center[..., 1], z, *half.unbind(-1), yaw), -1)
    return rows * present[..., None]


def clearances(tip: Tensor, obstacles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clearances of the tip and of the arm's body, both (S, T) [m], for tip positions (S, T, 3)."""
    points = torch.stack([axis.flatten(1) for axis in body_coordinates(tip)], 1)  # (S, 3, T P)
    distance = distance_of_coordinates(points, obstacles).view(*tip.shape[:2], len(BODY_RADII))  # (S, T, P)
    return distance[..., 0], (distance - BODY_RADII.to(distance)).amin(-1)
