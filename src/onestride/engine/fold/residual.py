"""A residual MLP at one noise index: the body of consistency students, and of return models at k = 0."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.affine import affine, dense, fold_gain
from onestride.networks.mlp import ResidualMLP


class ResidualBody(nn.Module):
    """A residual MLP between its input and its output layer, at one noise index: (N, W) -> (N, W), normalised.

    What k says is then a constant, and part of the products.
    """

    def __init__(self, network: ResidualMLP, film: Tensor) -> None:
        """film: scales and shifts (2 blocks + 2, W) at that index."""
        super().__init__()
        self.width = network.width
        self.expand = nn.ModuleList(
            dense(fold_gain(affine(layer), film[2 * i], film[2 * i + 1])) for i, layer in enumerate(network.expand)
        )
        self.contract = nn.ModuleList(dense(affine(layer)) for layer in network.contract)

    def forward(self, h: Tensor) -> Tensor:
        for expand, contract in zip(self.expand, self.contract, strict=True):
            h = h + contract(F.silu(expand(F.layer_norm(h, (self.width,)))))
        return F.layer_norm(h, (self.width,))


def film_at(network: ResidualMLP, features: Tensor, until: Tensor | None = None) -> Tensor:
    """Scales and shifts (2 blocks + 2, W) for the features (1, 64) of a noise index, and of a second one."""
    return network.film(network.embedded(features, until)).view(-1, network.width)
