"""The planner of the arm's data: many B-spline paths at once, past obstacles on every open side.

For each scene the straight path and three bent ones (left, right and over, seen from start to goal) are optimised
together. Those that stay clear are kept, so that a scene may have several solutions. A path then gets the fastest speed
profile within the limits of speed and acceleration, and is sampled at the control rate. Everything is batched torch on
the CPU, in metres and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from onestride.tasks.kinova.arm import BODY_RADII, body_coordinates
from onestride.tasks.kinova.distance import distance_of_coordinates
from onestride.tasks.kinova.scene import (
    ABSENT,
    ACCELERATION,
    BOX,
    CONTROL_DT,
    MAX_OBSTACLES,
    SPEED,
    SPHERE,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
)

#: Increased whenever the same seed would give other data.
VERSION = "1"

SIDES = ("direct", "left", "right", "over")
DIRECT = 0
AROUND = (1, 2, 3)
FINE = 64  # samples of a path's geometry


@dataclass(frozen=True)
class BSplineConfig:
    """Limits and margins of the planner.

    Attributes:
        control_dt: control period [s].
        speed: largest speed [m/s].
        acceleration: largest acceleration, along the path and across it [m/s^2].
        clearance: least distance of the end-effector from an obstacle's surface [m].
        body_clearance: least distance of the arm's body from an obstacle's surface [m].
        comfort: added to both in the optimisation [m].
        control_points: of a B-spline.
        iterations: of the optimisation.
        detour: a path is kept if it is at most this many times as long as the scene's shortest.
        crossing: fraction of scenes from one side of the table to the other.
        moving_start: fraction of scenes that start in motion.
        short_move: fraction of scenes with a near goal, because the last centimetres need data too.
    """

    control_dt: float = CONTROL_DT
    speed: float = SPEED
    acceleration: float = ACCELERATION
    clearance: float = 0.05
    body_clearance: float = 0.02
    comfort: float = 0.015
    control_points: int = 10
    iterations: int = 30
    detour: float = 1.4
    crossing: float = 0.7
    moving_start: float = 0.5
    short_move: float = 0.25


@dataclass(frozen=True)
class Problems:
    """S scenes. Their number is the length.

    Attributes:
        start: (S, 3) [m].
        velocity: at the start (S, 3) [m/s].
        goal: (S, 3) [m].
        obstacles: (S, K, 8), see ``scene.py``.
    """

    start: Tensor
    velocity: Tensor
    goal: Tensor
    obstacles: Tensor

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Tensor) -> Problems:
        """Return the scenes of these indices."""
        return Problems(self.start[index], self.velocity[index], self.goal[index], self.obstacles[index])


@dataclass(frozen=True)
class Path:
    """A path that was kept.

    Attributes:
        scene: index of its scene.
        side: index in ``SIDES``.
        positions: at the control rate (T+1, 3) [m].
    """

    scene: int
    side: int
    positions: np.ndarray


# ---------------------------------------------------------------- scenes


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


def feasible_ends(problems: Problems, config: BSplineConfig) -> Tensor:
    """Return which scenes have both ends clear of all obstacles, for the whole arm (S,), bool."""
    ok = torch.ones(len(problems), dtype=torch.bool)
    for end in (problems.start, problems.goal):
        tip, body = clearances(end[:, None], problems.obstacles)
        ok &= (tip[:, 0] > config.clearance + config.comfort) & (body[:, 0] > config.body_clearance + config.comfort)
    return ok


def clearances(tip: Tensor, obstacles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clearances of the tip and of the arm's body, both (S, T) [m], for tip positions (S, T, 3)."""
    points = torch.stack([axis.flatten(1) for axis in body_coordinates(tip)], 1)  # (S, 3, T P)
    distance = distance_of_coordinates(points, obstacles).view(*tip.shape[:2], len(BODY_RADII))  # (S, T, P)
    return distance[..., 0], (distance - BODY_RADII.to(distance)).amin(-1)


# ---------------------------------------------------------------- paths


def _basis(samples: int, control_points: int) -> Tensor:
    """Return the clamped cubic B-spline basis on [0, 1], (samples, control_points)."""
    knots = np.concatenate((np.zeros(3), np.linspace(0, 1, control_points - 2), np.ones(3)))
    return torch.from_numpy(BSpline.design_matrix(np.linspace(0, 1, samples), knots, 3).toarray()).float()


