"""The fold of MeanFlow: its residual MLP between the times 0 and 1, whose velocity is taken from the noise."""

from __future__ import annotations

import torch

from onestride.engine.affine import Affine, affine, exact, fold_gain
from onestride.engine.fold.parts import Parts, beside_context
from onestride.engine.fold.residual import ResidualBody, film_at
from onestride.methods.meanflow import K_STEPS, MeanFlowPlanner
from onestride.networks.embeddings import sinusoidal
from onestride.networks.mlp import ResidualMLP


def fold_meanflow(planner: MeanFlowPlanner) -> Parts:
    """Return the network's first layer, its blocks, and its last with the other sign beside the noise."""
    assert isinstance(planner.network, ResidualMLP)
    network = exact(planner.network)
    start = sinusoidal(torch.full((1,), float(K_STEPS), dtype=torch.float64), network.omega)
    film = film_at(network, start, start)  # t = 1, t - r = 1
    last = fold_gain(affine(network.output), film[-2], film[-1])
    first = beside_context(network.input, network.context)
    return Parts(first, ResidualBody(network, film), Affine(-last.weight, -last.bias), skip=1.0)
