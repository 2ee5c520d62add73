"""The fold of MeanFlow: its residual MLP between the times 0 and 1, whose velocity is taken from the noise."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine
from onestride.engine.fold.parts import Parts
from onestride.engine.fold.residual import fold_residual
from onestride.methods.meanflow import K_STEPS, MeanFlowPlanner
from onestride.networks.mlp import ResidualMLP


def fold_meanflow(planner: MeanFlowPlanner) -> Parts:
    """Return the network's first layer, its blocks, and its last with the other sign beside the noise."""
    assert isinstance(planner.network, ResidualMLP)
    start = torch.full((1,), float(K_STEPS), dtype=torch.float64)
    parts = fold_residual(planner.network, start, start)  # t = 1, t - r = 1
    return parts._replace(last=Affine(-parts.last.weight, -parts.last.bias), skip=1.0)