def plan(problems: Problems, config: BSplineConfig) -> list[Path]:
    """Return the clear paths of all scenes, sampled at the control rate. A scene may have none.

    Where the straight line is free it is the only solution. Elsewhere every side is tried, and all paths are solutions
    that are clear and not much longer than the shortest.
    """
    tip, body = clearances(_lines(problems, 24), problems.obstacles)
    free = (tip.amin(1) >= config.clearance) & (body.amin(1) >= config.body_clearance)
    straight = free.nonzero().squeeze(1)
    paths, clear = _try_sides(problems.take(straight), (DIRECT,), config)
    kept = [
        Path(int(straight[i]), DIRECT, p) for i, p in _timed(paths[:, 0], clear[:, 0], problems.take(straight), config)
    ]
    answered = torch.zeros(len(problems), dtype=torch.bool)
    answered[straight[clear[:, 0]]] = True

    blocked = (~answered).nonzero().squeeze(1)
    there = problems.take(blocked)
    paths, clear = _try_sides(there, AROUND, config)
    length = paths.diff(dim=2).norm(dim=-1).sum(-1)  # (S, sides)
    shortest = torch.where(clear, length, torch.inf).amin(1, keepdim=True)
    keep = clear & (length <= config.detour * shortest)
    keep &= ~_repeats(paths, keep)
    for column, side in enumerate(AROUND):
        timed = _timed(paths[:, column], keep[:, column], there, config)
        kept += [Path(int(blocked[i]), side, p) for i, p in timed]
    return sorted(kept, key=lambda path: (path.scene, path.side))


def _try_sides(problems: Problems, sides: tuple[int, ...], config: BSplineConfig) -> tuple[Tensor, Tensor]:
    """Return optimised paths (S, sides, FINE, 3), and whether each is clear (S, sides)."""
    s, n = len(problems), len(sides)
    each = problems.take(torch.arange(s).repeat_interleave(n))
    control = _optimise(_bent_lines(each, torch.tensor(sides).repeat(s), config), each, config)
    fine = _basis(FINE, config.control_points) @ control
    return fine.view(s, n, FINE, 3), _is_clear(fine, each.obstacles, config).view(s, n)


def _timed(paths: Tensor, keep: Tensor, problems: Problems, config: BSplineConfig) -> list[tuple[int, np.ndarray]]:
    """Return (row, positions (T+1, 3)) for the kept rows of paths (S, FINE, 3)."""
    rows = keep.nonzero().squeeze(1)
    timed = _time(paths[rows], problems.velocity[rows].norm(dim=-1), config)
    return [(i, p.numpy()) for i, p in zip(rows.tolist(), timed, strict=True)]


def _lines(problems: Problems, n: int) -> Tensor:
    """Return n points on the lines from start to goal (S, n, 3)."""
    u = torch.linspace(0, 1, n)[None, :, None]
    return problems.start[:, None] + u * (problems.goal - problems.start)[:, None]


def _bent_lines(problems: Problems, side: Tensor, config: BSplineConfig) -> Tensor:
    """Return first control points (S, n, 3): straight, or bent to one side by more than an obstacle's width."""
    n = config.control_points
    u = torch.linspace(0, 1, n)[None, :, None]
    _, left, up = direction_frame(problems.goal - problems.start)
    zero = torch.zeros_like(left)
    bend = torch.stack((zero, left, -left, up), 1)[torch.arange(len(side)), side]  # (S, 3)
    control = _lines(problems, n) + 0.16 * torch.sin(torch.pi * u) * bend[:, None]
    return _clamp_to_workspace(control)


