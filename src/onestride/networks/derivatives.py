"""Derivatives along a direction, forward: one pass, whatever the number of inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def directional(f: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return f and ``sum_i df/dx_i along_i`` at x, by ``torch.func.jvp``.

    Args:
        f: of as many tensors as there are in ``at``.
        at: x.
        along: the direction, of the same shapes.
    """
    # The first call loads a part of torch that warns of another part; a fused attention has no forward derivative.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore", DeprecationWarning)
        value, slope = torch.func.jvp(f, at, along)  # type: ignore[misc]
    return value, slope
