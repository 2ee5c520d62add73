"""What robots have in common whose demonstrations ``bspline.py`` plans: chunks of paths, and scenes of evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from onestride.tasks.bspline import DIRECT, SIDES, Path, PathLimits, Problems, Space, feasible_ends, plan
from onestride.tasks.obstacles import Scene

AnyScene = TypeVar("AnyScene", bound=Scene)


def solve(problems: Problems, limits: PathLimits, space: Space) -> tuple[Problems, list[Path], Counter[str]]:
    """Return the scenes whose ends are clear, all their clear paths, and counts of what was refused."""
    kept = problems.take(feasible_ends(problems, limits, space).nonzero().squeeze(1))
    paths = plan(kept, limits, space)
    answers = np.bincount([p.scene for p in paths], minlength=len(kept))
    counts: Counter[str] = Counter(
        {
            "scenes": len(problems),
            "refused: an end too near an obstacle": len(problems) - len(kept),
            "refused: no clear path": int((answers == 0).sum()),
            "scenes with several answers": int((answers > 1).sum()),
        }
    )
    counts.update(f"paths {SIDES[p.side]}" for p in paths)
    return kept, paths, counts


def far_scenes(
    make: Callable[[np.ndarray, np.ndarray, np.ndarray], AnyScene],
    draw: Callable[[], Problems],
    limits: PathLimits,
    space: Space,
    count: int,
    least: float,
    blocked: float,
    steps: float = np.inf,
) -> list[AnyScene]:
    """Return scenes that are long enough, and for which the planner finds a path.

    Args:
        make: a scene of start (3,), goal (3,) and obstacles (K, 8).
        draw: returns new problems each time.
        limits: of the paths.
        space: of the paths.
        count: number of scenes.
        least: distance from start to goal [m].
        blocked: fraction of scenes whose straight line is blocked.
        steps: some path of a scene has at most so many control periods.
    """
    scenes: list[AnyScene] = []
    wanted = {True: round(blocked * count), False: count - round(blocked * count)}
    found = {True: 0, False: 0}
    while len(scenes) < count:
        problems, paths, _ = solve(draw(), limits, space)
        sides: dict[int, list[int]] = {}
        for path in paths:
            if len(path.positions) - 1 <= steps:
                sides.setdefault(path.scene, []).append(path.side)
        for i, answers in sides.items():
            is_blocked = answers != [DIRECT]
            far = (problems.goal[i] - problems.start[i]).norm() >= least
            if far and found[is_blocked] < wanted[is_blocked]:
                found[is_blocked] += 1
                arrays: Any = (problems.start[i], problems.goal[i], problems.obstacles[i])
                scenes.append(make(*(each.double().numpy() for each in arrays)))
    return scenes


def open_on_both_sides(scenes: Sequence[Scene], limits: PathLimits, space: Space) -> list[int]:
    """Return the indices of scenes with a clear path on the left and one on the right of what blocks the line."""
    start, goal, obstacles = (
        torch.from_numpy(np.stack([getattr(s, name) for s in scenes])).float()
        for name in ("start", "goal", "obstacles")
    )
    sides: dict[int, set[str]] = {}
    for path in plan(Problems(start, torch.zeros_like(start), goal, obstacles), limits, space):
        sides.setdefault(path.scene, set()).add(SIDES[path.side])
    return sorted(i for i, found in sides.items() if {"left", "right"} <= found)
