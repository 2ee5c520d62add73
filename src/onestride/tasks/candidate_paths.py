"""What is measured of candidate paths past obstacles, before any is chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from onestride.tasks.distance import signed_distance
from onestride.tasks.metric import Metric

METRICS = (
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
)
USED = 0.05  # a side is used where at least this share of the candidates passes there


def measure_paths(
    paths: NDArray, teacher: NDArray, free: float, sides: Callable[[NDArray], NDArray] | None
) -> dict[str, float]:
    """Return what candidate paths (N, H, 3) [m] are like, beside the teacher's from the same noise.

    Args:
        paths: of the candidates.
        teacher: the teacher's.
        free: share of the candidates that touch nothing.
        sides: maps paths to the shares (3,) that pass on the left, on the right and over; None: not counted.
    """
    made = {
        "candidate_spread_mm": 1e3 * float(np.sqrt(np.square(paths - paths.mean(0)).sum(-1).mean())),
        "teacher_distance_mm": 1e3 * float(np.sqrt(np.square(paths - teacher).sum(-1).mean())),
        "candidates_free": free,
    }
    if sides is not None:
        mine, theirs = sides(paths), sides(teacher)
        made |= {f"side_{side}": float(share) for side, share in zip(("left", "right", "over"), mine, strict=True)}
        made["both_sides_used"] = float(min(mine[:2]) >= USED)
        made["side_distance_from_teacher"] = 0.5 * float(np.abs(mine - theirs).sum())
    return made


def free_share(paths: NDArray[np.floating], obstacles: NDArray[np.floating], radius: float) -> float:
    """Share of candidates (N, H, 3) that stay farther than ``radius`` [m] from every obstacle (K, 8)."""
    n, h, _ = paths.shape
    distance = signed_distance(torch.from_numpy(paths.reshape(-1, 3)).double(), torch.from_numpy(obstacles).double())
    return float((distance.view(n, h).amin(1) > radius).double().mean())


def beside(paths: NDArray[np.floating], start: NDArray, goal: NDArray, centre: NDArray) -> tuple[NDArray, NDArray]:
    """Return how far to the left and up (N,) [m] of a centre (3,) paths (N, H, 3) are where they pass it.

    That is where a path is nearest to it along start -> goal. Up is at right angles to that way.
    """
    forward = (goal - start) / np.linalg.norm(goal - start)
    left = np.array([-forward[1], forward[0], 0.0])
    left /= max(float(np.linalg.norm(left)), 1e-9)
    up = np.cross(forward, left)
    offset = paths - centre  # (N, H, 3)
    there = offset[np.arange(len(paths)), np.abs(offset @ forward).argmin(1)]
    return there @ left, there @ up


def shares(lateral: NDArray, over: NDArray) -> NDArray[np.floating]:
    """Return the shares (3,) of paths that pass on the left, on the right and over.

    Args:
        lateral: how far to the left they pass (N,) [m].
        over: whether they pass over (N,), bool.
    """
    return np.array([np.mean(~over & (lateral > 0)), np.mean(~over & (lateral <= 0)), np.mean(over)])
