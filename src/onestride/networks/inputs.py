"""What every network of plans asks of its inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def check_inputs(network: Any, x: Tensor, context: Tensor | None) -> None:
    """Raise ValueError where plans or context have other shapes than a network was made for.

    Args:
        network: has ``horizon``, ``transition_dim`` and ``context_dim``.
        x: plans, expected (B, H, D).
        context: expected (B, C) or (1, C); None where C = 0.
    """
    if x.shape[1:] != (network.horizon, network.transition_dim):
        raise ValueError(f"x is {tuple(x.shape)}, expected (B, {network.horizon}, {network.transition_dim})")
    if network.context_dim:
        if context is None or context.shape[-1] != network.context_dim or context.shape[0] not in (1, len(x)):
            got = None if context is None else tuple(context.shape)
            raise ValueError(f"context is {got}, expected ({len(x)} or 1, {network.context_dim})")
    elif context is not None and context.shape[-1]:
        raise ValueError(f"got a context {tuple(context.shape)}, but this network was made with context_dim=0")
