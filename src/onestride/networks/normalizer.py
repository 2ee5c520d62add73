"""The normaliser: z-scores for plan columns and context; it travels inside every checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STD_FLOOR = 1e-3  # near-constant columns are not blown up
#: A deviation above this was measured; one at the floor says that the column hardly varied (rounded to float32).
VARIED = 1.001 * STD_FLOOR


class Normalizer(nn.Module):
    """Per-column mean and standard deviation of plans (D,) and context (C,), as buffers.

    A column that hardly varied in training says nothing: normalised it is 0, so that a value that is off by a hair, of
    which nothing was learnt, does not steer the policy.
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
        """From plans (M, H, D) and context (M, C) in task units."""
        flat = plans.flatten(0, 1)
        spread = context.std(0, correction=0) if context.shape[1] else context.mean(0)  # std warns of no columns
        return cls(flat.mean(0), flat.std(0, correction=0), context.mean(0), spread)

    @classmethod
    def empty(cls, transition_dim: int, context_dim: int) -> Normalizer:
        """The identity, to load a checkpoint into."""
        ones, context = torch.ones(transition_dim), torch.ones(context_dim)
        return cls(0 * ones, ones, 0 * context, context)

    def plans(self, x: Tensor) -> Tensor:
        """Task units -> normalised, (..., D)."""
        return (x - self.mean) / self.std * varied(self.std)

    def context(self, c: Tensor) -> Tensor:
        """Task units -> normalised, (..., C)."""
        return (c - self.context_mean) / self.context_std * varied(self.context_std)

    def start(self, s: Tensor) -> Tensor:
        """The observation columns of row 0, task units -> normalised, (..., O)."""
        o = s.shape[-1]
        return (s - self.mean[:o]) / self.std[:o] * varied(self.std[:o])

    def entries(self, values: Tensor, which: Tensor) -> Tensor:
        """Entries of flattened plans, task units -> normalised: values (..., K) of the entries (K,)."""
        column = which % len(self.mean)
        return (values - self.mean[column]) / self.std[column] * varied(self.std[column])

    def unnormalize(self, x: Tensor) -> Tensor:
        """Normalised -> task units, (..., D)."""
        return x * self.std + self.mean


def varied(std: Tensor) -> Tensor:
    """1 for columns that varied in training, 0 for others, in the type of ``std``."""
    return (std > VARIED).to(std.dtype)
