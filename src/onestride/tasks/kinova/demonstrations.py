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
from onestride.tasks import spline_scenes
from onestride.tasks.bspline import Path, Problems
from onestride.tasks.kinova import bspline
from onestride.tasks.kinova.bspline import BSplineConfig
from onestride.tasks.kinova.scene import WORKSPACE_HIGH, WORKSPACE_LOW, Scene

SCENES_PER_CHUNK = 384
HOLD = 2  # control periods at rest at the goal, so that the data have holding too


def chunk(seed: int, number: int, config: BSplineConfig | None = None) -> tuple[list[Episode], Counter[str]]:
    """Return the episodes of one chunk of scenes and counts of what was refused. Depends on its arguments alone."""
    config = config or BSplineConfig()
    rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
    kept, paths, counts = spline_scenes.solve(
        bspline.sample_problems(SCENES_PER_CHUNK, config, rng), config, bspline.space(config)
    )
    return [_episode(p, kept, config) for p in paths], counts


def _episode(path: Path, problems: Problems, config: BSplineConfig) -> Episode:
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
    return spline_scenes.far_scenes(
        Scene, lambda: bspline.sample_problems(128, config, rng), config, bspline.space(config), count, 0.25, blocked
    )


def open_on_both_sides(scenes: Sequence[Scene]) -> list[int]:
    """Return the indices of scenes with a clear path on the left and one on the right of what blocks the line."""
    config = BSplineConfig()
    return spline_scenes.open_on_both_sides(scenes, config, bspline.space(config))
