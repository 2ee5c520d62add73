"""Behaviour cloning: what the data did where it was given the same, by plain regression. The row that all must beat.

    plan = f(known entries, context)        loss = |plan - data|^2 over the free entries

One network call, no noise: the answer is the mean of what the data did, so that two ways round an obstacle become one
through it. A plan is one row, ``[observation | action]``, or a whole one where a task carries out several of its rows
or knows more of a plan than where it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onestride.methods.method import Method
from onestride.networks.plan_mlp import PlanMLP
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class CloningConfig:
    """Two hidden layers of 256, as everywhere in the field (normalised here, see ``PlanMLP``)."""

    hidden: int = 256
    layers: int = 2
    dropout: float = 0.0  # of hidden units, in training
    first_action_weight: float = 1.0  # of the executed action in the loss, where a plan has more rows

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1 or not 0 <= self.dropout < 1 or self.first_action_weight <= 0:
            raise ValueError(
                "cloning needs hidden and layers of at least 1, 0 <= dropout < 1 and first_action_weight above 0, got "
                f"{self.hidden=}, {self.layers=}, {self.dropout=}, {self.first_action_weight=}"
            )


class Cloning(nn.Module):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor
    nfe = 1
    deterministic = True  # its candidates are all alike
    prior_scaled = False  # there is no noise to scale

    def __init__(self, config: CloningConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.network = PlanMLP(spec.horizon, spec.row_dim, spec.context_dim, hidden=config.hidden, layers=config.layers)
        fixed = mask_of(spec)
        weight = torch.ones(fixed.shape)
        weight[0, spec.state_dim :] = config.first_action_weight
        weight = weight * ~fixed
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("loss_weight", weight / weight.sum(), persistent=False)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Plans (B, H, D) from a prior (B, H, D), whose noise is not used; fixed entries come back bit for bit."""
        del generator
        return torch.where(self.fixed, prior, self.network(self.known(prior), context))

    def known(self, plans: Tensor) -> Tensor:
        """Return plans (B, H, D) with 0 in their free entries."""
        return torch.where(self.fixed, plans, 0.0)

    def errors(self, batch: dict[str, Tensor], rng: torch.Generator) -> Tensor:
        """Return the mean squared error of each row's free entries (B,)."""
        plans = batch["plans"]
        said = self.network(self.known(plans), batch["context"], dropout=self.config.dropout, rng=rng)
        return ((said - plans).square() * self.loss_weight).flatten(1).sum(1)

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error on {"plans" (B, H, D), "context" (B, C)}."""
        return {"loss": self.errors(batch, generator).mean()}


BC = Method(name="bc", label="BC", colour="#666666", config=CloningConfig(), build=Cloning, shortest=True, ranked=False)
