"""What is measured of a trial, of many trials, and of a set of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onestride.tasks.metric import Metric

#: What every trial in a scene with a clock is measured by, beside its task's own metrics.
TRIAL = (
    Metric("success", "success", digits=1, kind="share", spread=False, better="higher"),
    Metric("completion_time_s", "completion time", "s", better="lower"),
    Metric("executed_steps", "executed steps"),
    Metric("decision_ms_mean", "inference", "ms", better="lower"),
    *(Metric(f"decision_ms_{name}", name, "ms", better="lower") for name in ("p50", "p95", "p99", "max")),
    Metric("end_to_end_ms_p50", "end to end p50", "ms", better="lower"),
    Metric("control_hz", "measured rate", "Hz", digits=3, better="higher"),
    Metric("overrun_ratio", "overrun ratio", digits=4, better="lower"),
    Metric("starved_ratio", "starved ratio", digits=4, better="lower"),
    Metric("held_commands", "held commands", better="lower"),
    Metric("nfe", "network calls", digits=0, better="lower"),
)

#: Before a measurement [s]: threads of what ran before stay awake for some milliseconds and would compete with it.
PAUSE = 0.02


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


def effective_dimensions(clouds: torch.Tensor) -> torch.Tensor:
    """In how many directions clouds (..., N, K) spread: the participation ratio of their covariance (...,).

    With v the variances along the principal axes, (sum v)^2 / sum v^2: 1 for points on a line, K for a round cloud;
    0 where there is no spread at all.
    """
    off = (clouds - clouds.mean(-2, keepdim=True)).double()
    gram = off @ off.mT  # the covariance's non-zero eigenvalues are this one's
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return total.square() / gram.square().sum((-2, -1)).clamp(min=torch.finfo(torch.float64).tiny)


def single(value: float | None) -> dict[str, Any]:
    """A number that is no mean, in the form of a result's rows."""
    return {"mean": value, "std": None, "n": 1, "per_seed": []}


def over_seeds(per_seed: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation of one number per training seed, in the form of a result's rows."""
    return summarize(per_seed, range(len(per_seed)))
