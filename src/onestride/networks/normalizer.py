"""The normaliser: z-scores of plan columns and context. It is part of every checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

STD_FLOOR = 1e-3  # smallest standard deviation, so that almost constant columns are not amplified
#: A standard deviation above this was measured. One at the floor means an almost constant column (in float32).
VARIED = 1.001 * STD_FLOOR


#: "z-score": mean 0, deviation 1. "limits": what was seen lies within -1 and 1. "none": as it is.
Mode = Literal["z-score", "limits", "none"]


@dataclass(frozen=True)
class Scaling:
    """How the columns of plans (D,) and of the context (C,) are normalised: all alike, or each its own way."""

    plans: Mode | tuple[Mode, ...] = "z-score"
    context: Mode | tuple[Mode, ...] = "z-score"


Z_SCORES = Scaling()


class Moments(NamedTuple):
    """What a normaliser is made of, per column (K,)."""

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def scaled(self, modes: Mode | tuple[Mode, ...]) -> tuple[Tensor, Tensor]:
        """Return what is taken away and what is divided by, (K,) each.

        Raises:
            ValueError: there are more or fewer modes than columns.
        """
        if modes == "z-score":
            return self.mean, self.std
        k = len(self.mean)
        each = (modes,) * k if isinstance(modes, str) else modes
        if len(each) != k:
            raise ValueError(f"scaling names {len(each)} columns, there are {k}")
        shift, scale = self.mean.clone(), self.std.clone()
        limits = torch.tensor([mode == "limits" for mode in each], dtype=torch.bool)
        none = torch.tensor([mode == "none" for mode in each], dtype=torch.bool)
        shift[limits], scale[limits] = ((self.low + self.high) / 2)[limits], ((self.high - self.low) / 2)[limits]
        shift[none], scale[none] = 0.0, 1.0
        return shift, scale


class RunningMoments:
    """Moments of rows that come in chunks (B, K), summed in float64 about the first chunk's mean."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Take in a chunk."""
        rows = rows.double()
        if not self.count:
            k = rows.shape[1]
            self.about = rows.mean(0)
            self.sum, self.squares = torch.zeros(k).double(), torch.zeros(k).double()
            self.low, self.high = torch.full((k,), torch.inf).double(), torch.full((k,), -torch.inf).double()
        off = rows - self.about
        self.count += len(rows)
        self.sum += off.sum(0)
        self.squares += off.square().sum(0)
        if rows.shape[1]:
            low, high = rows.aminmax(dim=0)
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)

    def moments(self) -> Moments:
        """Return the moments of everything taken in."""
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0)
        return Moments(*(x.float() for x in (self.about + mean, variance.sqrt(), self.low, self.high)))


class Normalizer(nn.Module):
    """Mean and standard deviation of each column of plans (D,) and context (C,), as buffers.

    A column that was almost constant in training is 0 when normalised. A slightly different value, about which nothing
    was learnt, therefore does not change the policy's output.
    """

    mean: Tensor
    std: Tensor
    context_mean: Tensor
    context_std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, context_mean: Tensor, context_std: Tensor) -> None:
        super().__init__()
        for name, value in (
            ("mean", mean),
            ("std", std.clamp(min=STD_FLOOR)),
            ("context_mean", context_mean),
            ("context_std", context_std.clamp(min=STD_FLOOR)),
        ):
            self.register_buffer(name, value.float().contiguous())

    @classmethod
    def fit(cls, plans: Tensor, context: Tensor, scaling: Scaling = Z_SCORES) -> Normalizer:
        """Return one fitted to plans (M, H, D) and context (M, C) in task units."""
        flat = plans.flatten(0, 1)
        spread = context.std(0, correction=0) if context.shape[1] else context.mean(0)  # std warns of no columns
        of_plans = Moments(flat.mean(0), flat.std(0, correction=0), *flat.aminmax(dim=0))
        low, high = context.aminmax(dim=0) if context.shape[1] else (context.mean(0), context.mean(0))
        of_context = Moments(context.mean(0), spread, low, high)
        return cls(*of_plans.scaled(scaling.plans), *of_context.scaled(scaling.context))

    @classmethod
    def fit_chunks(cls, chunks: Iterable[tuple[Tensor, Tensor]], scaling: Scaling = Z_SCORES) -> Normalizer:
        """Return one fitted to chunks of (plans (B, H, D), context (B, C)), summed in float64."""
        plans, context = RunningMoments(), RunningMoments()
        for plan, c in chunks:
            plans.add(plan.flatten(0, 1))
            context.add(c)
        return cls(*plans.moments().scaled(scaling.plans), *context.moments().scaled(scaling.context))

    @classmethod
    def empty(cls, transition_dim: int, context_dim: int) -> Normalizer:
        """Return the identity, to load a checkpoint into."""
        ones, context = torch.ones(transition_dim), torch.ones(context_dim)
        return cls(0 * ones, ones, 0 * context, context)

    def plans(self, x: Tensor) -> Tensor:
        """Return plans (..., D) normalised, from task units."""
        return (x - self.mean) / self.std * varied(self.std)

    def context(self, c: Tensor) -> Tensor:
        """Return context (..., C) normalised, from task units."""
        return (c - self.context_mean) / self.context_std * varied(self.context_std)

    def start(self, s: Tensor) -> Tensor:
        """Return the observation columns of row 0 (..., O) normalised, from task units."""
        o = s.shape[-1]
        return (s - self.mean[:o]) / self.std[:o] * varied(self.std[:o])

    def entries(self, values: Tensor, which: Tensor) -> Tensor:
        """Return entries of flattened plans normalised, from task units.

        Args:
            values: of the entries (..., K).
            which: indices of the entries in a flattened plan (K,).
        """
        column = which % len(self.mean)
        return (values - self.mean[column]) / self.std[column] * varied(self.std[column])

    def unnormalize(self, x: Tensor) -> Tensor:
        """Return normalised plans (..., D) in task units."""
        return x * self.std + self.mean


def varied(std: Tensor) -> Tensor:
    """Return 1 for columns that varied in training and 0 for others, in the dtype of ``std``."""
    return (std > VARIED).to(std.dtype)
