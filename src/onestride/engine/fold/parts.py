"""What a fold makes of a generator and of a selector."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from onestride.engine.affine import Affine, affine, hcat


class NoEngineError(ValueError):
    """A policy that has no engine, or not this one; the message says what to do instead."""


class Parts(NamedTuple):
    """A generator in normalised units: first layer of [plan H D | context C], body, last layer to H D.

    skip: what of a free entry's noise the plan keeps.
    """

    first: Affine
    body: nn.Module
    last: Affine
    skip: float = 0.0


class Ranking(NamedTuple):
    """scorer(features (N, F), its part of the known (1, K), observation (1, O), start) -> rows (N, R), scores (N,).

    decision_bias: what the scorer wants of the observation (O -> K), once per decision. finish: from the winner's row
    to the free entries of its plan, or of its first action; None where the row is that.
    """

    scorer: nn.Module
    decision_bias: Affine | None
    finish: Affine | None


def without_noise(first: Affine, fixed: Tensor) -> Affine:
    """Return a first layer of [plan | context] that does not see a plan's free entries; fixed (H, D): the others."""
    weight = first.weight.clone()
    weight[:, : fixed.numel()][:, ~fixed.cpu().flatten()] = 0.0
    return Affine(weight, first.bias)


def beside_context(plan: nn.Linear, context: nn.Linear | None) -> Affine:
    """Return a network's first layer as one map of [plan | context]."""
    return affine(plan) if context is None else hcat(affine(plan), affine(context))
