"""Consistency Policy: a student that jumps along its EDM teacher's path from any noise level to any lower one.

    G(x, t, s) = s/t x + (1 - s/t) g(x, t, s)      from level t to s; G(x, t, t) = x, exactly
    plan       = G(t_max noise, t_max, t_min)      one network call
    three calls: noise of a lower level on the plan, and again from there

Two losses, of equal weight (Prasad et al. 2024, after the consistency trajectory models of Kim et al. 2024):

    consistency    G(x_t, t, s) against G(x_u, u, s), where the teacher's Heun step leads from x_t to x_u at the level
                   below t; both brought to t_min by weights that do not learn, the second behind a stop-gradient
    score          g(x_t, t, t) is a denoiser: the teacher's own loss

Its authors' "Huber" loss is ``sqrt(e^4 + c^2) - c`` of each entry's error e, nearly the squared error. Here it is the
pseudo-Huber of a plan's error, ``sqrt(|e|^2 + c^2) - c``. What else they do otherwise: docs/methods/few-step.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from onestride.methods.consistency import pseudo_huber
from onestride.methods.edm import NoiseLevels, Preconditioned, as_level, heun_step, level_weight, noised
from onestride.methods.method import Method, Stepped
from onestride.methods.taught import TaughtStudent, taught
from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class ConsistencyPolicyConfig(NoiseLevels):
    """The paper's values; the network and sigma_data are the teacher's.

    Attributes:
        steps: network calls of a decision.
        levels: of the grid of noise levels; the paper's 80 bins.
        consistency_weight, score_weight: of the two losses.
        score_share: of the grid, from the highest level down, that the score loss draws its levels from.
        score_until: what the score loss asks: the denoiser g(x, t, t) ("same"), or as the authors' code the plan
            G(x, t, t_min) ("lowest"). The second draws plans to the mean of the data and is no fixed point of the
            teacher's path.
        huber: the loss is quadratic below this error per entry, and the error's norm above.
        target_decay: of the average of the weights that the student is compared with; 0, as in the authors' code: its
            present ones. What is learnt at one level passes through the average on its way to the next.
        first_action_weight: of the executed action in the loss; the paper weighs all entries alike.
    """

    sigma_min: float = 0.02
    width: int = 640
    blocks: int = 6
    steps: int = 1
    levels: int = 80
    consistency_weight: float = 1.0
    score_weight: float = 1.0
    score_share: float = 0.7
    score_until: Literal["same", "lowest"] = "same"
    huber: float = 0.00054
    target_decay: float = 0.0
    first_action_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.levels < 2 or self.steps >= self.levels:
            raise ValueError(f"cp needs 1 <= steps < levels and levels >= 2, got {self.steps=}, {self.levels=}")
        if self.score_until not in ("same", "lowest"):
            raise ValueError(f"config.score_until is {self.score_until!r}; there are same, lowest")
        if not 0 <= self.target_decay < 1:
            raise ValueError(f"config.target_decay is {self.target_decay}, expected 0 <= target_decay < 1")
        if not 0 < self.score_share <= 1:
            raise ValueError(f"config.score_share is {self.score_share}, expected 0 < score_share <= 1")
        if min(self.consistency_weight, self.score_weight) < 0 or self.huber <= 0 or self.first_action_weight <= 0:
            raise ValueError(
                "cp needs no negative weight, huber and first_action_weight above 0, got "
                f"{self.consistency_weight=}, {self.score_weight=}, {self.huber=}, {self.first_action_weight=}"
            )

    @property
    def chain(self) -> list[float]:
        """The levels that are gone back to after the first call, evenly spaced in the grid: its 27th and 54th of 80."""
        grid, stride = self.grid(self.levels), round(self.levels / self.steps)
        return [grid[min(i * stride, self.levels - 2)] for i in range(1, self.steps)]


class ConsistencyPolicy(TaughtStudent):
    """A generator with ``steps`` network calls; plans (B, H, D) and context (B, C) are normalised."""

    config: ConsistencyPolicyConfig
    prior_scaled = False  # it starts from its highest noise level as it is

    def __init__(self, config: ConsistencyPolicyConfig, spec: PlanSpec) -> None:
        f = Preconditioned(
            spec, width=config.width, blocks=config.blocks, sigma_data=config.sigma_data, boundary=config.sigma_min,
            two_times=True,
        )  # fmt: skip
        super().__init__(config, spec, f, target=True)
        self.free = len(spec.free_entries)

    @property
    def nfe(self) -> int:
        """Network calls per decision."""
        return self.config.steps

    @property
    def folds(self) -> bool:
        """Whether the native engine takes it: with one call, after which no more noise is drawn."""
        return self.config.steps == 1

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D); known entries come back bit for bit.

        The context is (B, C), or (1, C) for all candidates alike. ``generator`` draws the noise after the first call.
        """
        high, low = self.config.sigma_max, self.config.sigma_min
        plans = self.jump(self.f, torch.where(self.fixed, prior, high * prior), high, low, context)
        for sigma in self.config.chain:
            eps = torch.randn(prior.shape, generator=generator, device=prior.device, dtype=prior.dtype)
            plans = self.jump(self.f, noised(plans, as_level(sigma, prior), self.fixed, eps), sigma, low, context)
        return plans

    def jump(
        self, g: Callable[..., Tensor], x: Tensor, sigma: Tensor | float, until: Tensor | float, context: Tensor | None
    ) -> Tensor:
        """Return G (B, H, D): x (B, H, D) at level sigma brought to the level until, numbers or (B, 1, 1)."""
        kept = as_level(until, x) / as_level(sigma, x)
        return torch.where(self.fixed, x, kept * x + (1 - kept) * g(x, sigma, context, until))

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return both losses on {"plans" (B, H, D), "context" (B, C)}, and their weighted sum.

        Neighbouring levels differ by little: this is done in float32 whatever the precision of training.
        """
        x0, context = (batch[name].to(self.loss_weight.dtype) for name in ("plans", "context"))
        with torch.autocast(x0.device.type, enabled=False):
            consistency = self._consistency(x0, context, generator)
            score = self._score(x0, context, generator)
        loss = self.config.consistency_weight * consistency + self.config.score_weight * score
        return {"loss": loss, "consistency": consistency, "score": score}

    def _consistency(self, x0: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        """Root mean square error, by the pseudo-Huber, between two ways to t_min."""
        t, u, s = self._levels(len(x0), generator, x0.device)
        low, target, teacher = self.config.sigma_min, self.target, self.teacher_on(x0.device)
        assert target is not None
        self.follow()
        x = noised(x0, t, self.fixed, torch.randn(x0.shape, generator=generator, device=x0.device))
        with torch.no_grad():
            below = heun_step(lambda x, sigma: teacher.denoise(x, sigma, context), x, t, u)
            wanted = self.jump(target, self.jump(target, below, u, s, context), s, low, context)
        said = self.jump(target, self.jump(self.f, x, t, s, context), s, low, context)
        c = self.config.huber * math.sqrt(self.free)
        return pseudo_huber(said - wanted, self.loss_weight, c).mean() / math.sqrt(self.free)

    def _score(self, x0: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.config.roots
        share = self.config.score_share * torch.rand(len(x0), 1, 1, generator=generator, device=x0.device)
        t = (high + share * (low - high)) ** self.config.rho
        x = noised(x0, t, self.fixed, torch.randn(x0.shape, generator=generator, device=x0.device))
        if self.config.score_until == "same":
            said = self.f(x, t, context, t)
        else:
            said = self.jump(self.f, x, t, self.config.sigma_min, context)
        square = level_weight(t, self.config.sigma_data) * self.loss_weight * (said - x0).square()
        return square.flatten(1).sum(1).mean() / self.free

    def _levels(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Levels t, the one below, and s, at or under that one (B, 1, 1), evenly drawn from the grid."""
        grid, last = torch.tensor(self.config.grid(self.config.levels), device=device), self.config.levels - 1
        i = torch.randint(last, (count,), generator=generator, device=device)
        share = torch.rand(count, generator=generator, device=device)
        j = (i + 1 + (share * (last - i)).floor().long()).clamp(max=last)
        t, u, s = grid[torch.stack((i, i + 1, j))][..., None, None]
        return t, u, s


# It starts from its noise as it was in training.
CP = Method(
    name="cp", label="CP", colour="#DDCC77", config=ConsistencyPolicyConfig(), build=ConsistencyPolicy, teacher="edm",
    learner=taught, temperatures=((1.0,), (1.0,)),
    stepped=Stepped("calls", "{} call", lambda config, steps: replace(config, steps=steps)),
)  # fmt: skip
