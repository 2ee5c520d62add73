"""Minimal iterative policy: regression in two steps, the second of which corrects the first (Pan et al. 2025, MIP).

    a_0  = f(0, first call, known entries, context)         loss |a_0 - data|^2
    plan = f(t* a_0, second call, ...)                      loss |f(t* data + (1 - t*) noise, second call) - data|^2

Two network calls without noise: the answer is one plan, and no distribution is fitted. Each call is taught alone, the
second on data with a little noise in it, so that it mends errors of the first up to the size of that noise. Where the
data did several things the first call says their mean, as any regression does.

Source: "Much Ado About Noising: Dispelling the Myths of Generative Robotic Control", arXiv 2512.01809.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onestride.methods.method import Method
from onestride.networks.plan_network import NetworkConfig, plan_network
from onestride.plans.given import loss_weights, mask_of
from onestride.plans.spec import PlanSpec

#: The network's noise index says which call it is: t is 0 and t* alone.
FIRST, SECOND = 0, 1


@dataclass(frozen=True)
class MIPConfig(NetworkConfig):
    """The network is the teacher's, t* the paper's.

    Attributes:
        t_star: share of the plan in what the second call is given, the rest is noise in training.
        second_weight: of the second call's loss; 1 in the paper. Its authors' code divides the two errors by t* and by
            1 - t* before they are squared, which is a weight of 81.
        first_action_weight: of the executed action in the loss; the paper weighs all entries alike.
    """

    t_star: float = 0.9
    second_weight: float = 1.0
    first_action_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.t_star < 1 or self.second_weight <= 0 or self.first_action_weight <= 0:
            raise ValueError(
                "mip needs 0 < t_star < 1, second_weight and first_action_weight above 0, got "
                f"{self.t_star=}, {self.second_weight=}, {self.first_action_weight=}"
            )


class MIPPolicy(nn.Module):
    """A generator with two network calls; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor
    nfe = 2
    deterministic = True  # its candidates are all alike
    prior_scaled = False  # there is no noise to scale

    def __init__(self, config: MIPConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        self.network = plan_network(config, spec.horizon, spec.row_dim, spec.context_dim, n_steps=SECOND)
        self.free = len(spec.free_entries) / (spec.horizon * spec.row_dim)  # share of them
        self.register_buffer("fixed", mask_of(spec), persistent=False)
        self.register_buffer("loss_weight", loss_weights(spec, config.first_action_weight), persistent=False)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D), whose noise is not used; known entries come back as they are.

        The context is (B, C), or (1, C) for all candidates alike.
        """
        del generator
        first = self.network(torch.where(self.fixed, prior, 0.0), FIRST, context)
        second = self.network(torch.where(self.fixed, prior, self.config.t_star * first), SECOND, context)
        return torch.where(self.fixed, prior, second)

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the two regressions' loss on {"plans" (B, H, D), "context" (B, C)}, and each by itself."""
        plans, context, t = batch["plans"], batch["context"], self.config.t_star
        noise = torch.randn(plans.shape, generator=generator, device=plans.device)
        between = t * plans + (1 - t) * noise
        losses = []
        for call, x in ((FIRST, torch.zeros_like(plans)), (SECOND, between)):
            said = self.network(torch.where(self.fixed, plans, x), call, context)
            losses.append(((said - plans).square() * self.loss_weight).mean() / self.free)
        return {"loss": losses[0] + self.config.second_weight * losses[1], "first": losses[0], "second": losses[1]}


# Noise changes nothing, so that there is nothing to rank.
MIP = Method(name="mip", label="MIP", colour="#332288", config=MIPConfig(), build=MIPPolicy, ranked=False)
