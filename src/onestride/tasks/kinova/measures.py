"""What is measured of the arm's trials, and of candidates before any is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onestride.tasks import candidate_paths
from onestride.tasks.candidate_paths import beside, free_share, measure_paths, shares
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.metric import Metric

METRICS = (
    Metric("completion", "completion", digits=1, kind="percent", better="higher"),
    Metric("terminal_error_mm", "terminal error", "mm", better="lower"),
    Metric("min_clearance_mm", "clearance, path", "mm", better="higher"),
    Metric("min_clearance_arm_mm", "clearance, arm", "mm", better="higher"),
    *candidate_paths.METRICS,
)
NOTES = (
    *candidate_paths.NOTES,
    "candidates_free is the share of all candidates, not only the chosen one, whose path keeps the tool (3 cm) off "
    "every obstacle: the rest is what the selector has to throw away.",
)
TOOL_RADIUS = 0.03  # [m]


def measure(arm: SimulatedArm, scene: Scene) -> dict[str, Any]:
    """Return how near the goal a finished trial ended, and how near an obstacle it came, tip and whole arm."""
    error = float(np.linalg.norm(arm.ee_path[-1] - scene.goal))
    way = float(np.linalg.norm(scene.start - scene.goal))
    return {
        "completion": max(0.0, 1.0 - error / way),
        "terminal_error_mm": 1e3 * error,
        "min_clearance_mm": 1e3 * arm.min_clearance_ee,
        "min_clearance_arm_mm": 1e3 * arm.min_clearance_arm,
    }


def measure_candidates(paths: NDArray, teacher: NDArray, scene: Scene, shown: bool) -> dict[str, float]:
    """Return what candidate paths (N, H, 3) [m] are like, beside the teacher's from the same noise.

    shown: whether the scene is open on both sides of what blocks it; then sides are counted.
    """
    obstacle = scene.obstacles[blocking_obstacle(scene.start, scene.goal, scene.obstacles)]

    def counted(these: NDArray) -> NDArray:
        return sides(these, scene.start, scene.goal, obstacle)

    free = free_share(paths, scene.obstacles, TOOL_RADIUS)
    return measure_paths(paths, teacher, free, counted if shown else None)


def sides(paths: NDArray[np.floating], start: NDArray, goal: NDArray, obstacle: NDArray) -> NDArray[np.floating]:
    """Shares (3,) of candidates (N, H, 3) that pass an obstacle on the left, on the right and over it.

    Looked at where a path is nearest, along start -> goal, to the obstacle's centre: the direction from the
    centre to the path there is left, right or up, whichever it is nearest to.
    """
    lateral, vertical = beside(paths, start, goal, obstacle[1:4])
    return shares(lateral, vertical > np.abs(lateral))


def blocking_obstacle(start: NDArray, goal: NDArray, obstacles: NDArray) -> int:
    """Index of the obstacle (K, 8) whose centre is nearest to the straight line from start to goal."""
    line = goal - start
    along = np.clip((obstacles[:, 1:4] - start) @ line / (line @ line), 0, 1)
    gap = np.linalg.norm(obstacles[:, 1:4] - (start + along[:, None] * line), axis=1)
    return int(np.where(obstacles[:, 0] > 0, gap, np.inf).argmin())
