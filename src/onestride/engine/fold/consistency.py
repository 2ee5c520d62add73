"""The fold of preconditioned networks at one noise level: of consistency students at sigma_max."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine
from onestride.engine.fold.parts import Parts
from onestride.engine.fold.residual import fold_residual
from onestride.methods.consistency import ConsistencyStudent
from onestride.methods.edm import Preconditioned


def fold_consistency(student: ConsistencyStudent) -> Parts:
    """Return f at sigma_max."""
    return fold_preconditioned(student.f, student.config.sigma_max)


def fold_preconditioned(f: Preconditioned, sigma: float) -> Parts:
    """Return f at sigma times a prior's noise: it sees free entries scaled and what the observation fixes as it is."""
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    parts = fold_residual(f.network, f.index(torch.full((1,), sigma, dtype=torch.float64)))
    scale = torch.ones(parts.first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    factor = above * f.sigma_data**2 * c_in
    return parts._replace(
        first=Affine(parts.first.weight * scale, parts.first.bias),
        last=Affine(parts.last.weight * factor, parts.last.bias * factor),
        skip=sigma / (1 + above**2),
    )
