"""A planner of demonstrations: many B-spline paths at once, past obstacles on every open side.

For each scene the straight path and three bent ones (left, right and over, seen from start to goal) are optimised
together. Those that stay clear are kept, so that a scene may have several solutions. A path then gets the fastest speed
profile within the limits of speed and acceleration, and is sampled at the control rate. Everything is batched torch on
the CPU, in metres and seconds. What a robot is to the planner stands in ``PathLimits`` and ``Space``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from onestride.tasks.goal_frame import direction_frame

SIDES = ("direct", "left", "right", "over")
DIRECT = 0
AROUND = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class PathLimits:
    """Limits of the paths.

    Attributes:
        control_dt: control period [s].
        speed: largest speed [m/s].
        acceleration: largest acceleration, along the path and across it [m/s^2].
        comfort: added to the margins in the optimisation [m].
        control_points: of a B-spline.
        iterations: of the optimisation.
        detour: a path is kept if it is at most this many times as long as the scene's shortest.
    """

    control_dt: float
    speed: float
    acceleration: float
    comfort: float
    control_points: int = 10
    iterations: int = 30
    detour: float = 1.4


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where a robot's paths may lie, and how they are looked for.

    Attributes:
        low: smallest position (3,) [m].
        high: largest position (3,) [m].
        clearances: maps positions (S, T, 3) and obstacles (S, K, 8) to distances from the obstacles' surfaces (S, T)
            [m], one for each part of the robot that has a margin of its own.
        margins: least of each clearance [m].
        bend: how far the first guess of a path leaves the straight line [m].
        tangent: a start in motion fixes the second control point so far along its velocity [s].
        apart: paths that stay nearer to each other than this are the same [m].
        step: of the optimiser [m].
        samples: of a path in the optimisation.
        fine: samples of a path's geometry.
    """

    low: Tensor
    high: Tensor
    clearances: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    margins: tuple[float, ...]
    bend: float
    tangent: float
    apart: float
    step: float
    samples: int = 20
    fine: int = 64

    def clear(self, points: Tensor, obstacles: Tensor) -> Tensor:
        """Return which paths (S, T, 3) keep all margins everywhere (S,), bool."""
        ok = torch.ones(len(points), dtype=torch.bool)
        for clearance, margin in zip(self.clearances(points, obstacles), self.margins, strict=True):
            ok &= clearance.amin(1) >= margin
        return ok

    def clamp(self, points: Tensor) -> Tensor:
        """Return points (..., 3) moved into the box of positions."""
        return torch.minimum(torch.maximum(points, self.low.to(points)), self.high.to(points))


@dataclass(frozen=True)
class Problems:
    """S scenes. Their number is the length.

    Attributes:
        start: (S, 3) [m].
        velocity: at the start (S, 3) [m/s].
        goal: (S, 3) [m].
        obstacles: (S, K, 8), see ``obstacles.py``.
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


def feasible_ends(problems: Problems, limits: PathLimits, space: Space) -> Tensor:
    """Return which scenes have both ends clear of all obstacles, by more than margin and comfort (S,), bool."""
    ok = torch.ones(len(problems), dtype=torch.bool)
    for end in (problems.start, problems.goal):
        for clearance, margin in zip(space.clearances(end[:, None], problems.obstacles), space.margins, strict=True):
            ok &= clearance[:, 0] > margin + limits.comfort
    return ok


def _basis(samples: int, control_points: int) -> Tensor:
    """Return the clamped cubic B-spline basis on [0, 1], (samples, control_points)."""
    knots = np.concatenate((np.zeros(3), np.linspace(0, 1, control_points - 2), np.ones(3)))
    return torch.from_numpy(BSpline.design_matrix(np.linspace(0, 1, samples), knots, 3).toarray()).float()


def plan(problems: Problems, limits: PathLimits, space: Space) -> list[Path]:
    """Return the clear paths of all scenes, sampled at the control rate. A scene may have none.

    Where the straight line is free it is the only solution. Elsewhere every side is tried, and all paths are solutions
    that are clear and not much longer than the shortest.
    """
    straight = space.clear(_lines(problems, 24), problems.obstacles).nonzero().squeeze(1)
    paths, clear = _try_sides(problems.take(straight), (DIRECT,), limits, space)
    kept = [
        Path(int(straight[i]), DIRECT, p) for i, p in _timed(paths[:, 0], clear[:, 0], problems.take(straight), limits)
    ]
    answered = torch.zeros(len(problems), dtype=torch.bool)
    answered[straight[clear[:, 0]]] = True

    blocked = (~answered).nonzero().squeeze(1)
    there = problems.take(blocked)
    paths, clear = _try_sides(there, AROUND, limits, space)
    length = paths.diff(dim=2).norm(dim=-1).sum(-1)  # (S, sides)
    shortest = torch.where(clear, length, torch.inf).amin(1, keepdim=True)
    keep = clear & (length <= limits.detour * shortest)
    keep &= ~_repeats(paths, keep, space.apart)
    for column, side in enumerate(AROUND):
        timed = _timed(paths[:, column], keep[:, column], there, limits)
        kept += [Path(int(blocked[i]), side, p) for i, p in timed]
    return sorted(kept, key=lambda path: (path.scene, path.side))


def _try_sides(problems: Problems, sides: tuple[int, ...], limits: PathLimits, space: Space) -> tuple[Tensor, Tensor]:
    """Return optimised paths (S, sides, fine, 3), and whether each is clear (S, sides)."""
    s, n = len(problems), len(sides)
    each = problems.take(torch.arange(s).repeat_interleave(n))
    control = _optimise(_bent_lines(each, torch.tensor(sides).repeat(s), limits, space), each, limits, space)
    fine = _basis(space.fine, limits.control_points) @ control
    inside = ((fine >= space.low.to(fine) - 1e-4) & (fine <= space.high.to(fine) + 1e-4)).all(-1).all(1)
    return fine.view(s, n, space.fine, 3), (space.clear(fine, each.obstacles) & inside).view(s, n)


def _timed(paths: Tensor, keep: Tensor, problems: Problems, limits: PathLimits) -> list[tuple[int, np.ndarray]]:
    """Return (row, positions (T+1, 3)) for the kept rows of paths (S, fine, 3)."""
    rows = keep.nonzero().squeeze(1)
    timed = _time(paths[rows], problems.velocity[rows].norm(dim=-1), limits)
    return [(i, p.numpy()) for i, p in zip(rows.tolist(), timed, strict=True)]


def _lines(problems: Problems, n: int) -> Tensor:
    """Return n points on the lines from start to goal (S, n, 3)."""
    u = torch.linspace(0, 1, n)[None, :, None]
    return problems.start[:, None] + u * (problems.goal - problems.start)[:, None]


def _bent_lines(problems: Problems, side: Tensor, limits: PathLimits, space: Space) -> Tensor:
    """Return first control points (S, n, 3): straight, or bent to one side by more than an obstacle's width."""
    n = limits.control_points
    u = torch.linspace(0, 1, n)[None, :, None]
    _, left, up = direction_frame(problems.goal - problems.start)
    zero = torch.zeros_like(left)
    bend = torch.stack((zero, left, -left, up), 1)[torch.arange(len(side)), side]  # (S, 3)
    control = _lines(problems, n) + space.bend * torch.sin(torch.pi * u) * bend[:, None]
    return space.clamp(control)


