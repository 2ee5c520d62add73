"""A plain network from a plan and its context to a plan: few layers, no noise index."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class PlanMLP(nn.Module):
    """Maps plans (B, H, D) and context (B, C) or (1, C) to plans, as one vector of H D numbers.

    ``layers`` hidden layers; every hidden layer is normalised (Ba et al. 2016) and passes SiLU before the next product.
    A native engine has exactly these operations.

    Args:
        horizon: H.
        transition_dim: D.
        context_dim: C.
        hidden: size of the hidden layers.
        layers: number of hidden layers.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, horizon: int, transition_dim: int, context_dim: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        if min(horizon, transition_dim, hidden, layers) < 1 or context_dim < 0:
            raise ValueError(
                f"sizes must be positive (context_dim >= 0), got {horizon=}, {transition_dim=}, {context_dim=}, "
                f"{hidden=}, {layers=}"
            )
        size = horizon * transition_dim
        self.plan = nn.Linear(size, hidden)
        self.context = nn.Linear(context_dim, hidden, bias=False) if context_dim else None
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.products = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.output = nn.Linear(hidden, size)

    def forward(
        self, plans: Tensor, context: Tensor | None, *, dropout: float = 0.0, rng: torch.Generator | None = None
    ) -> Tensor:
        """Return plans (B, H, D). dropout: share of hidden units left out, drawn from ``rng`` (training alone)."""
        h = self.plan(plans.flatten(1))
        if self.context is not None:
            h = h + self.context(context)
        for i, norm in enumerate(self.norms):
            h = F.silu(norm(h if i == 0 else self.products[i - 1](h)))
            if dropout:
                kept = torch.rand(h.shape, generator=rng, device=h.device) >= dropout
                h = h * kept / (1 - dropout)
        return self.output(h).view_as(plans)
