"""What is measured of the quadrotor's trials, and of candidates before any is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onestride.tasks import candidate_paths
from onestride.tasks.candidate_paths import beside, free_share, measure_paths, shares
from onestride.tasks.distance import signed_distance
from onestride.tasks.metric import Metric
from onestride.tasks.obstacles import ABSENT, BOX
from onestride.tasks.quadrotor.scene import BODY_RADIUS, Scene
from onestride.tasks.quadrotor.simulation import SimulatedQuadrotor

METRICS = (
    Metric("completion", "completion", digits=1, kind="percent", better="higher"),
    Metric("terminal_error_mm", "terminal error", "mm", better="lower"),
    Metric("collided", "collided", digits=1, kind="share", spread=False, better="lower"),
    Metric("min_clearance_mm", "clearance", "mm", better="higher"),
    *candidate_paths.METRICS,
)
NOTES = (
    *candidate_paths.NOTES,
    "candidates_free is the share of all candidates, not only the chosen one, whose path keeps a sphere around the "
    "airframe (7 cm) off every obstacle: the rest is what the selector has to throw away.",
    "min_clearance_mm is that sphere's; a trial ends with a collision where the airframe, which is flat, touches.",
)


def measure(robot: SimulatedQuadrotor, scene: Scene) -> dict[str, Any]:
    """Return how near the goal a finished trial ended, and how near an obstacle it came."""
    error = float(np.linalg.norm(robot.ee_path[-1] - scene.goal))
    way = float(np.linalg.norm(scene.start - scene.goal))
    return {
        "completion": max(0.0, 1.0 - error / way),
        "terminal_error_mm": 1e3 * error,
        "collided": float(robot.collided),
        "min_clearance_mm": 1e3 * robot.min_clearance,
    }


def measure_candidates(paths: NDArray, teacher: NDArray, scene: Scene, shown: bool) -> dict[str, float]:
    """Return what candidate paths (N, H, 3) [m] are like, beside the teacher's from the same noise.

    shown: whether the scene is open on both sides of what blocks it; then sides are counted.
    """
    obstacle = scene.obstacles[blocking_obstacle(scene)]

    def counted(these: NDArray) -> NDArray:
        return sides(these, scene.start, scene.goal, obstacle)

    free = free_share(paths, scene.obstacles, BODY_RADIUS)
    return measure_paths(paths, teacher, free, counted if shown else None)


def sides(paths: NDArray[np.floating], start: NDArray, goal: NDArray, obstacle: NDArray) -> NDArray[np.floating]:
    """Shares (3,) of candidates (N, H, 3) that pass an obstacle (8,) on the left, on the right and over it.

    Over a box is above its top and within its half diagonal; nothing passes over a pillar.
    """
    level = np.array([1.0, 1.0, 0.0])
    lateral, height = beside(paths, start * level, goal * level, obstacle[1:4])
    width = float(np.hypot(obstacle[4], obstacle[5]))
    over = (height > obstacle[6]) & (np.abs(lateral) < width) & (obstacle[0] == BOX)
    return shares(lateral, over)


def blocking_obstacle(scene: Scene) -> int:
    """Index of the obstacle whose surface is nearest to the straight line from start to goal."""
    line = torch.from_numpy(np.linspace(scene.start, scene.goal, 64))
    each = torch.from_numpy(scene.obstacles)[:, None]  # (K, 1, 8)
    gap = signed_distance(line.expand(len(each), -1, -1), each).amin(1).numpy()
    return int(np.where(scene.obstacles[:, 0] != ABSENT, gap, np.inf).argmin())
