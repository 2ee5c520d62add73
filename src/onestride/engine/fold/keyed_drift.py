"""The fold of keyed drifting planners: their residual MLP at its one noise index."""

from __future__ import annotations

from onestride.engine.affine import affine, exact, fold_gain
from onestride.engine.fold.parts import Parts, beside_context
from onestride.engine.fold.residual import ResidualBody, film_at
from onestride.methods.keyed_drift import NO_NOISE, KeyedDriftPlanner
from onestride.networks.mlp import ResidualMLP


def fold_keyed_drift(planner: KeyedDriftPlanner) -> Parts:
    """Return the network's first layer, its blocks, and its last."""
    assert isinstance(planner.network, ResidualMLP)
    network = exact(planner.network)
    film = film_at(network, network.features[NO_NOISE][None])
    last = fold_gain(affine(network.output), film[-2], film[-1])
    return Parts(beside_context(network.input, network.context), ResidualBody(network, film), last)
