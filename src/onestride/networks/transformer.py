"""A transformer over a plan's rows: every row looks at all others, at any distance in one layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.networks.embeddings import TimeEmbedding
from onestride.networks.inputs import check_inputs

HEAD = 64  # numbers of an attention head, where the width is no smaller


class PlanTransformer(nn.Module):
    """A diffusion transformer (DiT, Peebles and Xie 2023) whose tokens are the rows of a plan.

    Noise index and context scale and shift what enters each layer and gate what leaves it. Gates start at zero, so that
    each block starts as the identity.

    Args:
        horizon: H.
        transition_dim: D.
        context_dim: C.
        width: of a token.
        blocks: number of blocks: self-attention and a two-layer network.
        two_times: whether it is told a second noise index; what it makes of it starts at zero.

    Raises:
        ValueError: a size is not positive, or the width is no number of whole heads.
    """

    def __init__(
        self, horizon: int, transition_dim: int, context_dim: int, *, width: int = 256, blocks: int = 4,
        two_times: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = {"horizon": horizon, "transition_dim": transition_dim, "width": width, "blocks": blocks}
        if min(sizes.values()) < 1 or context_dim < 0:
            raise ValueError(f"sizes must be positive (context_dim >= 0), got {sizes}, {context_dim=}")
        if width % min(HEAD, width) or width % 2 or width < 4:
            raise ValueError(f"width is {width}; a transformer's is a multiple of {HEAD}, or even and smaller")
        self.horizon, self.transition_dim, self.context_dim = horizon, transition_dim, context_dim
        self.input = nn.Linear(transition_dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.time = TimeEmbedding(width)
        self.context = (
            nn.Sequential(nn.Linear(context_dim, width), nn.SiLU(), nn.Linear(width, width)) if context_dim else None
        )
        self.blocks = nn.ModuleList(_Block(width, max(width // HEAD, 1)) for _ in range(blocks))
        self.modulation = _starting_at_zero(nn.Linear(width, 2 * width))
        self.output = nn.Linear(width, transition_dim)
        self.until = TimeEmbedding(width) if two_times else None
        if self.until is not None:
            self.until.start_at_zero()

    def forward(
        self, x: Tensor, k: Tensor | int, context: Tensor | None = None, until: Tensor | int | None = None
    ) -> Tensor:
        """Return the denoised plans ``(B, H, D)``.

        Args:
            x: noisy plans ``(B, H, D)``.
            k: noise index: one number, or ``(B,)``.
            context: ``(B, C)`` or ``(1, C)``; None where C = 0.
            until: the second noise index of a network with two times, as k; None: it has one.

        Raises:
            ValueError: x has another shape, the context is missing, of another shape or not expected, or a second
                index is.
        """
        check_inputs(self, x, context)
        if (until is None) != (self.until is None):
            raise ValueError(f"until is {until}; this network was made with two_times={self.until is not None}")
        e = self.time(k)  # (1 or B, W)
        if self.until is not None and until is not None:
            e = e + self.until(until)
        if self.context is not None:
            e = e + self.context(context)
        e = F.silu(e)[:, None]  # (1 or B, 1, W)
        h = self.input(x) + self.place
        for block in self.blocks:
            h = block(h, e)
        return self.output(_modulated(h, *self.modulation(e).chunk(2, -1)))


class _Block(nn.Module):
    """Self-attention and a two-layer network, each residual, normalised, modulated and gated by e (1 or B, 1, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = _starting_at_zero(nn.Linear(width, 6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.gathered = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Return tokens (B, H, W) of tokens (B, H, W)."""
        scale, shift, gate, scale_mlp, shift_mlp, gate_mlp = self.modulation(e).chunk(6, -1)
        h = h + gate * self._attention(_modulated(h, scale, shift))
        return h + gate_mlp * self.mlp(_modulated(h, scale_mlp, shift_mlp))

    def _attention(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, H, W / heads)
        return self.gathered(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (1 + scale) * F.layer_norm(h, h.shape[-1:]) + shift


def _starting_at_zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
