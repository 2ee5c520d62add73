"""Derivatives along a direction, forward: one pass, whatever the number of inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


def directional(f: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return f and ``sum_i df/dx_i along_i`` at x, by ``torch.func.jvp``.

    Args:
        f: of as many tensors as there are in ``at``.
        at: x.
        along: the direction, of the same shapes.
    """
    with warnings.catch_warnings():  # the first call loads a part of torch that warns of another part
        warnings.simplefilter("ignore", DeprecationWarning)
        value, slope = torch.func.jvp(f, at, along)  # type: ignore[misc]
    return value, slope
