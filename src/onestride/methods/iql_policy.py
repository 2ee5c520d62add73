"""The policy of implicit Q-learning (Kostrikov et al. 2022): cloning that counts better actions more.

    A(s, a) = min Q(s, a) - V(s)        loss = min(exp(beta A), 100) |f(s) - a|^2          (eq. 7)

Q and V are those of the run's critic ``iql``, trained before; Q is the slow target pair, as in the source. They do not
change while the policy learns, so advantages are computed once for all rows. The source fits a Gaussian whose deviation
does not depend on the state, and acts by its mean; the mean alone is learnt here, which is its form for a deterministic
actor.

Rewards are scaled so that episodes' returns span 1000 (``selectors.iql.reward_scale``), the scale that beta belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from onestride.methods.cloning import BC, Cloning, CloningConfig
from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class IQLPolicyConfig(CloningConfig):
    """The source's values for locomotion. It has beta 10 on AntMaze, and 3 with dropout 0.1 on Adroit."""

    beta: float = 3.0  # inverse temperature, per scaled return
    largest_weight: float = 100.0  # of a row

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0 or self.largest_weight <= 0:
            raise ValueError(
                "the IQL policy needs beta of at least 0 and largest_weight above 0, got "
                f"{self.beta=}, {self.largest_weight=}"
            )


class IQLPolicy(Cloning):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised."""

    def __init__(self, config: IQLPolicyConfig, spec: PlanSpec) -> None:
        super().__init__(config, spec)
        self.config: IQLPolicyConfig = config

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted squared error on {"plans" (B, H, D), "context" (B, C), "advantage" (B,)}."""
        weight = (self.config.beta * batch["advantage"]).exp().clamp(max=self.config.largest_weight)
        return {"loss": (weight * self.errors(batch, generator)).mean(), "weight": weight.mean()}


def _advantages(material: Any, critic: Any) -> dict[str, Tensor]:
    """What the critic says of every window's first action."""
    return {"advantage": critic.advantages(material.first_rows())}


IQL_POLICY = replace(
    BC, name="iql-policy", label="IQL", colour="#999933", config=IQLPolicyConfig(), build=IQLPolicy, critic="iql",
    columns=_advantages,
)  # fmt: skip
