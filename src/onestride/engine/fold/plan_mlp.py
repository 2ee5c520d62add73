"""The fold of generators that are one plain network of the plan and its context."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.affine import affine, dense, exact
from onestride.engine.fold.parts import Parts, beside_context, without_noise
from onestride.methods.cloning import Cloning
from onestride.methods.fql import FQLActor
from onestride.networks.plan_mlp import PlanMLP


def fold_cloning(generator: Cloning) -> Parts:
    """Return the network's first layer without its columns of noise, what lies between, and its last layer."""
    parts = fold_plan_mlp(generator.network)
    return parts._replace(first=without_noise(parts.first, generator.fixed))


def fold_flow_actor(actor: FQLActor) -> Parts:
    """Return the actor's network, which sees its noise as it is."""
    return fold_plan_mlp(actor.network)


def fold_plan_mlp(network: PlanMLP) -> Parts:
    """Return the network's first layer, what lies between, and its last layer."""
    return Parts(beside_context(network.plan, network.context), PlanMLPBody(network), affine(network.output))


class PlanMLPBody(nn.Module):
    """From the first layer's pre-activations (N, hidden) to what the last layer sees (N, hidden)."""

    def __init__(self, network: PlanMLP) -> None:
        super().__init__()
        self.norms = nn.ModuleList(exact(norm) for norm in network.norms)
        self.products = nn.ModuleList(dense(affine(layer)) for layer in network.products)

    def forward(self, h: Tensor) -> Tensor:
        h = F.silu(self.norms[0](h))
        for product, norm in zip(self.products, list(self.norms)[1:], strict=True):
            h = F.silu(norm(product(h)))
        return h
