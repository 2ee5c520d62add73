"""A residual MLP denoiser: few but large matrix products, so that a CPU can train and sample it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.networks.embeddings import frequencies, sinusoidal
from onestride.networks.inputs import check_inputs

_TIME_DIM = 64


class ResidualMLP(nn.Module):
    """Maps a plan, as one vector of H D numbers, through pre-normalised residual blocks.

    Per block ``h <- h + W2 silu(W1 (scale_k LN(h) + shift_k) + b1) + b2``. Scale and shift come from k (FiLM, Perez et
    al. 2018; initialised to zero as in DiT, Peebles and Xie 2023). W2 is initialised to zero, so each block starts as
    the identity. The context enters the input layer alone, as a term of its own, so that one context ``(1, C)`` serves
    a whole batch of candidates.

    Args:
        horizon: H.
        transition_dim: D.
        context_dim: C.
        n_steps: N, the largest noise index.
        width: size of the hidden layers.
        blocks: number of residual blocks.
        scalar: whether the output is one number per plan, its value, instead of a plan.
        two_times: whether it is told a second noise index. What it makes of it starts at zero: given the weights of a
            network without one, it says what that network says.

    Raises:
        ValueError: a size is not positive.
    """

    features: Tensor
    omega: Tensor

    def __init__(
        self,
        horizon: int,
        transition_dim: int,
        context_dim: int,
        *,
        n_steps: int,
        width: int = 384,
        blocks: int = 4,
        scalar: bool = False,
        two_times: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"horizon": horizon, "transition_dim": transition_dim, "n_steps": n_steps, "width": width}
        if min(*sizes.values(), blocks) < 1 or context_dim < 0:
            raise ValueError(f"sizes must be positive (context_dim >= 0), got {sizes}, {blocks=}, {context_dim=}")
        self.horizon, self.transition_dim, self.context_dim = horizon, transition_dim, context_dim
        self.width, self.scalar = width, scalar
        self.input = nn.Linear(horizon * transition_dim, width)
        self.context = nn.Linear(context_dim, width, bias=False) if context_dim else None
        self.expand = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.contract = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.output = nn.Linear(width, 1 if scalar else horizon * transition_dim)
        # Features of k = 0 ... N, fixed. An int k then costs one row of a thin product, whatever the batch.
        omega = frequencies(_TIME_DIM, 4.0 * n_steps)
        self.register_buffer("features", sinusoidal(torch.arange(n_steps + 1), omega), persistent=False)  # (N+1, 64)
        self.register_buffer("omega", omega, persistent=False)  # (32,), for a k between those
        self.time = nn.Sequential(nn.Linear(_TIME_DIM, _TIME_DIM), nn.SiLU())
        self.film = nn.Linear(_TIME_DIM, (blocks + 1) * 2 * width)  # one pair per block, one for the output
        with torch.no_grad():
            for parameter in self.contract.parameters():
                parameter.zero_()
            self.film.weight.zero_()
            self.film.bias.view(blocks + 1, 2, width).copy_(torch.tensor([1.0, 0.0])[:, None])  # scale 1, shift 0
        self.until = nn.Linear(_TIME_DIM, _TIME_DIM, bias=False) if two_times else None
        if self.until is not None:
            nn.init.zeros_(self.until.weight)

    def forward(
        self, x: Tensor, k: Tensor | int, context: Tensor | None = None, until: Tensor | int | None = None
    ) -> Tensor:
        """Return the denoised plans ``(B, H, D)``, or their values ``(B,)`` where the network is scalar.

        Args:
            x: noisy plans ``(B, H, D)``.
            k: noise index: one int in 0 ... N, an integer tensor ``(B,)``, or a float tensor ``(B,)`` or ``(1,)`` for
                any real number.
            context: ``(B, C)`` or ``(1, C)``; None where C = 0.
            until: the second noise index of a network with two times, as k; None: it has one.

        Raises:
            ValueError: x has another shape, the context is missing, of another shape or not expected, an int k is
                out of range, or a second index is missing or not expected.
        """
        check_inputs(self, x, context)
        h = self.input(x.flatten(1))  # (B, W)
        if self.context is not None:
            h = h + self.context(context)
        if (until is None) != (self.until is None):
            raise ValueError(f"until is {until}; this network was made with two_times={self.until is not None}")
        rows = self._rows(k), None if until is None else self._rows(until)
        film = self.film(self.embedded(*rows)).chunk(2 * len(self.expand) + 2, dim=-1)  # of (1 or B, W)
        for i, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            h = h + contract(F.silu(expand(self._modulated(h, film[2 * i], film[2 * i + 1]))))
        output = self.output(self._modulated(h, film[-2], film[-1]))
        return output[:, 0] if self.scalar else output.view_as(x)

    def embedded(self, features: Tensor, until: Tensor | None = None) -> Tensor:
        """Return what scales and shifts are made of (1 or B, 64), from the features of k and of a second index."""
        linear, silu = self.time
        hidden = linear(features)
        if self.until is not None and until is not None:
            hidden = hidden + self.until(until)
        return silu(hidden)

    def _rows(self, k: Tensor | int) -> Tensor:
        """The features of noise indices (1 or B, 64)."""
        if isinstance(k, int) and not 0 <= k < len(self.features):
            raise ValueError(f"k is {k}, expected 0 ... {len(self.features) - 1}, the n_steps of this network")
        if isinstance(k, Tensor) and k.is_floating_point():
            return sinusoidal(k, self.omega)
        return self.features[k].view(-1, _TIME_DIM)

    def _modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return torch.addcmul(shift, F.layer_norm(h, (self.width,)), scale)
