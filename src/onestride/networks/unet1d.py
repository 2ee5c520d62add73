"""Temporal U-Nets: convolutions along the horizon.

``TemporalUNet`` is Diffuser's (Janner et al. 2022, appendix C), ``FilmUNet`` is Diffusion Policy's (Chi et al. 2023).
They are one body, and differ in what conditions its blocks and how.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onestride.networks.embeddings import TimeEmbedding
from onestride.networks.inputs import check_inputs

_KERNEL = 5
_GROUPS = 8


class _Body(nn.Module):
    """What both U-Nets are made of: levels of residual blocks, on the way down, in the middle and on the way up."""

    def make_levels(
        self,
        horizon: int,
        transition_dim: int,
        channels: list[int],
        context_dim: int,
        condition_dim: int,
        *,
        kernel: int = _KERNEL,
        groups: int = _GROUPS,
        scaled: bool = False,
    ) -> None:
        """Add the levels. ``condition_dim``: size of what conditions every block."""
        stride = 2 ** (len(channels) - 1)
        if horizon % stride:
            raise ValueError(
                f"horizon {horizon} is not divisible by {stride} = 2^(levels-1), with levels = {len(channels)}: "
                f"choose a multiple of {stride}, or fewer levels"
            )
        self.horizon, self.transition_dim, self.context_dim = horizon, transition_dim, context_dim

        def level(c_in: int, c_out: int) -> _Level:
            return _Level(c_in, c_out, condition_dim, kernel, groups, scaled)

        self.down = nn.ModuleList(
            level(c_in, c_out) for c_in, c_out in zip([transition_dim, *channels[:-1]], channels, strict=True)
        )
        self.downsample = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = level(channels[-1], channels[-1])
        self.up = nn.ModuleList(
            level(2 * c_in, c_out) for c_in, c_out in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.upsample = nn.ModuleList(nn.ConvTranspose1d(c, c, 4, stride=2, padding=1) for c in channels[-2::-1])
        self.output = nn.Sequential(
            _convolution(channels[0], channels[0], kernel), nn.Conv1d(channels[0], transition_dim, 1)
        )

    def run_levels(self, x: Tensor, e: Tensor) -> Tensor:
        """Plans (B, H, D) and what conditions the blocks (1 or B, E) -> (B, H, D)."""
        h = x.transpose(1, 2)  # (B, D, H)
        skips = []  # the finest level's is not used, as in the sources
        for i, level in enumerate(self.down):
            h = level(h if i == 0 else self.downsample[i - 1](h), e)
            skips.append(h)
        h = self.middle(h, e)
        for level, upsample in zip(self.up, self.upsample, strict=True):
            h = upsample(level(torch.cat([h, skips.pop()], dim=1), e))
        return self.output(h).transpose(1, 2)  # (B, H, D)


class TemporalUNet(_Body):
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
        two_times: whether it is told a second noise index; what it makes of it starts at zero.

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
        two_times: bool = False,
    ) -> None:
        super().__init__()
        if not multipliers or min(horizon, transition_dim, width, *multipliers) < 1 or context_dim < 0:
            raise ValueError(
                f"sizes must be positive (context_dim >= 0), got {horizon=}, {transition_dim=}, {context_dim=}, "
                f"{width=}, {multipliers=}"
            )
        if width % _GROUPS:
            raise ValueError(f"width {width} is not divisible by the {_GROUPS} groups of the normalisation")
        self.time = TimeEmbedding(width)
        self.context = (
            nn.Sequential(nn.Linear(context_dim, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
            if context_dim
            else None
        )
        self.make_levels(horizon, transition_dim, [width * m for m in multipliers], context_dim, width)
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
        e = self.time(k)  # (1 or B, W)
        if (until is None) != (self.until is None):
            raise ValueError(f"until is {until}; this network was made with two_times={self.until is not None}")
        if self.until is not None and until is not None:
            e = e + self.until(until)
        if self.context is not None:
            assert context is not None
            e = e + self.context(context)
        return self.run_levels(x, e)


@dataclass(frozen=True)
class FilmUNetConfig:
    """The shape of a ``FilmUNet``. The defaults train on a CPU; the papers' sizes are (512, 1024, 2048) for a GPU.

    Attributes:
        down_dims: channels of each level.
        kernel_size: of the convolutions, odd.
        n_groups: of the normalisation, which divide every number of channels.
        step_dim: size of the noise index's embedding.
        film_scale: whether features are scaled (FiLM, Perez et al. 2018) or only shifted.
        past_rows: how many rows of a chunk lie before now. Diffusion Policy and LeRobot begin a chunk at the first of
            the observations that are given. Here row 0 is now, and rows before now come last: see ``FilmUNet``.
        context_width: size of a linear layer's encoding of the context, which the blocks are given instead of it, as in
            CleanDiffuser; 0: they are given the context as it is.
    """

    down_dims: tuple[int, ...] = (64, 128, 256)
    kernel_size: int = 5
    n_groups: int = 8
    step_dim: int = 128
    film_scale: bool = True
    past_rows: int = 0
    context_width: int = 0


class FilmUNet(_Body):
    """The conditional U-Net of Diffusion Policy (Chi et al. 2023), as its authors and LeRobot have it.

    Every block is conditioned on ``[embedding of k - 1, context]``: diffusers counts noise levels from 0. Its first
    convolution's features become ``scale h + shift`` (the scale is not 1 + scale), with both from a linear layer of the
    Mish of the condition.

    A chunk of a policy that counts from an earlier observation has ``past_rows`` rows before now, which nobody
    executes. Plans hold them at their end, so that row 0 is now. The network gets and gives its own order.

    Args:
        horizon: H, with the rows before now.
        transition_dim: D.
        context_dim: C.
        config: its shape.

    Raises:
        ValueError: the horizon is not divisible by ``2^(levels-1)``, channels are not by the groups, or a size is
            impossible.
    """

    def __init__(self, horizon: int, transition_dim: int, context_dim: int, config: FilmUNetConfig) -> None:
        super().__init__()
        dims = config.down_dims
        if not dims or min(horizon, transition_dim, *dims, config.n_groups) < 1 or context_dim < 0:
            raise ValueError(f"sizes must be positive, got {horizon=}, {transition_dim=}, {context_dim=}, {config}")
        if any(c % config.n_groups for c in dims) or dims[0] % _GROUPS or config.kernel_size % 2 == 0:
            raise ValueError(
                f"down_dims {dims} must be divisible by the {config.n_groups} groups of the normalisation, the first "
                f"by the {_GROUPS} of the last layer too, and kernel_size be odd, got {config.kernel_size}"
            )
        if not 0 <= config.past_rows < horizon:
            raise ValueError(f"past_rows is {config.past_rows}, expected 0 ... {horizon - 1}")
        if config.context_width < 0 or (config.context_width and not context_dim):
            raise ValueError(f"context_width is {config.context_width} for a context of {context_dim} numbers")
        self.past_rows = config.past_rows
        self.time = TimeEmbedding(config.step_dim)
        width = config.context_width
        self.context = nn.Linear(context_dim, width) if width else None
        self.make_levels(
            horizon, transition_dim, list(dims), context_dim, config.step_dim + (width or context_dim),
            kernel=config.kernel_size, groups=config.n_groups, scaled=config.film_scale,
        )  # fmt: skip

    def forward(self, x: Tensor, k: Tensor | int, context: Tensor | None = None) -> Tensor:
        """Return what the network says of noisy plans. Arguments and errors are those of ``TemporalUNet.forward``."""
        check_inputs(self, x, context)
        e = self.time(k - 1)  # (1 or B, E)
        if context is not None and self.context_dim:
            given = context if self.context is None else self.context(context)
            rows = max(len(e), len(given))
            e = torch.cat((e.expand(rows, -1), given.expand(rows, -1)), dim=-1)
        past, now = self.past_rows, self.horizon - self.past_rows
        if not past:
            return self.run_levels(x, e)
        output = self.run_levels(torch.cat((x[:, now:], x[:, :now]), dim=1), e)
        return torch.cat((output[:, past:], output[:, :past]), dim=1)


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

    def __init__(
        self,
        c_in: int,
        c_out: int,
        condition_dim: int,
        kernel: int = _KERNEL,
        groups: int = _GROUPS,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.first = _ResidualBlock(c_in, c_out, condition_dim, kernel, groups, scaled)
        self.second = _ResidualBlock(c_out, c_out, condition_dim, kernel, groups, scaled)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return self.second(self.first(h, e), e)


class _ResidualBlock(nn.Module):
    """``conv -> norm -> Mish``, plus what conditions it, ``conv -> norm -> Mish``, plus the input.

    scaled: the condition also scales the features (FiLM).
    """

    def __init__(self, c_in: int, c_out: int, condition_dim: int, kernel: int, groups: int, scaled: bool) -> None:
        super().__init__()
        self.scaled = scaled
        self.first = _convolution(c_in, c_out, kernel, groups)
        self.second = _convolution(c_out, c_out, kernel, groups)
        self.time = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, (1 + scaled) * c_out))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        features, condition = self.first(h), self.time(e)[..., None]
        if self.scaled:
            scale, shift = condition.chunk(2, dim=1)
            features = scale * features + shift
        else:
            features = features + condition
        return self.second(features) + self.skip(h)


def _convolution(c_in: int, c_out: int, kernel: int = _KERNEL, groups: int = _GROUPS) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2), nn.GroupNorm(groups, c_out), nn.Mish())
