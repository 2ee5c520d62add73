"""Planner paths as episodes: the arm's observations and commands along them. Also the scenes of evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.tasks.kinova import bspline
from onestride.tasks.kinova.bspline import BSplineConfig, Problems
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW, Scene

SCENES_PER_CHUNK = 384
HOLD = 2  # control periods at rest at the goal, so that the data have holding too


def chunk(seed: int, number: int, config: BSplineConfig | None = None) -> tuple[list[Episode], Counter[str]]:
    """Return the episodes of one chunk of scenes and counts of what was refused. Depends on its arguments alone."""
    config = config or BSplineConfig()
    rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
    problems = bspline.sample_problems(SCENES_PER_CHUNK, config, rng)
    possible = bspline.feasible_ends(problems, config).nonzero().squeeze(1)
    kept = problems.take(possible)
    paths = bspline.plan(kept, config)
    answers = np.bincount([p.scene for p in paths], minlength=len(kept))
    counts: Counter[str] = Counter(
        {
            "scenes": SCENES_PER_CHUNK,
            "refused: an end too near an obstacle": SCENES_PER_CHUNK - len(kept),
            "refused: no clear path": int((answers == 0).sum()),
            "scenes with several answers": int((answers > 1).sum()),
        }
    )
    counts.update(f"paths {bspline.SIDES[p.side]}" for p in paths)
    return [_episode(p, kept, config) for p in paths], counts


def _episode(path: bspline.Path, problems: Problems, config: BSplineConfig) -> Episode:
    goal = problems.goal[path.scene].numpy()
    positions = np.concatenate((path.positions, np.repeat(goal[None], HOLD, 0)))  # (T+1, 3)
    # The servo moves in a straight line through each period: what is measured is the period just gone.
    velocity = np.diff(positions, axis=0, prepend=positions[:1]) / config.control_dt
    velocity[0] = problems.velocity[path.scene].numpy()
    constant = np.concatenate((goal, problems.obstacles[path.scene].numpy().ravel()))
    observations = np.concatenate((positions, velocity, np.tile(constant, (len(positions), 1))), 1)
    return Episode(
        observations.astype(np.float32),
        positions[1:].astype(np.float32),
        np.zeros(len(positions) - 1, dtype=np.float32),
        terminated=True,
    )


def metadata() -> dict[str, Any]:
    """Return what the data depend on besides the seed, for the dataset and every result."""
    version = {"generator": "bspline", "generator_version": bspline.VERSION}
    return {"task": "kinova", **version, "planner": asdict(BSplineConfig())}


def action_space() -> Box:
    """Return the space of Cartesian position targets [m]."""
    return Box(WORKSPACE_LOW.astype(np.float32), WORKSPACE_HIGH.astype(np.float32))


def evaluation_scenes(count: int, seed: int, blocked: float = 0.7) -> list[Scene]:
    """Return scenes that start at rest, are at least 25 cm long, and for which the planner finds a path.

    Training data have other seeds, so that no evaluation scene was trained on.

    Args:
        count: number of scenes.
        seed: of the scenes.
        blocked: fraction of scenes whose straight line is blocked.
    """
    config = BSplineConfig(moving_start=0.0, short_move=0.0)
    rng = torch.Generator().manual_seed(0x5CE7E + seed)
    scenes: list[Scene] = []
    wanted_blocked = round(blocked * count)
    found = {True: 0, False: 0}
    while len(scenes) < count:
        problems = bspline.sample_problems(128, config, rng)
        problems = problems.take(bspline.feasible_ends(problems, config).nonzero().squeeze(1))
        sides: dict[int, list[int]] = {}
        for path in bspline.plan(problems, config):
            sides.setdefault(path.scene, []).append(path.side)
        for i, answers in sides.items():
            is_blocked = answers != [bspline.DIRECT]
            far = (problems.goal[i] - problems.start[i]).norm() >= 0.25
            room = found[is_blocked] < (wanted_blocked if is_blocked else count - wanted_blocked)
            if far and room:
                found[is_blocked] += 1
                scenes.append(
                    Scene(
                        problems.start[i].double().numpy(),
                        problems.goal[i].double().numpy(),
                        problems.obstacles[i].double().numpy(),
                    )
                )
    return scenes


def open_on_both_sides(scenes: Sequence[Scene]) -> list[int]:
    """Return the indices of scenes with a clear path on the left and one on the right of what blocks the line."""
    config = BSplineConfig()
    start, goal, obstacles = (
        torch.from_numpy(np.stack([getattr(s, name) for s in scenes])).float()
        for name in ("start", "goal", "obstacles")
    )
    problems = Problems(start, torch.zeros_like(start), goal, obstacles)
    sides: dict[int, set[str]] = {}
    for path in bspline.plan(problems, config):
        sides.setdefault(path.scene, set()).add(bspline.SIDES[path.side])
    return sorted(i for i, found in sides.items() if {"left", "right"} <= found)
