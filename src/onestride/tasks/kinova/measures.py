"""What is measured of the arm's trials, and of candidates before any is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onestride.tasks.distance import signed_distance
from onestride.tasks.kinova.scene import Scene
from onestride.tasks.kinova.simulation import SimulatedArm
from onestride.tasks.metric import Metric

METRICS = (
    Metric("completion", "completion", digits=1, kind="percent", better="higher"),
    Metric("terminal_error_mm", "terminal error", "mm", better="lower"),
    Metric("min_clearance_mm", "clearance, path", "mm", better="higher"),
    Metric("min_clearance_arm_mm", "clearance, arm", "mm", better="higher"),
    Metric("candidate_spread_mm", "candidate spread", "mm", digits=1),
    Metric("teacher_distance_mm", "distance from the teacher's path", "mm", digits=1, better="lower"),
    Metric("candidates_free", "candidates free of collision", digits=0, kind="percent", better="higher"),
    Metric("side_left", "left", digits=0, kind="percent"),
    Metric("side_right", "right", digits=0, kind="percent"),
    Metric("side_over", "over", digits=0, kind="percent"),
    Metric("both_sides_used", "both sides used", digits=0, kind="share", spread=False, better="higher"),
    Metric("side_distance_from_teacher", "sides' distance from the teacher's", better="lower"),
)
NOTES = (
    "Sides are counted at the start of the scenes in which the planner found a way on the left and on the right of the "
    "blocking obstacle; side_distance_from_teacher is the total variation distance of the shares left, right and over.",
    "teacher_distance_mm is between each candidate and the teacher's from the same noise, root mean square over "
    "candidates and rows, at every scene's start: no selector has a say in it.",
    "candidates_free is the share of all candidates, not only the chosen one, whose path keeps the tool (3 cm) off "
    "every obstacle: the rest is what the selector has to throw away.",
)
USED = 0.05  # a side is used where at least this share of the candidates passes there


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
    made = {
        "candidate_spread_mm": 1e3 * float(np.sqrt(np.square(paths - paths.mean(0)).sum(-1).mean())),
        "teacher_distance_mm": 1e3 * float(np.sqrt(np.square(paths - teacher).sum(-1).mean())),
        "candidates_free": free_share(paths, scene.obstacles),
    }
    if shown:
        obstacle = scene.obstacles[blocking_obstacle(scene.start, scene.goal, scene.obstacles)]
        mine, theirs = (sides(each, scene.start, scene.goal, obstacle) for each in (paths, teacher))
        made |= {f"side_{side}": float(share) for side, share in zip(("left", "right", "over"), mine, strict=True)}
        made["both_sides_used"] = float(min(mine[:2]) >= USED)
        made["side_distance_from_teacher"] = 0.5 * float(np.abs(mine - theirs).sum())
    return made


def free_share(paths: NDArray[np.floating], obstacles: NDArray[np.floating], radius: float = 0.03) -> float:
    """Share of candidates (N, H, 3) that stay farther than ``radius`` [m], the tool's, from every obstacle (K, 8)."""
    n, h, _ = paths.shape
    distance = signed_distance(torch.from_numpy(paths.reshape(-1, 3)).double(), torch.from_numpy(obstacles).double())
    return float((distance.view(n, h).amin(1) > radius).double().mean())


def sides(paths: NDArray[np.floating], start: NDArray, goal: NDArray, obstacle: NDArray) -> NDArray[np.floating]:
    """Shares (3,) of candidates (N, H, 3) that pass an obstacle on the left, on the right and over it.

    Looked at where a path is nearest, along start -> goal, to the obstacle's centre: the direction from the
    centre to the path there is left, right or up, whichever it is nearest to.
    """
    forward = (goal - start) / np.linalg.norm(goal - start)
    left = np.array([-forward[1], forward[0], 0.0])
    left /= max(float(np.linalg.norm(left)), 1e-9)
    up = np.cross(forward, left)
    offset = paths - obstacle[1:4]  # (N, H, 3)
    beside = np.abs(offset @ forward).argmin(1)  # (N,)
    there = offset[np.arange(len(paths)), beside]
    lateral, vertical = there @ left, there @ up
    over = vertical > np.abs(lateral)
    return np.array([np.mean(~over & (lateral > 0)), np.mean(~over & (lateral <= 0)), np.mean(over)])


def blocking_obstacle(start: NDArray, goal: NDArray, obstacles: NDArray) -> int:
    """Index of the obstacle (K, 8) whose centre is nearest to the straight line from start to goal."""
    line = goal - start
    along = np.clip((obstacles[:, 1:4] - start) @ line / (line @ line), 0, 1)
    gap = np.linalg.norm(obstacles[:, 1:4] - (start + along[:, None] * line), axis=1)
    return int(np.where(obstacles[:, 0] > 0, gap, np.inf).argmin())
