"""The fold of keyed drifting planners: their residual MLP at its one noise index."""

from __future__ import annotations

from onestride.engine.fold.parts import Parts
from onestride.engine.fold.residual import fold_residual
from onestride.methods.keyed_drift import NO_NOISE, KeyedDriftPlanner
from onestride.networks.mlp import ResidualMLP


def fold_keyed_drift(planner: KeyedDriftPlanner) -> Parts:
    """Return the network's first layer, its blocks, and its last."""
    assert isinstance(planner.network, ResidualMLP)
    return fold_residual(planner.network, NO_NOISE)
