"""Flow Q-learning (Park et al. 2025): a one-step actor, distilled from a flow of the data's actions and drawn to Q.

    flow    |v(s, x_t, t) - (a - x_0)|^2,    x_t = (1 - t) x_0 + t a,  x_0 ~ N(0, 1),  t ~ U(0, 1)
    critic  (Q_i(s, a) - r - discount * mean_j Q_j'(s', f(s', x_0)))^2, nothing after a terminal step
    actor   alpha |f(s, x_0) - flow(s, x_0)|^2 - lambda mean_i Q_i(s, f(s, x_0)),    lambda = 1 / mean |Q|

``flow`` integrates v from x_0 by Euler's method; Q' are slow averages of Q. The actor f alone is deployed: a plan of
one row, from noise in its action columns. It keeps the flow's modes as far as alpha asks, and goes where Q is larger.

Actions are standardised and rewards scaled so that episodes' returns span 1000, as for the critic ``iql``. lambda, an
option of the source that is off there and on here, frees alpha from that scale. Actions are clipped to the range of the
data where they are judged or aimed at; the source clips to its environments' limits, -1 and 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from onestride.methods.method import Group, Method
from onestride.networks.ensemble import Ensemble
from onestride.networks.plan_mlp import PlanMLP
from onestride.plans.given import mask_of
from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class FQLConfig:
    """The source's values, in smaller networks: it has four layers of 512. alpha is what it tunes to each task."""

    hidden: int = 256
    layers: int = 3  # of flow and actor; the critics have 2
    alpha: float = 10.0  # weight of the distillation
    normalise_q: bool = True  # divide Q in the actor's loss by its mean size; off in the source
    flow_steps: int = 10
    target: Literal["mean", "min"] = "mean"  # of the two critics, in the critics' own target
    discount: float = 0.99
    polyak: float = 0.005

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1 or self.flow_steps < 1 or self.alpha < 0:
            raise ValueError(
                "fql needs hidden, layers and flow_steps of at least 1 and alpha of at least 0, got "
                f"{self.hidden=}, {self.layers=}, {self.flow_steps=}, {self.alpha=}"
            )
        if not (0 <= self.discount < 1 and 0 < self.polyak <= 1) or self.target not in ("mean", "min"):
            raise ValueError(
                "fql needs 0 <= discount < 1, polyak in (0, 1] and target mean or min, got "
                f"{self.discount=}, {self.polyak=}, {self.target=}"
            )


