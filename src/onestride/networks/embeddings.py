"""Embeddings of the noise index k."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def frequencies(dim: int, max_period: float = 10_000.0) -> Tensor:
    """Return angular frequencies ``(dim / 2,)``, geometric from 1 to ``1 / max_period`` [rad per unit of k].

    Source: Vaswani et al. 2017, section 3.5.

    Raises:
        ValueError: ``dim`` is odd or less than 4.
    """
    if dim < 4 or dim % 2:
        raise ValueError(f"a sinusoidal embedding needs an even dim >= 4, got {dim}")
    return torch.exp(torch.linspace(0.0, -math.log(max_period), dim // 2))


def sinusoidal(k: Tensor, omega: Tensor) -> Tensor:
    """Return ``[sin(k omega), cos(k omega)]`` ``(B, dim)`` for k ``(B,)`` and omega ``(dim / 2,)``."""
    phase = k.to(omega.dtype)[:, None] * omega  # (B, dim / 2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoidal features of k, then a two-layer network (Ho et al. 2020, appendix B; Janner et al. 2022)."""

    omega: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("omega", frequencies(dim), persistent=False)
        self.net = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim))

    def start_at_zero(self) -> None:
        """Set its last layer to zero, so that it says nothing before it is trained."""
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, k: Tensor | float) -> Tensor:
        """Return the embedding ``(B, dim)`` of k ``(B,)``, or ``(1, dim)`` of one number for the whole batch."""
        if not isinstance(k, Tensor):
            k = torch.full((1,), float(k), device=self.omega.device)
        return self.net(sinusoidal(k, self.omega))
