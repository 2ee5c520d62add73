"""The temporal U-Net of Diffuser (Janner et al. 2022, appendix C): convolutions along the horizon."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onestride.networks.embeddings import TimeEmbedding

_KERNEL = 5
_GROUPS = 8


class TemporalUNet(nn.Module):
    """Convolutions along the horizon, which is halved between levels on the way down and doubled on the way up.

    The way up concatenates the features of the way down. The context passes a two-layer network and is added to the
    time embedding.

    Args:
        horizon: H.
        transition_dim: D.
        context_dim: C.
        width: base number of channels.
        multipliers: of ``width``, one per level. (1, 2, 4, 8) with width 32 gives 32 ... 256 channels. Diffuser uses
            (1, 4, 8) at H = 4.

    Raises:
        ValueError: the horizon is not divisible by ``2^(levels-1)``, or a number of channels is not by the 8 groups.
    """

    def __init__(
        self,
        horizon: int,
        transition_dim: int,
        context_dim: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        if not multipliers or min(horizon, transition_dim, width, *multipliers) < 1 or context_dim < 0:
            raise ValueError(
                f"sizes must be positive (context_dim >= 0), got {horizon=}, {transition_dim=}, {context_dim=}, "
                f"{width=}, {multipliers=}"
            )
        stride = 2 ** (len(multipliers) - 1)
        if horizon % stride:
            raise ValueError(
                f"horizon {horizon} is not divisible by {stride} = 2^(levels-1), with levels = {len(multipliers)}: "
                f"choose a multiple of {stride}, or fewer multipliers"
            )
        if width % _GROUPS:
            raise ValueError(f"width {width} is not divisible by the {_GROUPS} groups of the normalisation")
        self.horizon, self.transition_dim, self.context_dim = horizon, transition_dim, context_dim
        self.time = TimeEmbedding(width)
        self.context = (
            nn.Sequential(nn.Linear(context_dim, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
            if context_dim
            else None
        )
        channels = [width * m for m in multipliers]
        self.down = nn.ModuleList(
            _Level(c_in, c_out, width) for c_in, c_out in zip([transition_dim, *channels[:-1]], channels, strict=True)
        )
        self.downsample = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = _Level(channels[-1], channels[-1], width)
        self.up = nn.ModuleList(
            _Level(2 * c_in, c_out, width) for c_in, c_out in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(c, c, 4, stride=2, padding=1) for c in channels[-2::-1])
        self.output = nn.Sequential(_convolution(channels[0], channels[0]), nn.Conv1d(channels[0], transition_dim, 1))

    def forward(self, x: Tensor, k: Tensor | int, context: Tensor | None = None) -> Tensor:
        """Return the denoised plans ``(B, H, D)``.

        Args:
            x: noisy plans ``(B, H, D)``.
            k: noise index: one number, or ``(B,)``.
            context: ``(B, C)`` or ``(1, C)``; None where C = 0.

        Raises:
            ValueError: x has another shape, or the context is missing, of another shape or not expected.
        """
        if x.shape[1:] != (self.horizon, self.transition_dim):
            raise ValueError(f"x is {tuple(x.shape)}, expected (B, {self.horizon}, {self.transition_dim})")
        e = self.time(k)  # (1 or B, W)
        if self.context is not None:
            if context is None or context.shape[-1] != self.context_dim or context.shape[0] not in (1, len(x)):
                got = None if context is None else tuple(context.shape)
                raise ValueError(f"context is {got}, expected ({len(x)} or 1, {self.context_dim})")
            e = e + self.context(context)
        elif context is not None and context.shape[-1]:
            raise ValueError(f"got a context {tuple(context.shape)}, but this network was made with context_dim=0")
        h = x.transpose(1, 2)  # (B, D, H)
        skips = []  # the finest level's is not used, as in the source
        for i, level in enumerate(self.down):
            h = level(h if i == 0 else self.downsample[i - 1](h), e)
            skips.append(h)
        h = self.middle(h, e)
        for level, upsample in zip(self.up, self.upsample, strict=True):
            h = upsample(level(torch.cat([h, skips.pop()], dim=1), e))
        return self.output(h).transpose(1, 2)  # (B, H, D)


class TemporalValue(nn.Module):
    """The U-Net's way down, with kernels of 3, then one number per plan (Janner et al. 2022, appendix C).

    Arguments and errors are those of ``TemporalUNet``.
    """

    def __init__(
        self,
        horizon: int,
        transition_dim: int,
        context_dim: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        stride = 2 ** (len(multipliers) - 1)
        if not multipliers or horizon % stride or width % _GROUPS:
            raise ValueError(
                f"horizon {horizon} must be a multiple of {stride} = 2^(levels-1) and width {width} of {_GROUPS}; got "
                f"{multipliers=}"
            )
        self.horizon, self.transition_dim, self.context_dim = horizon, transition_dim, context_dim
        self.time = TimeEmbedding(width)
        channels = [width * m for m in multipliers]
        self.down = nn.ModuleList(
            _Level(c_in, c_out, width, kernel=3)
            for c_in, c_out in zip([transition_dim, *channels[:-1]], channels, strict=True)
        )
        self.downsample = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        last = channels[-1] * horizon // stride
        self.output = nn.Sequential(
            nn.Linear(last + width + context_dim, last // 2), nn.Mish(), nn.Linear(last // 2, 1)
        )

    def forward(self, x: Tensor, k: Tensor | int, context: Tensor | None = None) -> Tensor:
        """Return the plans' values ``(B,)``. Arguments and errors are those of ``TemporalUNet.forward``."""
        if x.shape[1:] != (self.horizon, self.transition_dim):
            raise ValueError(f"x is {tuple(x.shape)}, expected (B, {self.horizon}, {self.transition_dim})")
        if (0 if context is None else context.shape[-1]) != self.context_dim:
            raise ValueError(
                f"context is {None if context is None else tuple(context.shape)}, expected (B, C) with "
                f"C = {self.context_dim}"
            )
        e = self.time(k)  # (1 or B, W)
        h = x.transpose(1, 2)
        for i, level in enumerate(self.down):
            h = level(h if i == 0 else self.downsample[i - 1](h), e)
        said = [h.flatten(1), e.expand(len(x), -1)]
        if self.context_dim and context is not None:
            said.append(context.expand(len(x), -1))
        return self.output(torch.cat(said, 1))[:, 0]


class _Level(nn.Module):
    """Two residual blocks at one resolution."""

    def __init__(self, c_in: int, c_out: int, time_dim: int, kernel: int = _KERNEL) -> None:
        super().__init__()
        self.first = _ResidualBlock(c_in, c_out, time_dim, kernel)
        self.second = _ResidualBlock(c_out, c_out, time_dim, kernel)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return self.second(self.first(h, e), e)


class _ResidualBlock(nn.Module):
    """``conv -> norm -> Mish``, plus the time features, ``conv -> norm -> Mish``, plus the input."""

    def __init__(self, c_in: int, c_out: int, time_dim: int, kernel: int) -> None:
        super().__init__()
        self.first = _convolution(c_in, c_out, kernel)
        self.second = _convolution(c_out, c_out, kernel)
        self.time = nn.Sequential(nn.Mish(), nn.Linear(time_dim, c_out))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return self.second(self.first(h) + self.time(e)[..., None]) + self.skip(h)


def _convolution(c_in: int, c_out: int, kernel: int = _KERNEL) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2), nn.GroupNorm(_GROUPS, c_out), nn.Mish())
