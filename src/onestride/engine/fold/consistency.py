"""The folds of preconditioned networks at one noise level, and of how much of their noise they keep."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine
from onestride.engine.fold.parts import Parts
from onestride.engine.fold.residual import fold_residual
from onestride.methods.consistency import ConsistencyStudent
from onestride.methods.consistency_policy import ConsistencyPolicy
from onestride.methods.edm import Preconditioned


def fold_consistency(student: ConsistencyStudent) -> Parts:
    """Return the parts of f at sigma_max."""
    return fold_preconditioned(student.f, student.config.sigma_max)


def fold_consistency_policy(student: ConsistencyPolicy) -> Parts:
    """Return the parts of the one jump from sigma_max to sigma_min."""
    return fold_preconditioned(student.f, student.config.sigma_max, student.config.sigma_min)


def fold_preconditioned(f: Preconditioned, sigma: float, until: float | None = None) -> Parts:
    """Return f at sigma times a prior's noise: it sees free entries scaled and what the observation fixes as it is.

    until: of a jump from sigma to it, which keeps ``until / sigma`` of x beside f.
    """
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    levels = (sigma,) if until is None else (sigma, until)
    parts = fold_residual(f.network, *(f.index(torch.full((1,), s, dtype=torch.float64)) for s in levels))
    scale = torch.ones(parts.first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    kept = 0.0 if until is None else until / sigma
    factor = (1 - kept) * above * f.sigma_data**2 * c_in
    return parts._replace(
        first=Affine(parts.first.weight * scale, parts.first.bias),
        last=Affine(parts.last.weight * factor, parts.last.bias * factor),
        skip=kept * sigma + (1 - kept) * sigma / (1 + above**2),
    )