class FQLActor(nn.Module):
    """A generator with one network call; plans (B, 1, D) and context (B, C) are normalised."""

    fixed: Tensor
    nfe = 1
    prior_scaled = False  # it starts from its noise as it was in training

    def __init__(self, config: FQLConfig, spec: PlanSpec) -> None:
        super().__init__()
        if spec.horizon != 1 or not spec.starts_with_observation:
            raise ValueError(
                f"fql learns from single steps: its plan is one row, [state | action], and the task's has "
                f"{spec.horizon} rows and known entries {[list(block) for block in spec.blocks]}; this task has no row "
                "of fql"
            )
        self.config, self.spec = config, spec
        self.network = PlanMLP(1, spec.row_dim, spec.context_dim, hidden=config.hidden, layers=config.layers)
        self.register_buffer("fixed", mask_of(spec), persistent=False)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Plans (B, 1, D) from a prior (B, 1, D); fixed entries come back bit for bit. All noise is in the prior."""
        del generator
        return torch.where(self.fixed, prior, self.network(prior, context))


class FQL(nn.Module):
    """What is trained: the actor, the flow that it is distilled from, two critics and their slow averages."""

    low: Tensor
    high: Tensor

    def __init__(self, actor: FQLActor) -> None:
        super().__init__()
        config, spec = actor.config, actor.spec
        self.config, self.deployed = config, actor
        self.flow = PlanMLP(1, spec.row_dim, spec.context_dim + 1, hidden=config.hidden, layers=config.layers)
        self.q = Ensemble(2, spec.row_dim + spec.context_dim, config.hidden)
        self.slow = copy.deepcopy(self.q).requires_grad_(False)
        # The range of every column in the batches so far; kept, so that a resumed run goes on with it.
        self.register_buffer("low", torch.full((spec.row_dim,), torch.inf))
        self.register_buffer("high", torch.full((spec.row_dim,), -torch.inf))

    def groups(self) -> Sequence[Group]:
        """Return critics, flow and actor, in the order of a step."""
        parts = {"critic": self.q, "flow": self.flow, "actor": self.deployed}
        return [Group(phase, list(part.parameters())) for phase, part in parts.items()]

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return a phase's loss on a batch of steps (``Needs``), in float32: differences of Q are small."""
        with torch.autocast(batch["plans"].device.type, enabled=False):
            losses = {"critic": self._critic_loss, "flow": self._flow_loss, "actor": self._actor_loss}
            return losses[phase](batch, rng)

    def _critic_loss(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """The slow averages take in the optimiser's last step first: between steps nothing else happens."""
        plans = batch["plans"]
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.q.parameters(), strict=True):
                slow.lerp_(fast, self.config.polyak)
            seen = plans.flatten(0, 1)
            self.low.copy_(torch.minimum(self.low, seen.amin(0)))
            self.high.copy_(torch.maximum(self.high, seen.amax(0)))
            following = self.deployed.sample(self.noised(batch["next_plans"], rng), batch["next_context"])
            said = self._judged(self.slow, self.clipped(following), batch["next_context"])
            said = said.mean(0) if self.config.target == "mean" else said.amin(0)
            target = batch["reward"] + self.config.discount * (1 - batch["terminated"]) * said
        q = self._judged(self.q, plans, batch["context"])
        return {"loss": (q - target).square().mean(), "q": q.mean()}

    def _flow_loss(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        plans = batch["plans"]
        start = self.noised(plans, rng)
        t = torch.rand(len(plans), 1, 1, generator=rng, device=plans.device)
        error = self._velocity(torch.lerp(start, plans, t), batch["context"], t[:, 0]) - (plans - start)
        return {"loss": self._mean_square(error)}

    def _actor_loss(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        prior, context = self.noised(batch["plans"], rng), batch["context"]
        with torch.no_grad():
            aim = self.flowed(prior, context)
        plans = self.deployed.sample(prior, context)
        distillation = self._mean_square(plans - aim)
        q = self._judged(self.q, self.clipped(plans), context).mean(0)
        scale = 1 / q.detach().abs().mean().clamp(min=1e-6) if self.config.normalise_q else 1.0
        return {"loss": self.config.alpha * distillation - scale * q.mean(), "distillation": distillation}

    def flowed(self, prior: Tensor, context: Tensor) -> Tensor:
        """Return what the flow makes of noise: plans (B, 1, D) from a prior (B, 1, D), by Euler's method, clipped."""
        x, steps = prior, self.config.flow_steps
        for i in range(steps):
            t = torch.full((len(x), 1), i / steps, device=x.device)
            x = torch.where(self.deployed.fixed, prior, x + self._velocity(x, context, t) / steps)
        return self.clipped(x)

    def noised(self, plans: Tensor, rng: torch.Generator) -> Tensor:
        """Return plans (B, 1, D) with noise in place of their actions."""
        noise = torch.randn(plans.shape, generator=rng, device=plans.device)
        return torch.where(self.deployed.fixed, plans, noise)

    def clipped(self, plans: Tensor) -> Tensor:
        """Return plans (B, 1, D) with actions within the range of the data's."""
        within = torch.minimum(torch.maximum(plans, self.low), self.high)
        return torch.where(self.deployed.fixed, plans, within)

    def _velocity(self, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
        """The flow's velocity (B, 1, D) at x (B, 1, D) and t (B, 1)."""
        return self.flow(x, torch.cat((context, t), 1))

    def _judged(self, critics: Ensemble, plans: Tensor, context: Tensor) -> Tensor:
        return critics(torch.cat((plans.flatten(1), context), 1))

    def _mean_square(self, error: Tensor) -> Tensor:
        """Of the actions (B, 1, A)."""
        return error[..., self.deployed.spec.state_dim :].square().mean()


def _learner(actor: nn.Module, _teacher: nn.Module | None, _config: FQLConfig) -> nn.Module:
    assert isinstance(actor, FQLActor)
    return FQL(actor)


FQL_METHOD = Method(
    name="fql", label="FQL", colour="#44AA99", config=FQLConfig(), build=FQLActor, needs="transitions",
    learner=_learner, temperatures=((1.0,), (1.0,)), shortest=True,
)  # fmt: skip
