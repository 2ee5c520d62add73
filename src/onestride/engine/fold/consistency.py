"""The folds of students that start at sigma_max: of their network there, and of how much of their noise they keep."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine, affine, exact, fold_gain
from onestride.engine.fold.parts import Parts, beside_context
from onestride.engine.fold.residual import ResidualBody, film_at
from onestride.methods.consistency import ConsistencyStudent
from onestride.methods.consistency_policy import ConsistencyPolicy
from onestride.methods.edm import Preconditioned
from onestride.networks.embeddings import sinusoidal


def fold_consistency(student: ConsistencyStudent) -> Parts:
    """Return the parts of f at sigma_max."""
    return _at(student.f, student.config.sigma_max)


def fold_consistency_policy(student: ConsistencyPolicy) -> Parts:
    """Return the parts of the one jump from sigma_max to sigma_min."""
    return _at(student.f, student.config.sigma_max, student.config.sigma_min)


def _at(f: Preconditioned, sigma: float, until: float | None = None) -> Parts:
    """f at sigma: the network sees free entries scaled and what the observation fixes as it is.

    until: of a jump from sigma to it, which keeps ``until / sigma`` of x beside f.
    """
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    network = exact(f.network)
    levels = [sinusoidal(f.index(torch.full((1,), s, dtype=torch.float64)), network.omega)
              for s in (sigma, until) if s is not None]  # fmt: skip
    film = film_at(network, *levels)
    first = beside_context(network.input, network.context)
    scale = torch.ones(first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    last = fold_gain(affine(network.output), film[-2], film[-1])
    kept = 0.0 if until is None else until / sigma
    factor = (1 - kept) * above * f.sigma_data**2 * c_in
    return Parts(
        Affine(first.weight * scale, first.bias),
        ResidualBody(network, film),
        Affine(last.weight * factor, last.bias * factor),
        skip=kept * sigma + (1 - kept) * sigma / (1 + above**2),
    )
