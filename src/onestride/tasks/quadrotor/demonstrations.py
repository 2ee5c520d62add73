"""Planner paths as episodes: the quadrotor's observations and commands along them. Also the scenes of evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from onestride.data.episode import Episode
from onestride.tasks import spline_scenes
from onestride.tasks.bspline import Path, Problems
from onestride.tasks.quadrotor import bspline
from onestride.tasks.quadrotor.bspline import BSplineConfig
from onestride.tasks.quadrotor.control_spec import HORIZON
from onestride.tasks.quadrotor.scene import ACCELERATION, RESPONSE, Scene
from onestride.tasks.task import Demonstrations

SCENES_PER_CHUNK = 256
HOLD = 4  # control periods at rest at the goal, so that the data have hovering too
HARDEST = 2 * ACCELERATION  # acceleration of a demonstration [m/s^2]
FAR_ENOUGH = 1.5  # from start to goal in evaluations [m]
LONGEST = HORIZON - 1 - HOLD  # of a path [control periods]: a plan from its start ends at rest at the goal


def chunk(seed: int, number: int, config: BSplineConfig | None = None) -> tuple[list[Episode], Counter[str]]:
    """Return the episodes of one chunk of scenes and counts of what was refused. Depends on its arguments alone."""
    config = config or BSplineConfig()
    rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
    kept, paths, counts = spline_scenes.solve(
        bspline.sample_problems(SCENES_PER_CHUNK, config, rng), config, bspline.space(config)
    )
    short = [p for p in paths if len(p.positions) - 1 <= LONGEST]
    episodes = [_episode(p, kept, config) for p in short]
    gentle = [e for e in episodes if _hardest(e) <= HARDEST]
    counts["refused: paths longer than a plan"] = len(paths) - len(short)
    counts["refused: too sharp a turn from the start's velocity"] = len(short) - len(gentle)
    return gentle, counts


def _hardest(episode: Episode) -> float:
    """Return the largest acceleration that an episode asks for [m/s^2]."""
    return float(np.linalg.norm(episode.actions - episode.observations[:-1, 3:6], axis=1).max()) / RESPONSE


def velocities(path: Path, start: np.ndarray, control_dt: float) -> np.ndarray:
    """Return the velocities along a path (T+1, 3) [m/s].

    Args:
        path: ending at rest.
        start: velocity at its start (3,) [m/s].
        control_dt: control period [s].
    """
    velocity = np.zeros_like(path.positions)
    velocity[0] = start
    velocity[1:-1] = (path.positions[2:] - path.positions[:-2]) / (2 * control_dt)
    return velocity


def commands(velocity: np.ndarray, control_dt: float) -> np.ndarray:
    """Return the commands (T, 3) [m/s] that lead along velocities (T+1, 3) [m/s] at the control rate."""
    return velocity[:-1] + np.diff(velocity, axis=0) * (RESPONSE / control_dt)


def _episode(path: Path, problems: Problems, config: BSplineConfig) -> Episode:
    goal = problems.goal[path.scene].numpy()
    positions = np.concatenate((path.positions, np.repeat(goal[None], HOLD, 0)))  # (T+1, 3)
    velocity = velocities(path, problems.velocity[path.scene].numpy(), config.control_dt)
    velocity = np.concatenate((velocity, np.zeros((HOLD, 3))))
    constant = np.concatenate((goal, problems.obstacles[path.scene].numpy().ravel()))
    observations = np.concatenate((positions, velocity, np.tile(constant, (len(positions), 1))), 1)
    return Episode(
        observations.astype(np.float32),
        commands(velocity, config.control_dt).astype(np.float32),
        np.zeros(len(positions) - 1, dtype=np.float32),
        terminated=True,
    )


def demonstrations() -> Demonstrations:
    """Return where the quadrotor's demonstrations come from, and what they depend on besides the seed."""
    version = {"generator": "bspline", "generator_version": bspline.VERSION}
    return Demonstrations(chunk, {**version, "planner": asdict(BSplineConfig())})


def evaluation_scenes(count: int, seed: int, blocked: float = 0.7) -> list[Scene]:
    """Return scenes that start at rest and are far enough, and for which the planner finds a path.

    Training data have other seeds, so that no evaluation scene was trained on.

    Args:
        count: number of scenes.
        seed: of the scenes.
        blocked: fraction of scenes whose straight line is blocked.
    """
    config = BSplineConfig(moving_start=0.0, short_move=0.0)
    rng = torch.Generator().manual_seed(0x5CE7E + seed)
    return spline_scenes.far_scenes(
        Scene, lambda: bspline.sample_problems(128, config, rng), config, bspline.space(config), count, FAR_ENOUGH,
        blocked, LONGEST,
    )  # fmt: skip


def open_on_both_sides(scenes: Sequence[Scene]) -> list[int]:
    """Return the indices of scenes with a clear path on the left and one on the right of what blocks the line."""
    config = BSplineConfig()
    return spline_scenes.open_on_both_sides(scenes, config, bspline.space(config))
