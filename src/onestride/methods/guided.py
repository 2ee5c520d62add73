"""Classifier guidance: the teacher's estimate of the data, moved uphill on the return model at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.methods.wrapped import WrappedPlanner


class GuidedPlanner(WrappedPlanner):
    """A generator: the planner with x0 <- x0 + weight * sigma_k^2 / alpha_k * d value / d x_k.

    With the exact x0 and weight 1 this samples p(x0) exp(value) (Dhariwal and Nichol 2021; Janner et al. 2022):
    the score gains the gradient, and x0 = (x_k + sigma_k^2 score) / alpha_k. ``weight`` counts in standardised
    returns; they come from ``returns.gradient(x (B, H, D), k, context)``, as of ``selectors.returns.ReturnModel``, with
    the planner's ``schedule``. It is called and differentiated as often as the denoiser, which ``nfe`` counts. Fixed
    entries are put back after every step as always.
    """

    def __init__(self, planner: DiffusionPlanner, returns: Any, weight: float) -> None:
        super().__init__(planner)
        if returns.schedule != planner.schedule:
            raise ValueError(
                f"the return model knows {returns.schedule.n_steps} noise levels, the planner has "
                f"{planner.schedule.n_steps}; train it with --returns.n-steps {planner.schedule.n_steps}"
            )
        if planner.conditions is not None:
            raise ValueError("a planner that takes conditions takes no return model; ask for a return")
        self.returns, self.weight = returns, weight

    def denoise(self, x: Tensor, k: int, context: Tensor | None) -> Tensor:
        x0 = self.planner.denoise(x, k, context)
        schedule = self.planner.schedule
        scale = self.weight * schedule.sigma[k] ** 2 / schedule.alpha[k]
        return torch.add(x0, self.returns.gradient(x, k, context), alpha=scale)

    def sample(
        self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None, **more: Any
    ) -> Tensor:
        """As ``DiffusionPlanner.sample``, without conditions."""
        del more
        return self.planner.solve(lambda x, k: self.denoise(x, k, context), prior, generator)
