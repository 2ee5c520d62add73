"""A residual MLP at one noise index: what one-step planners are made of, and return models at k = 0."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.affine import affine, dense, exact, fold_gain
from onestride.engine.fold.parts import Parts, beside_context
from onestride.networks.embeddings import sinusoidal
from onestride.networks.mlp import ResidualMLP


def fold_residual(network: ResidualMLP, k: Tensor | int, until: Tensor | None = None) -> Parts:
    """Return the network's first layer, its blocks, and its last, at a noise index, and where it is told a second one.

    An index is an int, or any real number (1,).
    """
    network = exact(network)
    features = network.features[k][None] if isinstance(k, int) else sinusoidal(k.double(), network.omega)
    film = film_at(network, features, None if until is None else sinusoidal(until.double(), network.omega))
    last = fold_gain(affine(network.output), film[-2], film[-1])
    return Parts(beside_context(network.input, network.context), ResidualBody(network, film), last)


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
