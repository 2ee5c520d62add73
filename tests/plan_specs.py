"""Plan specs from masks of known entries, as tests draw them."""

from __future__ import annotations

import torch
from torch import Tensor

from onestride.plans.spec import Block, PlanSpec


def spec_of(known: Tensor, context_dim: int, state_dim: int = 0) -> PlanSpec:
    """known (H, D), bool."""
    horizon, dim = known.shape
    blocks = tuple(Block(int(row), int(column), int(column) + 1) for row, column in torch.nonzero(known).tolist())
    return PlanSpec(
        horizon=horizon, state_dim=state_dim, action_dim=dim - state_dim, context_dim=context_dim, known=blocks
    )
