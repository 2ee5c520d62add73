"""The planner of the quadrotor's data: its scenes, limits and margins. ``tasks/bspline.py`` plans."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onestride.tasks import bspline
from onestride.tasks.bspline import Path, PathLimits, Problems, Space
from onestride.tasks.distance import distance_of_coordinates
from onestride.tasks.obstacles import ABSENT, BOX, PILLAR
from onestride.tasks.quadrotor.scene import (
    ACCELERATION,
    BODY_RADIUS,
    CONTROL_DT,
    FLIGHT_HIGH,
    FLIGHT_LOW,
    MAX_OBSTACLES,
    ROOM_HIGH,
    SPEED,
)

#: Increased whenever the same seed would give other data.
VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class BSplineConfig(PathLimits):
    """Limits and margins of the planner, and what its scenes are like.

    Attributes:
        clearance: least distance of the quadrotor's centre from an obstacle's surface [m].
        crossing: fraction of scenes from one end of the room to the other.
        moving_start: fraction of scenes that start in motion.
        short_move: fraction of scenes with a near goal, because the last decimetres need data too.
    """

    control_dt: float = CONTROL_DT
    speed: float = SPEED
    acceleration: float = ACCELERATION
    comfort: float = 0.04
    iterations: int = 60
    detour: float = 1.3
    clearance: float = BODY_RADIUS + 0.08
    crossing: float = 0.7
    moving_start: float = 0.5
    short_move: float = 0.25


def space(config: BSplineConfig) -> Space:
    """Return where the quadrotor's paths may lie, and how they are looked for."""
    return Space(
        low=torch.tensor(FLIGHT_LOW),
        high=torch.tensor(FLIGHT_HIGH),
        clearances=lambda points, obstacles: (clearance(points, obstacles),),
        margins=(config.clearance,),
        bend=0.5,
        tangent=0.25,
        apart=0.15,
        step=0.03,
        samples=36,
        fine=160,
    )


def plan(problems: Problems, config: BSplineConfig) -> list[Path]:
    """Return the clear paths of all scenes; see ``tasks/bspline.py``."""
    return bspline.plan(problems, config, space(config))


def clearance(points: Tensor, obstacles: Tensor) -> Tensor:
    """Return the distance of positions (S, T, 3) from the surfaces of obstacles (S, K, 8), as (S, T) [m]."""
    return distance_of_coordinates(points.transpose(1, 2), obstacles)


def sample_problems(n: int, config: BSplineConfig, rng: torch.Generator) -> Problems:
    """Return ``n`` random scenes. The first two obstacles usually stand in the way."""
    low, high = torch.tensor(FLIGHT_LOW).float(), torch.tensor(FLIGHT_HIGH).float()

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    def directions() -> Tensor:
        return torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=-1)

    start = low + (high - low) * uniform(n, 3)
    goal = low + (high - low) * uniform(n, 3)
    # Long moves go from one end of the room to the other.
    crossing = (uniform(n) < config.crossing) & ((goal[:, 0] - start[:, 0]).abs() < 1.6)
    goal[:, 0] = torch.where(crossing, -torch.sign(start[:, 0]) * (0.8 + 0.9 * uniform(n)), goal[:, 0])
    near = start + directions() * (0.9 * uniform(n, 1).square() + 0.01)
    short = uniform(n, 1) < config.short_move
    goal = torch.where(short, torch.minimum(torch.maximum(near, low), high), goal)
    moving = uniform(n, 1) < config.moving_start
    velocity = directions() * config.speed * uniform(n, 1) * moving
    return Problems(start, velocity, goal, _sample_obstacles(start, goal, ~short, rng))


def _sample_obstacles(start: Tensor, goal: Tensor, may_block: Tensor, rng: torch.Generator) -> Tensor:
    n, k = len(start), MAX_OBSTACLES

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, k, generator=rng)

    count = torch.randint(2, k + 1, (n, 1), generator=rng)
    present = torch.arange(k).expand(n, k) < count
    box = torch.rand(n, k, generator=rng) < 0.4
    # Across the line: somewhere in the middle part of start -> goal. Elsewhere: anywhere in the room.
    along = uniform(0.25, 0.75)[..., None]
    across = start[:, None] + along * (goal - start)[:, None] + 0.12 * torch.randn(n, k, 3, generator=rng)
    low, high = torch.tensor(FLIGHT_LOW).float(), torch.tensor(FLIGHT_HIGH).float()
    anywhere = low + (high - low) * torch.rand(n, k, 3, generator=rng)
    blocking = (torch.arange(k).expand(n, k) < 2) & may_block & (torch.rand(n, k, generator=rng) < 0.6)
    center = torch.where(blocking[..., None], across, anywhere)
    radius, height = uniform(0.06, 0.16), torch.full((n, k), float(ROOM_HIGH[2]) / 2)
    half = torch.stack((uniform(0.08, 0.22), uniform(0.08, 0.22), uniform(0.2, 0.7)), -1)
    half = torch.where(box[..., None], half, torch.stack((radius, radius, height), -1))
    # Boxes stand on the floor, pillars reach from there to the ceiling.
    kind = torch.where(present, torch.where(box, BOX, PILLAR), ABSENT)
    yaw = torch.where(box, uniform(0.0, torch.pi), torch.zeros(n, k))
    rows = torch.stack((kind, center[..., 0], center[..., 1], half[..., 2], *half.unbind(-1), yaw), -1)
    return rows * present[..., None]
