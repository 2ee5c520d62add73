"""The teacher in EDM's form: a preconditioned denoiser D(x, sigma) and Heun's method (Karras et al. 2022).

Noise is added to the data, not mixed with it: ``x = x_0 + sigma eps`` with sigma from ``sigma_min`` to ``sigma_max``.
The consistency students are made of the same parts. Entries that the observation fixes are never noised and never
scaled: the network sees them as they are, and they come back as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from onestride.methods.method import Method, Stepped
from onestride.networks.mlp import ResidualMLP
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec

#: The network's index k = 16 c_noise = 4 log sigma runs from -25 to 18, slowly enough that neighbouring levels of a
#: consistency student's finest grid (0.4 to 2 per cent apart) look alike, and the slowest feature of 20 steps spans it.
_K_PER_C_NOISE, _K_STEPS = 16.0, 20


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels as in EDM, but for sigma_data: its images have 0.5, plans are z-scored and have 1."""

    sigma_data: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max < math.inf and self.sigma_data > 0 and self.rho > 0):
            raise ValueError(
                "noise levels need 0 < sigma_min < sigma_max, sigma_data > 0 and rho > 0, got "
                f"{self.sigma_min=}, {self.sigma_max=}, {self.sigma_data=}, {self.rho=}"
            )

    def grid(self, count: int) -> list[float]:
        """``count`` levels from sigma_max down to sigma_min, evenly spaced in ``sigma^(1/rho)`` (EDM, eq. 5).

        One level is sigma_max alone.
        """
        if count == 1:
            return [self.sigma_max]
        low, high = self.roots
        inner = [(high + i / (count - 1) * (low - high)) ** self.rho for i in range(1, count - 1)]
        return [self.sigma_max, *inner, self.sigma_min]

    @property
    def roots(self) -> tuple[float, float]:
        """``sigma^(1/rho)`` of the lowest and the highest level."""
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)


@dataclass(frozen=True)
class EDMConfig(NoiseLevels):
    """The network's shape, what it is trained on and how it samples; EDM's values, the teacher's network."""

    width: int = 640
    blocks: int = 6
    steps: int = 18  # of Heun's method, two network calls each but for the last; 1: the estimate at sigma_max
    p_mean: float = -1.2  # log sigma ~ N(p_mean, p_std^2) in training
    p_std: float = 1.2
    first_action_weight: float = 10.0  # of the executed action in the loss, as in Diffuser

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"edm.steps is {self.steps}, expected at least 1")
        if self.p_std <= 0 or self.first_action_weight < 0:
            raise ValueError(
                f"edm needs p_std > 0 and no negative weight, got {self.p_std=}, {self.first_action_weight=}"
            )


