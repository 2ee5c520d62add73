"""One step from noise to plan without a teacher, by the identity of mean velocities (Geng et al. 2025, MeanFlow).

    z_t  = (1 - t) data + t noise            v = noise - data, the velocity along that line
    u    = the mean velocity between r and t: z_r = z_t - (t - r) u(z_t, r, t)
    u    = v - (t - r) du/dt                 the identity; d/dt along v, by one forward derivative of the network
    plan = noise - u(noise, 0, 1)            one network call

The right side of the identity is a target, behind a stop-gradient. Where r = t it is v, which is flow matching.

Source: "Mean Flows for One-step Generative Modeling", arXiv 2505.13447.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onestride.methods.method import Method
from onestride.networks.derivatives import directional
from onestride.networks.mlp import ResidualMLP
from onestride.networks.plan_network import NetworkConfig, plan_network
from onestride.plans.given import loss_weights, mask_of
from onestride.plans.spec import PlanSpec

#: The network is told k = 5 t and 5 (t - r), as many radians as its fastest feature turns: slow ones, since du/dt is
#: learnt from the network's own.
K_STEPS = 5


@dataclass(frozen=True)
class MeanFlowConfig(NetworkConfig):
    """The network is the teacher's; the rest is the paper's for its smaller images (CIFAR-10).

    Attributes:
        share: of a batch's rows in which r < t; in the others r = t.
        time_mean, time_std: t and r are drawn from a logit-normal with these, the larger is t.
        power, offset: a row's loss is weighed by ``1 / (|error|^2 + offset)^power``; power 0 is the squared error.
        first_action_weight: of the executed action in the loss; the paper weighs all entries alike.
    """

    share: float = 0.75
    time_mean: float = -2.0
    time_std: float = 2.0
    power: float = 0.75
    offset: float = 1e-3
    first_action_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1 or self.time_std <= 0:
            raise ValueError(
                f"meanflow needs 0 <= share <= 1 and time_std above 0, got {self.share=}, {self.time_std=}"
            )
        if self.power < 0 or self.offset <= 0 or self.first_action_weight <= 0:
            raise ValueError(
                "meanflow needs power >= 0, offset and first_action_weight above 0, got "
                f"{self.power=}, {self.offset=}, {self.first_action_weight=}"
            )


class MeanFlowPlanner(nn.Module):
    """A generator with one network call; plans (B, H, D) and context (B, C) are normalised."""

    fixed: Tensor
    loss_weight: Tensor
    nfe = 1

    def __init__(self, config: MeanFlowConfig, spec: PlanSpec) -> None:
        super().__init__()
        self.config = config
        shape = (spec.horizon, spec.row_dim, spec.context_dim)
        self.network = plan_network(config, *shape, n_steps=K_STEPS, two_times=True)
        self.register_buffer("fixed", mask_of(spec), persistent=False)
        self.register_buffer("loss_weight", loss_weights(spec, config.first_action_weight), persistent=False)

    @property
    def folds(self) -> bool:
        """Whether the native engine takes its network."""
        return isinstance(self.network, ResidualMLP)

    def velocity(self, z: Tensor, r: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        """Return u, the mean velocity (B, H, D) of z (B, H, D) between times r and t (1,) or (B,); 0 where known."""
        said = self.network(z, K_STEPS * t, context, K_STEPS * (t - r))
        return torch.where(self.fixed, 0.0, said)

    def sample(self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D); known entries come back bit for bit.

        The context is (B, C), or (1, C) for all candidates alike. All noise is in the prior: ``generator`` is not used.
        """
        del generator
        end, start = torch.zeros(1, device=prior.device), torch.ones(1, device=prior.device)
        return torch.where(self.fixed, prior, prior - self.velocity(prior, end, start, context))

    def training_step(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return how far u is from its identity, on {"plans" (B, H, D), "context" (B, C)}; paper, eq. 9 to 11 and 22.

        "error": the same, not weighed. Derivatives ask for more digits than bfloat16 has: this is done in float32
        whatever the precision of training.
        """
        plans, context = (batch[name].to(self.loss_weight.dtype) for name in ("plans", "context"))
        with torch.autocast(plans.device.type, enabled=False):
            r, t = self._times(len(plans), generator, plans.device)
            noise = torch.randn(plans.shape, generator=generator, device=plans.device)
            v = torch.where(self.fixed, 0.0, noise - plans)
            z = torch.where(self.fixed, plans, plans + t[:, None, None] * v)
            target, moving = v.clone(), round(self.config.share * len(plans))
            if moving:
                rows = slice(moving)
                ours = context[rows].detach()
                target[rows] = identity(
                    lambda z, r, t: self.velocity(z, r, t, ours), z[rows], r[rows], t[rows], v[rows]
                )
            error = self.velocity(z, r, t, context) - target
            square = (self.loss_weight * error.square()).flatten(1).sum(1)
            weight = (square.detach() + self.config.offset) ** -self.config.power
        return {"loss": (weight * square).mean(), "error": square.detach().mean()}

    def _times(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Times r <= t (B,), r < t in the first rows and r = t in the others; the rows of a batch are in no order."""
        normal = torch.randn(2, count, generator=generator, device=device)
        times = (self.config.time_mean + self.config.time_std * normal).sigmoid()
        t = times.amax(0)
        moving = torch.arange(count, device=device) < round(self.config.share * count)
        return torch.where(moving, times.amin(0), t), t


def identity(u: Callable[[Tensor, Tensor, Tensor], Tensor], z: Tensor, r: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Return ``v - (t - r) du/dt``, what the mean velocity u(z, r, t) has to be (MeanFlow, eq. 6 and 8).

    Args:
        u: (z (B, H, D), r (B,), t (B,)) -> (B, H, D).
        z, r, t: where.
        v: the velocity dz/dt (B, H, D). No gradient passes through what is returned.
    """
    with torch.no_grad():
        _, slope = directional(u, (z, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
    return v - (t - r)[:, None, None] * slope


# Samples are drawn from the noise that training knew.
MEANFLOW = Method(
    name="meanflow", label="MeanFlow", colour="#117733", config=MeanFlowConfig(), build=MeanFlowPlanner,
    temperatures=((1.0,), (1.0,)),
)  # fmt: skip
