"""The normaliser: z-scores of plan columns and context. It is part of every checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STD_FLOOR = 1e-3  # smallest standard deviation, so that almost constant columns are not amplified
#: A standard deviation above this was measured. One at the floor means an almost constant column (in float32).
VARIED = 1.001 * STD_FLOOR


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
    def fit(cls, plans: Tensor, context: Tensor) -> Normalizer:
        """Return the normaliser of plans (M, H, D) and context (M, C) in task units."""
        flat = plans.flatten(0, 1)
        spread = context.std(0, correction=0) if context.shape[1] else context.mean(0)  # std warns of no columns
        return cls(flat.mean(0), flat.std(0, correction=0), context.mean(0), spread)

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