class Preconditioned(nn.Module):
    """``c_skip x + c_out F(c_in x, c_noise)`` (EDM, eq. 7 and table 1), with a boundary condition at ``boundary``.

        c_in = 1 / sqrt(sigma^2 + sigma_data^2)        c_skip = sigma_data^2 / ((sigma - boundary)^2 + sigma_data^2)
        c_noise = log(sigma) / 4                       c_out = (sigma - boundary) sigma_data c_in

    With boundary 0 that is EDM; with sigma_min the output there is the input, exactly (Song et al. 2023, appendix C).
    With ``two_times`` F is told a second level too, ``until``.
    """

    fixed: Tensor

    def __init__(
        self, spec: PlanSpec, *, width: int, blocks: int, sigma_data: float, boundary: float = 0.0,
        two_times: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sigma_data, self.boundary = sigma_data, boundary
        shape = (spec.horizon, spec.row_dim, spec.context_dim)
        self.network = ResidualMLP(*shape, n_steps=_K_STEPS, width=width, blocks=blocks, two_times=two_times)
        self.register_buffer("fixed", mask_of(spec), persistent=False)

    def forward(
        self, x: Tensor, sigma: Tensor | float, context: Tensor | None, until: Tensor | float | None = None
    ) -> Tensor:
        """x (B, H, D) with noise of level sigma, one number or (B, 1, 1), in its free entries -> plans (B, H, D)."""
        sigma = as_level(sigma, x)
        above = (sigma - self.boundary) / self.sigma_data
        c_in = (sigma.square() + self.sigma_data**2).rsqrt()
        then = {} if until is None else {"until": self.index(as_level(until, x))}
        output = self.network(torch.where(self.fixed, x, c_in * x), self.index(sigma), context, **then)
        clean = x / (1 + above.square()) + above * self.sigma_data**2 * c_in * output
        return torch.where(self.fixed, x, clean)

    def index(self, sigma: Tensor) -> Tensor:
        """The network's k of a noise level, (1, 1, 1) or (B, 1, 1) -> (1,) or (B,)."""
        return _K_PER_C_NOISE / 4 * sigma.log().flatten()


def as_level(sigma: Tensor | float, x: Tensor) -> Tensor:
    """Return a noise level that is one number or (B, 1, 1) as a tensor like x, (1, 1, 1) or (B, 1, 1)."""
    return sigma if isinstance(sigma, Tensor) else torch.full((1, 1, 1), sigma, dtype=x.dtype, device=x.device)


class EDMPlanner(nn.Module):
    """A generator with ``2 steps - 1`` network calls; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor
    prior_scaled = False  # it starts from its highest noise level as it is

    def __init__(self, config: EDMConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.denoiser = Preconditioned(spec, width=config.width, blocks=config.blocks, sigma_data=config.sigma_data)
        fixed = mask_of(spec)
        weight = torch.ones(fixed.shape)
        weight[0, spec.state_dim :] = config.first_action_weight
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("loss_weight", weight * ~fixed, persistent=False)

    @property
    def nfe(self) -> int:
        """Network calls per decision."""
        return 2 * self.config.steps - 1

    def denoise(self, x: Tensor, sigma: Tensor | float, context: Tensor | None) -> Tensor:
        """D: the estimate of x_0 (B, H, D) at the noise level sigma, one number or (B, 1, 1)."""
        return self.denoiser(x, sigma, context)

    def levels(self, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Return noise levels as training draws them (B, 1, 1)."""
        normal = torch.randn(count, 1, 1, generator=generator, device=device)
        return (self.config.p_mean + self.config.p_std * normal).exp()

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Denoising loss (EDM, eq. 2 and table 1) of batch {"plans" (B, H, D), "context" (B, C)}.

        The level's weight makes the network's own target of unit size at every level; fixed entries weigh nothing.
        """
        x0 = batch["plans"].to(self.loss_weight.dtype)
        sigma = self.levels(len(x0), generator, x0.device)
        x = noised(x0, sigma, self.fixed, torch.randn(x0.shape, generator=generator, device=x0.device))
        error = self.denoise(x, sigma, batch["context"]) - x0
        weight = level_weight(sigma, self.config.sigma_data)
        return {"loss": (weight * self.loss_weight * error.square()).mean()}

    def sample(
        self,
        prior: Tensor,
        context: Tensor | None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Plans (B, H, D) from a prior (B, H, D); fixed entries come back bit for bit.

        The context is (B, C), or (1, C) for all candidates alike. All noise is in the prior: ``generator`` is not used.
        """
        del generator
        x = torch.where(self.fixed, prior, self.config.sigma_max * prior)
        grid = self.config.grid(self.config.steps)
        plans = heun(lambda x, sigma: self.denoise(x, sigma, context), x, grid)
        return torch.where(self.fixed, prior, plans)


Denoise = Callable[[Tensor, Tensor | float], Tensor]


def heun(denoise: Denoise, x: Tensor, grid: Sequence[float]) -> Tensor:
    """From noise of level ``grid[0]`` to data by way of the levels of ``grid`` (EDM, algorithm 1); second order.

    The step from the last level to 0 is Euler's, where it is the denoiser's own estimate.
    """
    for sigma, lower in pairwise(grid):
        x = heun_step(denoise, x, sigma, lower)
    return denoise(x, grid[-1])


def heun_step(denoise: Denoise, x: Tensor, sigma: Tensor | float, lower: Tensor | float) -> Tensor:
    """From sigma to lower > 0, numbers or (B, 1, 1), along ``dx/dsigma = (x - D(x, sigma)) / sigma``."""
    slope = (x - denoise(x, sigma)) / sigma
    euler = x + (lower - sigma) * slope
    slope_there = (euler - denoise(euler, lower)) / lower
    return x + (lower - sigma) * (0.5 * (slope + slope_there))


def level_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Return the weight of a level's squared error: the network's own target has unit size (EDM, table 1)."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def noised(x0: Tensor, sigma: Tensor, fixed: Tensor, eps: Tensor) -> Tensor:
    """``x_0 + sigma eps`` in the free entries; the fixed ones are those of x_0, bit for bit."""
    return torch.where(fixed, x0, x0 + sigma * eps)


#: The teacher that CD learns from; as a planner it is no row of the paper's table.
EDM = Method(
    name="edm", label="EDM teacher", folder="edm", config=EDMConfig(), build=EDMPlanner,
    temperatures=((1.0,), (1.0,)), compared=False,
    stepped=Stepped("heun", "Heun, {} step", lambda config, steps: replace(config, steps=steps)),
)  # fmt: skip
