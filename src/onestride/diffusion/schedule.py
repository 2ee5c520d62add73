"""Noise schedules: the signal and noise levels of a diffusion at each noise index.

``x_k = alpha_k x_0 + sigma_k eps`` with ``eps ~ N(0, I)``. The index runs ``k = N ... 0`` from noise to data, and
``k = 0`` is data exactly: ``alpha_0 = 1``, ``sigma_0 = 0``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

_OFFSET = 0.008  # the s of the cosine schedules (Nichol and Dhariwal 2021, eq. 17)
#: Which indices fewer steps than N are at: "even" from N on, or as diffusers' "leading" has them, which begins below N.
Spacing = Literal["even", "leading"]
_T_FIRST, _T_LAST = 1e-3, 0.9946  # times of k = 1 and k = N of the continuous cosine schedule


@dataclass(frozen=True)
class Schedule:
    """A noise schedule of N steps.

    Attributes:
        alpha: signal levels ``(N+1,)``, indexed by k.
        sigma: noise levels ``(N+1,)``, indexed by k.

    Raises:
        ValueError: the lengths differ, k = 0 is not data, or the signal-to-noise ratio does not fall with k.
    """

    alpha: tuple[float, ...]
    sigma: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.alpha) != len(self.sigma) or len(self.alpha) < 2:
            raise ValueError(
                f"alpha has {len(self.alpha)} levels and sigma {len(self.sigma)}; expected N+1 of each with N >= 1"
            )
        if self.alpha[0] != 1.0 or self.sigma[0] != 0.0:
            raise ValueError(f"k = 0 must be data (1, 0), got ({self.alpha[0]}, {self.sigma[0]}); prepend that level")
        if not all(a > 0.0 for a in self.alpha):
            raise ValueError("every alpha must be positive: at alpha = 0 the data cannot be recovered from the noise")
        ratios = [s / a for a, s in zip(self.alpha, self.sigma, strict=True)]
        for k, (before, ratio) in enumerate(pairwise(ratios), start=1):
            if not ratio > before:
                raise ValueError(
                    f"sigma / alpha must grow with k, but is {before:.6g} at k = {k - 1} and {ratio:.6g} at k = {k}; "
                    "drop the repeated or unsorted level"
                )

    @property
    def n_steps(self) -> int:
        """N, the index of pure noise."""
        return len(self.alpha) - 1

    @classmethod
    def cosine(cls, n_steps: int) -> Schedule:
        """Return the variance-preserving cosine schedule in continuous time, sampled at N times.

        ``alpha(t) = cos(pi/2 (t + s) / (1 + s)) / cos(pi/2 s / (1 + s))``, ``s = .008``, ``sigma^2 = 1 - alpha^2``, at
        t from 1e-3 (k = 1) to 1 (k = N), clipped at .9946. For N > 185 several times would be clipped; then t runs to
        .9946 instead. DNK's teacher uses N = 20. Source: Nichol and Dhariwal 2021, eq. 17, with the end points of
        CleanDiffuser.

        Raises:
            ValueError: ``n_steps`` is less than 2.
        """
        if n_steps < 2:
            raise ValueError(f"a cosine schedule needs n_steps >= 2, got {n_steps}")
        step = (1.0 - _T_FIRST) / (n_steps - 1)
        if 1.0 - step >= _T_LAST:
            step = (_T_LAST - _T_FIRST) / (n_steps - 1)
        times = [min(_T_FIRST + i * step, _T_LAST) for i in range(n_steps)]
        return cls._variance_preserving([_cosine(t) / _cosine(0.0) for t in times])

    @classmethod
    def squared_cosine(cls, n_steps: int) -> Schedule:
        """Return the discrete cosine schedule of Nichol and Dhariwal 2021, eq. 17.

        ``alpha_k^2 = prod_{i <= k} (1 - beta_i)``, ``beta_i = min(1 - f(i/N) / f((i-1)/N), .999)`` with f the squared
        cosine. It is ``squaredcos_cap_v2`` in diffusers, whose index is k - 1. Diffusion Policy and OneDP use N = 100.

        Raises:
            ValueError: ``n_steps`` is less than 1.
        """
        if n_steps < 1:
            raise ValueError(f"a squared-cosine schedule needs n_steps >= 1, got {n_steps}")
        kept, alpha = 1.0, []
        for i in range(1, n_steps + 1):
            kept *= max((_cosine(i / n_steps) / _cosine((i - 1) / n_steps)) ** 2, 1e-3)
            alpha.append(math.sqrt(kept))
        return cls._variance_preserving(alpha)

    @classmethod
    def _variance_preserving(cls, alpha: list[float]) -> Schedule:
        """Return the schedule of alpha at k = 1 ... N, with ``alpha^2 + sigma^2 = 1``."""
        return cls((1.0, *alpha), (0.0, *(math.sqrt((1.0 - a) * (1.0 + a)) for a in alpha)))

    def grid(self, steps: int, spacing: Spacing = "even") -> list[int]:
        """Return ``steps + 1`` strictly decreasing indices down to 0.

        "even": from N, as evenly spaced as integers allow. "leading": 1, 1 + r, 1 + 2 r, ... with r the integer part of
        N / steps, and 0; noise counts as being at the largest of them. So Diffusion Policy and LeRobot sample (their t
        is k - 1). With N steps both are the same.

        Raises:
            ValueError: ``steps`` is not in 1 ... N.
        """
        if not 1 <= steps <= self.n_steps:
            raise ValueError(f"steps must be in 1 ... {self.n_steps} (the schedule's n_steps), got {steps}")
        if spacing == "leading":
            apart = self.n_steps // steps
            return [*(1 + apart * i for i in range(steps - 1, -1, -1)), 0]
        return [self.n_steps * i // steps for i in range(steps, -1, -1)]

    def at(self, k: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``alpha_k, sigma_k``, each ``(B, 1, 1)``, for integer k ``(B,)``.

        They have the device and dtype of ``like``. k must be on that device, so that nothing waits for it.
        """
        table = _table(self, like.device, like.dtype)  # (N+1, 2)
        alpha, sigma = table[k].unbind(-1)
        return alpha.view(-1, 1, 1), sigma.view(-1, 1, 1)


def _cosine(t: float) -> float:
    return math.cos(math.pi / 2 * (t + _OFFSET) / (1 + _OFFSET))


@lru_cache(maxsize=32)
def _table(schedule: Schedule, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``[alpha, sigma]`` as ``(N+1, 2)``, copied to a device once."""
    return torch.tensor([schedule.alpha, schedule.sigma], dtype=torch.float64).T.to(device, dtype).contiguous()
