"""One-step generators in two maps and what is between them: the first layer, the trunk, the last layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.diffusion.guidance import GuidedPlanner
from onestride.engine.affine import (
    Affine,
    affine,
    after,
    beside,
    dense,
    exact,
    of_scaled,
    spectral_matrix,
    stacked,
)
from onestride.networks.embeddings import sinusoidal
from onestride.networks.mlp import ResidualMLP
from onestride.students.consistency import ConsistencyStudent
from onestride.students.koopman import FDKLayer, KoopmanStudent, PlainLayer, StaticFactorizedLayer

GUIDED = (
    "a guided teacher differentiates its return model at every step, which no engine does: run the policy itself "
    "(without --engine)"
)


class ReduceError(ValueError):
    """A policy that is no single network call, or ranks nothing; the message says what to do instead."""


class Parts(NamedTuple):
    """A generator in normalised units: first layer of [plan H D | context C], trunk, last layer to H D.

    skip: what of a free entry's noise the plan keeps.
    """

    first: Affine
    trunk: nn.Module
    last: Affine
    skip: float = 0.0


def parts_of(generator: nn.Module) -> Parts:
    if isinstance(generator, KoopmanStudent):
        first = _beside_context(generator.encoder.plan, generator.encoder.context)
        return Parts(first, KoopmanTrunk(generator), affine(generator.decoder[6]))
    if isinstance(generator, ConsistencyStudent):
        return _consistency(generator)
    if isinstance(generator, GuidedPlanner):
        raise ReduceError(GUIDED)
    calls = getattr(generator, "nfe", "many")
    raise ReduceError(
        f"a {type(generator).__name__} makes {calls} network calls per decision and only one can be reduced: distil it "
        "first (`onestride distill`, `onestride consistency`)"
    )


def _beside_context(plan: nn.Linear, context: nn.Linear | None) -> Affine:
    return affine(plan) if context is None else beside(affine(plan), affine(context))


class KoopmanTrunk(nn.Module):
    """From the encoder's first pre-activations (N, hidden) to what the decoder's last layer sees (N, hidden)."""

    def __init__(self, student: KoopmanStudent) -> None:
        super().__init__()
        encoder, decoder, operator = student.encoder.rest, student.decoder, student.operator
        self.norms = nn.ModuleList(exact(norm) for norm in (encoder[0], encoder[3], decoder[1], decoder[4]))
        self.encode, self.decode = dense(affine(encoder[2])), dense(affine(decoder[3]))
        into, out = affine(encoder[5]), affine(decoder[0])  # both ends of the latent space
        self.lift = self.gains = None
        if isinstance(operator, FDKLayer):
            self.lift = dense(
                after(stacked(affine(operator.Q), affine(operator.gamma[0])), into)
            )  # [Q z | gains' first]
            self.gains = dense(affine(operator.gamma[2]))
            self.carry = dense(after(out, affine(operator.P)))
        elif isinstance(operator, PlainLayer):
            self.lift = dense(after(affine(operator.net[0]), into))
            self.carry = dense(after(out, affine(operator.net[2])))
        else:
            static = spectral_matrix(operator) if isinstance(operator, StaticFactorizedLayer) else affine(operator.A)
            self.carry = dense(after(out, after(static, into)))

    def forward(self, h: Tensor) -> Tensor:
        enter, leave, arrive, decoded = self.norms
        h = F.silu(leave(self.encode(F.silu(enter(h)))))
        if self.lift is not None:
            h = self.lift(h)
            if self.gains is None:
                h = F.silu(h)
            else:
                latent = self.gains.out_features
                h = h[:, :latent] * self.gains(F.silu(h[:, latent:]))
        return F.silu(decoded(self.decode(F.silu(arrive(self.carry(h))))))


class ResidualTrunk(nn.Module):
    """A residual MLP between its input and its output layer, at one noise index: (N, W) -> (N, W), normalised.

    What k says is then a constant, and part of the products.
    """

    def __init__(self, network: ResidualMLP, film: Tensor) -> None:
        """film: scales and shifts (2 blocks + 2, W) at that index."""
        super().__init__()
        self.width = network.width
        self.expand = nn.ModuleList(
            dense(of_scaled(affine(layer), film[2 * i], film[2 * i + 1])) for i, layer in enumerate(network.expand)
        )
        self.contract = nn.ModuleList(dense(affine(layer)) for layer in network.contract)

    def forward(self, h: Tensor) -> Tensor:
        for expand, contract in zip(self.expand, self.contract, strict=True):
            h = h + contract(F.silu(expand(F.layer_norm(h, (self.width,)))))
        return F.layer_norm(h, (self.width,))


def film_at(network: ResidualMLP, features: Tensor) -> Tensor:
    """Scales and shifts (2 blocks + 2, W) for the features (1, 64) of a noise index."""
    return network.film(network.time(features)).view(-1, network.width)


def _consistency(student: ConsistencyStudent) -> Parts:
    """f at sigma_max: the network sees free entries scaled and what the observation fixes as it is."""
    f, sigma = student.f, student.config.sigma_max
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    network = exact(f.network)
    film = film_at(network, sinusoidal(f.index(torch.full((1,), sigma, dtype=torch.float64)), network.omega))
    first = _beside_context(network.input, network.context)
    scale = torch.ones(first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    last = of_scaled(affine(network.output), film[-2], film[-1])
    factor = above * f.sigma_data**2 * c_in
    return Parts(
        Affine(first.weight * scale, first.bias),
        ResidualTrunk(network, film),
        Affine(last.weight * factor, last.bias * factor),
        skip=sigma / (1 + above**2),
    )
