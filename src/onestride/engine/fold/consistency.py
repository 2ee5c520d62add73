"""The fold of consistency students: their network at sigma_max."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine, affine, exact, fold_gain
from onestride.engine.fold.parts import Parts, beside_context
from onestride.engine.fold.residual import ResidualBody, film_at
from onestride.methods.consistency import ConsistencyStudent
from onestride.networks.embeddings import sinusoidal


def fold_consistency(student: ConsistencyStudent) -> Parts:
    """f at sigma_max: the network sees free entries scaled and what the observation fixes as it is."""
    f, sigma = student.f, student.config.sigma_max
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    network = exact(f.network)
    film = film_at(network, sinusoidal(f.index(torch.full((1,), sigma, dtype=torch.float64)), network.omega))
    first = beside_context(network.input, network.context)
    scale = torch.ones(first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    last = fold_gain(affine(network.output), film[-2], film[-1])
    factor = above * f.sigma_data**2 * c_in
    return Parts(
        Affine(first.weight * scale, first.bias),
        ResidualBody(network, film),
        Affine(last.weight * factor, last.bias * factor),
        skip=sigma / (1 + above**2),
    )