def _optimise(control: Tensor, problems: Problems, limits: PathLimits, space: Space) -> Tensor:
    """Return control points optimised by Adam: smooth, short, and clear of obstacles by margins and comfort."""
    basis = _basis(space.samples, limits.control_points)
    first, last = problems.start[:, None], problems.goal[:, None]
    # A start in motion fixes the first tangent: the second control point lies a little along the velocity.
    second = first + space.tangent * problems.velocity[:, None]
    free = control[:, 2:-1].clone().requires_grad_()
    optimiser = torch.optim.Adam([free], lr=space.step)
    for _ in range(limits.iterations):
        points = torch.cat((first, second, free, last), 1)
        path = basis @ points
        near = torch.zeros(len(path))
        for clearance, margin in zip(space.clearances(path, problems.obstacles), space.margins, strict=True):
            near = near + (margin + limits.comfort - clearance).clamp(min=0).square().sum(1)
        bend = points.diff(n=2, dim=1).square().sum((1, 2))
        stretch = points.diff(dim=1).square().sum((1, 2))
        cost = 40.0 * near + 1.0 * bend + 0.3 * stretch
        (free.grad,) = torch.autograd.grad(cost.sum(), free)
        optimiser.step()
        with torch.no_grad():
            free.copy_(space.clamp(free))
    return torch.cat((first, second, free.detach(), last), 1)


def _repeats(paths: Tensor, keep: Tensor, apart: float) -> Tensor:
    """Return which paths stay within ``apart`` [m] of an earlier one of their scene that is kept (S, sides), bool."""
    repeats = torch.zeros_like(keep)
    for j in range(paths.shape[1]):
        for i in range(j):
            gap = (paths[:, i] - paths[:, j]).norm(dim=-1).amax(-1)
            repeats[:, j] |= (gap < apart) & keep[:, i] & keep[:, j] & ~repeats[:, i]
    return repeats


# ---------------------------------------------------------------- time


def _time(path: Tensor, speed_at_start: Tensor, limits: PathLimits) -> list[Tensor]:
    """Return positions (T+1, 3) at the control rate by the fastest speed profile within the limits, ending at rest.

    The paths (M, n, 3) are geometry alone. The squared speed is bounded by its limit and by curvature, then by what can
    be reached from the start (forward sweep), and by what can be braked before the end (backward sweep).
    """
    step = path.diff(dim=1).norm(dim=-1).clamp(min=1e-7)  # (M, n-1) arc length of each piece
    before, after = path[:, 1:-1] - path[:, :-2], path[:, 2:] - path[:, 1:-1]
    turn = (after / step[:, 1:, None] - before / step[:, :-1, None]).norm(dim=-1)
    curvature = turn / (0.5 * (step[:, 1:] + step[:, :-1]))
    square = torch.full(path.shape[:2], limits.speed**2)
    square[:, 1:-1] = torch.minimum(square[:, 1:-1], limits.acceleration / curvature.clamp(min=1e-6))
    square[:, 0], square[:, -1] = speed_at_start.square(), 0.0
    gain = 2 * limits.acceleration * step
    n = path.shape[1]
    for i in range(1, n):
        square[:, i] = torch.minimum(square[:, i], square[:, i - 1] + gain[:, i - 1])
    for i in range(n - 2, 0, -1):
        square[:, i] = torch.minimum(square[:, i], square[:, i + 1] + gain[:, i])
    speed = square.clamp(min=0).sqrt()
    duration = 2 * step / (speed[:, 1:] + speed[:, :-1]).clamp(min=1e-4)
    clock = torch.cat((torch.zeros(len(path), 1), duration.cumsum(1)), 1)  # (M, n)

    total = clock[:, -1]
    ticks = int(torch.ceil(total.max() / limits.control_dt).item()) + 1 if len(path) else 1
    when = (torch.arange(ticks) * limits.control_dt).expand(len(path), ticks).contiguous()
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
    last = torch.ceil(total / limits.control_dt).long().clamp(min=1)
    return [p[: t + 1] for p, t in zip(positions, last.tolist(), strict=True)]
