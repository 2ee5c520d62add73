"""What is measured of a trial, of many trials, and of a cloud of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onestride.tasks.kinova.distance import signed_distance

#: Metrics of one trial that are averaged into a row.
TRIAL_METRICS = (
    "completion",
    "success",
    "completion_time_s",
    "executed_steps",
    "decision_ms_mean",
    "decision_ms_p50",
    "decision_ms_p95",
    "decision_ms_p99",
    "decision_ms_max",
    "terminal_error_mm",
    "min_clearance_mm",
    "min_clearance_arm_mm",
    "control_hz",
    "overrun_ratio",
    "starved_ratio",
    "held_commands",
    "nfe",
)


def summarize(values: Sequence[float | None], seeds: Sequence[int]) -> dict[str, Any]:
    """Values of trials and each one's training seed -> {"mean", "std", "n", "per_seed"}.

    None (a time that never came) is left out; the standard deviation is over trials, per_seed the seeds' means.
    """
    known = [(v, s) for v, s in zip(values, seeds, strict=True) if v is not None]
    if not known:
        return {"mean": None, "std": None, "n": 0, "per_seed": []}
    numbers = np.array([v for v, _ in known], dtype=float)
    per_seed = [float(np.mean([v for v, s in known if s == seed])) for seed in sorted({s for _, s in known})]
    return {"mean": float(numbers.mean()), "std": float(numbers.std()), "n": len(numbers), "per_seed": per_seed}


def latency(decisions_s: Sequence[float] | NDArray[np.floating]) -> dict[str, float | None]:
    """Decision times [s] -> mean, p50, p95, p99 and max [ms]."""
    names = ("mean", "p50", "p95", "p99", "max")
    if len(decisions_s) == 0:
        return {f"decision_ms_{name}": None for name in names}
    ms = 1e3 * np.asarray(decisions_s)
    values = (ms.mean(), *np.percentile(ms, (50, 95, 99)), ms.max())
    return {f"decision_ms_{name}": float(value) for name, value in zip(names, values, strict=True)}


def spread(paths: NDArray[np.floating]) -> float:
    """How far candidates (N, H, 3) lie from their mean path, root mean square over candidates and rows [m]."""
    return float(np.sqrt(np.square(paths - paths.mean(0)).sum(-1).mean()))


def effective_dimensions(clouds: torch.Tensor) -> torch.Tensor:
    """In how many directions clouds (..., N, K) spread: the participation ratio of their covariance (...,).

    With v the variances along the principal axes, (sum v)^2 / sum v^2: 1 for points on a line, K for a round cloud;
    0 where there is no spread at all.
    """
    off = (clouds - clouds.mean(-2, keepdim=True)).double()
    gram = off @ off.mT  # the covariance's non-zero eigenvalues are this one's
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return total.square() / gram.square().sum((-2, -1)).clamp(min=torch.finfo(torch.float64).tiny)


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


def single(value: float | None) -> dict[str, Any]:
    """A number that is no mean, in the form of a result's rows."""
    return {"mean": value, "std": None, "n": 1, "per_seed": []}


def over_seeds(per_seed: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation of one number per training seed, in the form of a result's rows."""
    return {
        "mean": float(np.mean(per_seed)),
        "std": float(np.std(per_seed)),
        "n": len(per_seed),
        "per_seed": list(per_seed),
    }