def direction_frame(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors forward, left and up (..., 3) of a motion along a non-zero ``offset`` (..., 3).

    Left is horizontal. For a vertical motion it is the base's y axis.
    """
    forward = offset / torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
    x, y, z = forward.unbind(-1)
    vertical = x.square() + y.square() < 1e-6
    left = torch.stack((torch.where(vertical, -x * y, -y), torch.where(vertical, 1 - y * y, x), -y * z * vertical), -1)
    left = torch.nn.functional.normalize(left, dim=-1)
    return forward, left, torch.linalg.cross(forward, left)


def _clamp_to_workspace(points: Tensor) -> Tensor:
    low, high = torch.tensor(WORKSPACE_LOW).to(points), torch.tensor(WORKSPACE_HIGH).to(points)
    return torch.minimum(torch.maximum(points, low), high)


def _optimise(control: Tensor, problems: Problems, config: BSplineConfig) -> Tensor:
    """Return control points optimised by Adam: smooth, short, and clear of obstacles by the margins plus comfort."""
    basis = _basis(20, config.control_points)
    first, last = problems.start[:, None], problems.goal[:, None]
    # A start in motion fixes the first tangent: the second control point lies a little along the velocity.
    second = first + 0.12 * problems.velocity[:, None]
    free = control[:, 2:-1].clone().requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.012)
    for _ in range(config.iterations):
        points = torch.cat((first, second, free, last), 1)
        path = basis @ points
        tip, body = clearances(path, problems.obstacles)
        near = (config.clearance + config.comfort - tip).clamp(min=0).square().sum(1)
        near = near + (config.body_clearance + config.comfort - body).clamp(min=0).square().sum(1)
        bend = points.diff(n=2, dim=1).square().sum((1, 2))
        stretch = points.diff(dim=1).square().sum((1, 2))
        cost = 40.0 * near + 1.0 * bend + 0.3 * stretch
        (free.grad,) = torch.autograd.grad(cost.sum(), free)
        optimiser.step()
        with torch.no_grad():
            free.copy_(_clamp_to_workspace(free))
    return torch.cat((first, second, free.detach(), last), 1)


def _is_clear(path: Tensor, obstacles: Tensor, config: BSplineConfig) -> Tensor:
    tip, body = clearances(path, obstacles)
    low, high = torch.tensor(WORKSPACE_LOW).to(path), torch.tensor(WORKSPACE_HIGH).to(path)
    inside = ((path >= low - 1e-4) & (path <= high + 1e-4)).all(-1).all(1)
    return (tip.amin(1) >= config.clearance) & (body.amin(1) >= config.body_clearance) & inside


def _repeats(paths: Tensor, keep: Tensor) -> Tensor:
    """Return which paths stay within 2 cm of an earlier one that is kept, of the same scene (S, sides), bool."""
    repeats = torch.zeros_like(keep)
    for j in range(paths.shape[1]):
        for i in range(j):
            gap = (paths[:, i] - paths[:, j]).norm(dim=-1).amax(-1)
            repeats[:, j] |= (gap < 0.02) & keep[:, i] & keep[:, j] & ~repeats[:, i]
    return repeats


# ---------------------------------------------------------------- time


def _time(path: Tensor, speed_at_start: Tensor, config: BSplineConfig) -> list[Tensor]:
    """Return positions (T+1, 3) at the control rate by the fastest speed profile within the limits, ending at rest.

    The paths (M, n, 3) are geometry alone. The squared speed is bounded by its limit and by curvature, then by what can
    be reached from the start (forward sweep), and by what can be braked before the end (backward sweep).
    """
    step = path.diff(dim=1).norm(dim=-1).clamp(min=1e-7)  # (M, n-1) arc length of each piece
    before, after = path[:, 1:-1] - path[:, :-2], path[:, 2:] - path[:, 1:-1]
    turn = (after / step[:, 1:, None] - before / step[:, :-1, None]).norm(dim=-1)
    curvature = turn / (0.5 * (step[:, 1:] + step[:, :-1]))
    square = torch.full(path.shape[:2], config.speed**2)
    square[:, 1:-1] = torch.minimum(square[:, 1:-1], config.acceleration / curvature.clamp(min=1e-6))
    square[:, 0], square[:, -1] = speed_at_start.square(), 0.0
    gain = 2 * config.acceleration * step
    n = path.shape[1]
    for i in range(1, n):
        square[:, i] = torch.minimum(square[:, i], square[:, i - 1] + gain[:, i - 1])
    for i in range(n - 2, 0, -1):
        square[:, i] = torch.minimum(square[:, i], square[:, i + 1] + gain[:, i])
    speed = square.clamp(min=0).sqrt()
    duration = 2 * step / (speed[:, 1:] + speed[:, :-1]).clamp(min=1e-4)
    clock = torch.cat((torch.zeros(len(path), 1), duration.cumsum(1)), 1)  # (M, n)

    total = clock[:, -1]
    ticks = int(torch.ceil(total.max() / config.control_dt).item()) + 1 if len(path) else 1
    when = (torch.arange(ticks) * config.control_dt).expand(len(path), ticks).contiguous()
    piece = torch.searchsorted(clock, when.clamp(max=1e9), right=True).clamp(1, n - 1)
    t0, t1 = clock.gather(1, piece - 1), clock.gather(1, piece)
    v0, v1 = speed.gather(1, piece - 1), speed.gather(1, piece)
    tau = (when - t0).minimum(t1 - t0)
    # Constant acceleration inside a piece.
    run = v0 * tau + 0.5 * (v1 - v0) / (t1 - t0).clamp(min=1e-9) * tau.square()
    share = (run / step.gather(1, piece - 1)).clamp(0, 1)[..., None]
    a = path.gather(1, (piece - 1)[..., None].expand(-1, -1, 3))
    b = path.gather(1, piece[..., None].expand(-1, -1, 3))
    positions = a + share * (b - a)
    last = torch.ceil(total / config.control_dt).long().clamp(min=1)
    return [p[: t + 1] for p, t in zip(positions, last.tolist(), strict=True)]
