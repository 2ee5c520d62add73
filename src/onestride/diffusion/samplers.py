"""Solvers that carry a plan from noise (k = N) to data (k = 0), and the one loop that runs them.

With a data prediction ``x0(x, k)`` every solver here is linear in what it has seen:

    x_j = c_x x_k + c_x0 x0(x_k, k) + c_previous x0(the call before) + c_noise z,    z ~ N(0, I)

so a solver is a function from a schedule and a grid of indices to those coefficients, python floats known before the
first network call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from onestride.diffusion.schedule import Schedule


class Step(NamedTuple):
    """One step from index ``k``: the coefficients of the update in the module's docstring."""

    k: int
    x: float
    x0: float
    previous: float = 0.0
    noise: float = 0.0


def ddpm(schedule: Schedule, grid: Sequence[int]) -> list[Step]:
    """Ancestral sampling from ``q(x_j | x_k, x_0)`` with its own variance beta-tilde (Ho et al. 2020, eq. 6 and 7).

    Written for any pair j < k: ``r = alpha_k / alpha_j``, ``v = sigma_k^2 - r^2 sigma_j^2`` is the noise added between.
    The variance is 0 on the step to j = 0.
    """
    steps = []
    for k, j in pairwise(grid):
        r = schedule.alpha[k] / schedule.alpha[j]
        sigma2_k, sigma2_j = schedule.sigma[k] ** 2, schedule.sigma[j] ** 2
        v = sigma2_k - r**2 * sigma2_j
        steps.append(
            Step(k, r * sigma2_j / sigma2_k, schedule.alpha[j] * v / sigma2_k, noise=math.sqrt(v * sigma2_j / sigma2_k))
        )
    return steps


def ddim(schedule: Schedule, grid: Sequence[int]) -> list[Step]:
    """Deterministic DDIM, eta = 0 (Song, Meng and Ermon 2021, eq. 12); first order in the step of log-SNR.

    ``x_j = alpha_j x0 + sigma_j eps`` with ``eps = (x_k - alpha_k x0) / sigma_k``.
    """
    return [_first_order(schedule, k, j) for k, j in pairwise(grid)]


def dpm_solver_pp_2m(schedule: Schedule, grid: Sequence[int]) -> list[Step]:
    """DPM-Solver++(2M), multistep with data prediction (Lu et al. 2022b, Algorithm 2); second order.

    With ``lambda = log(alpha / sigma)`` and ``h`` its step, the estimate is extrapolated to
    ``D = (1 + 1/2r) x0 - 1/2r x0_previous``, ``r = h_previous / h``. The first step has no history and the step to
    j = 0 has infinite h: both are first order, where the method is DDIM.
    """
    h_previous, steps = None, []
    for k, j in pairwise(grid):
        step = _first_order(schedule, k, j)
        if j > 0:
            h = _half_log_snr(schedule, j) - _half_log_snr(schedule, k)
            if h_previous is not None:
                extra = step.x0 * h / (2 * h_previous)
                step = step._replace(x0=step.x0 + extra, previous=-extra)
            h_previous = h
        steps.append(step)
    return steps


#: What ``sample(solver=...)`` may name.
SOLVERS: dict[str, Callable[[Schedule, Sequence[int]], list[Step]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm++2m": dpm_solver_pp_2m,
}


@lru_cache(maxsize=64)
def plan_steps(schedule: Schedule, solver: str, steps: int | None = None) -> tuple[Step, ...]:
    """The coefficients of a whole run: ``steps`` network calls (default: all N of the schedule), noise to data.

    Raises ValueError for an unknown solver, or for ``steps`` outside 1 ... N.
    """
    if solver not in SOLVERS:
        raise ValueError(f"no solver {solver!r}; there are {', '.join(SOLVERS)}")
    return tuple(SOLVERS[solver](schedule, schedule.grid(schedule.n_steps if steps is None else steps)))


def sample(
    denoise: Callable[[Tensor, int], Tensor],
    prior: Tensor,
    fixed: Tensor,
    schedule: Schedule,
    *,
    solver: str = "ddim",
    steps: int | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Plans ``(B, H, D)`` from a prior ``(B, H, D)``.

    denoise: ``(x (B, H, D), k) -> estimate of x_0 (B, H, D)``; the context is in its closure.
    prior: noise in the free entries, the observation in the fixed ones; it is not written to.
    fixed: bool ``(H, D)``, true where the observation fixes the entry. Those entries are the prior's at every call of
        ``denoise`` and in the result, bit for bit.
    solver, steps: see ``SOLVERS`` and ``plan_steps``.
    generator: of the noise that "ddpm" adds, on the prior's device; the other solvers draw nothing.
    noise: that noise itself, ``(noisy steps, B, H, D)``, in place of a generator (``noisy_steps``).

    Gradient mode is the caller's. Raises ValueError for an unknown solver or number of steps, a mask of another shape
    or dtype, a missing generator, or an estimate of another shape than the plan.
    """
    if fixed.dtype != torch.bool or fixed.shape != prior.shape[1:]:
        raise ValueError(
            f"fixed is {fixed.dtype} {tuple(fixed.shape)}, expected torch.bool {tuple(prior.shape[1:])}: "
            f"the (H, D) of prior {tuple(prior.shape)}"
        )
    plan = plan_steps(schedule, solver, steps)
    if generator is None and noise is None and any(step.noise for step in plan):
        raise ValueError(f"solver {solver!r} draws noise: pass generator=torch.Generator(device={str(prior.device)!r})")
    x, x0_previous = prior, None
    given = iter(noise.unbind(0) if noise is not None else ())
    for step in plan:
        x0 = denoise(x, step.k)
        if x0.shape != prior.shape:
            raise ValueError(f"denoise returned {tuple(x0.shape)} for a plan of shape {tuple(prior.shape)}")
        x = torch.add(x0 * step.x0, x, alpha=step.x)
        if x0_previous is not None and step.previous:
            x = torch.add(x, x0_previous, alpha=step.previous)
        if step.noise:
            if noise is not None:
                z = next(given)
            else:
                z = torch.randn(prior.shape, generator=generator, device=prior.device, dtype=prior.dtype)
            x = torch.add(x, z, alpha=step.noise)
        x = torch.where(fixed, prior, x)
        x0_previous = x0
    return x


def noisy_steps(schedule: Schedule, solver: str, steps: int | None = None) -> int:
    """How many steps of a run add noise."""
    return sum(step.noise > 0 for step in plan_steps(schedule, solver, steps))


def x0_from_eps(x: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The data ``(B, H, D)`` that a noise prediction implies: ``(x - sigma eps) / alpha``."""
    return (x - sigma * eps) / alpha


def eps_from_x0(x: Tensor, x0: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The noise ``(B, H, D)`` that a data prediction implies: ``(x - alpha x0) / sigma``; undefined at k = 0."""
    return (x - alpha * x0) / sigma


def _first_order(schedule: Schedule, k: int, j: int) -> Step:
    ratio = schedule.sigma[j] / schedule.sigma[k]
    return Step(k, ratio, schedule.alpha[j] - ratio * schedule.alpha[k])


def _half_log_snr(schedule: Schedule, k: int) -> float:
    return math.log(schedule.alpha[k] / schedule.sigma[k])
