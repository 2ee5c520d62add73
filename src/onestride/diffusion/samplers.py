"""Solvers that turn noise (k = N) into data (k = 0), and the one loop that runs them.

With a data prediction ``x0(x, k)`` every solver here is a linear update:

    x_j = c_x x_k + c_x0 x0(x_k, k) + c_previous x0(the call before) + c_noise z,    z ~ N(0, I)

Where x0 is clipped, as diffusers does for Diffusion Policy, DDIM's noise is that of the estimate before it was clipped:
``+ c_clipped (clipped x0 - x0)``.

A solver is therefore a function from a schedule and a grid of indices to these coefficients, which are Python floats
and known before the first network call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from onestride.diffusion.schedule import Schedule, Spacing


class Step(NamedTuple):
    """One step from index ``k``: the coefficients of the update in the module's docstring."""

    k: int
    x: float
    x0: float
    previous: float = 0.0
    noise: float = 0.0
    clipped: float = 0.0


def ddpm(schedule: Schedule, grid: Sequence[int]) -> list[Step]:
    """Return the steps of ancestral sampling from ``q(x_j | x_k, x_0)`` (Ho et al. 2020, eq. 6 and 7).

    The variance is the posterior's, beta-tilde, which is 0 on the step to j = 0. For any pair j < k, with
    ``r = alpha_k / alpha_j``, the noise added between them is ``v = sigma_k^2 - r^2 sigma_j^2``.
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
    """Return the steps of deterministic DDIM, eta = 0 (Song, Meng and Ermon 2021, eq. 12).

    It is of first order in the step of log-SNR:
    ``x_j = alpha_j x0 + sigma_j eps`` with ``eps = (x_k - alpha_k x0) / sigma_k``.
    """
    return [_first_order(schedule, k, j) for k, j in pairwise(grid)]


def dpm_solver_pp_2m(schedule: Schedule, grid: Sequence[int]) -> list[Step]:
    """Return the steps of DPM-Solver++(2M), a multistep method of second order (Lu et al. 2022b, Algorithm 2).

    With ``h`` the step of ``lambda = log(alpha / sigma)``, the data prediction is extrapolated to
    ``D = (1 + 1/2r) x0 - 1/2r x0_previous``, ``r = h_previous / h``. The first step has no history, and the step to
    j = 0 has an infinite h. Both are of first order, where the method equals DDIM.
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
        steps.append(step._replace(clipped=0.0))  # a method of data predictions: nothing else of them counts
    return steps


#: The solvers by the names that ``sample(solver=...)`` takes.
SOLVERS: dict[str, Callable[[Schedule, Sequence[int]], list[Step]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm++2m": dpm_solver_pp_2m,
}


@lru_cache(maxsize=64)
def plan_steps(
    schedule: Schedule, solver: str, steps: int | None = None, spacing: Spacing = "even"
) -> tuple[Step, ...]:
    """Return the coefficients of all steps from noise to data.

    Args:
        schedule: noise schedule of N steps.
        solver: a name in ``SOLVERS``.
        steps: number of network calls; default: N.
        spacing: where they are, see ``Schedule.grid``.

    Raises:
        ValueError: the solver is unknown, or ``steps`` is outside 1 ... N.
    """
    if solver not in SOLVERS:
        raise ValueError(f"no solver {solver!r}; there are {', '.join(SOLVERS)}")
    return tuple(SOLVERS[solver](schedule, schedule.grid(schedule.n_steps if steps is None else steps, spacing)))


def sample(
    denoise: Callable[[Tensor, int], Tensor],
    prior: Tensor,
    fixed: Tensor,
    schedule: Schedule,
    *,
    solver: str = "ddim",
    steps: int | None = None,
    spacing: Spacing = "even",
    clip: float | None = None,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Return plans ``(B, H, D)`` generated from a prior ``(B, H, D)``.

    The caller chooses the gradient mode.

    Args:
        denoise: maps ``x (B, H, D)`` and k to an estimate of ``x_0 (B, H, D)``. The context is in its closure.
        prior: noise in the free entries, known values in the fixed ones. It is not changed.
        fixed: bool ``(H, D)``, true for known entries. These equal the prior's at every call of ``denoise`` and in the
            result, bit for bit.
        schedule: noise schedule of N steps.
        solver: a name in ``SOLVERS``.
        steps: number of network calls; default: N.
        spacing: where they are, see ``Schedule.grid``.
        clip: estimates of ``x_0`` are held within -clip ... clip; None: they are as they are.
        generator: of the noise that "ddpm" adds, on the prior's device. Other solvers add no noise.
        noise: the noise itself, ``(noisy_steps(...), B, H, D)``, instead of a generator.

    Raises:
        ValueError: an unknown solver, an impossible number of steps, a mask of another shape or dtype, no generator
            where one is needed, or an estimate of another shape than the plan.
    """
    if fixed.dtype != torch.bool or fixed.shape != prior.shape[1:]:
        raise ValueError(
            f"fixed is {fixed.dtype} {tuple(fixed.shape)}, expected torch.bool {tuple(prior.shape[1:])}: "
            f"the (H, D) of prior {tuple(prior.shape)}"
        )
    plan = plan_steps(schedule, solver, steps, spacing)
    if generator is None and noise is None and any(step.noise for step in plan):
        raise ValueError(f"solver {solver!r} draws noise: pass generator=torch.Generator(device={str(prior.device)!r})")
    x, x0_previous = prior, None
    given = iter(noise.unbind(0) if noise is not None else ())
    for step in plan:
        x0 = denoise(x, step.k)
        if x0.shape != prior.shape:
            raise ValueError(f"denoise returned {tuple(x0.shape)} for a plan of shape {tuple(prior.shape)}")
        estimate, x0 = x0, x0 if clip is None else x0.clamp(-clip, clip)
        x = torch.add(x0 * step.x0, x, alpha=step.x)
        if clip is not None and step.clipped:
            x = torch.add(x, x0 - estimate, alpha=step.clipped)
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


def noisy_steps(schedule: Schedule, solver: str, steps: int | None = None, spacing: Spacing = "even") -> int:
    """Return how many steps of a run add noise. Arguments: see ``plan_steps``."""
    return sum(step.noise > 0 for step in plan_steps(schedule, solver, steps, spacing))


def x0_from_eps(x: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return the data ``(B, H, D)`` that a noise prediction implies: ``(x - sigma eps) / alpha``."""
    return (x - sigma * eps) / alpha


def eps_from_x0(x: Tensor, x0: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Return the noise ``(B, H, D)`` that a data prediction implies: ``(x - alpha x0) / sigma``; not for k = 0."""
    return (x - alpha * x0) / sigma


def _first_order(schedule: Schedule, k: int, j: int) -> Step:
    ratio = schedule.sigma[j] / schedule.sigma[k]
    kept = ratio * schedule.alpha[k]
    return Step(k, ratio, schedule.alpha[j] - kept, clipped=kept)


def _half_log_snr(schedule: Schedule, k: int) -> float:
    return math.log(schedule.alpha[k] / schedule.sigma[k])
