"""How the noise of a decision's candidates is scaled, and what those of larger noise must be worth more.

Noise that is scaled down gives what a planner mostly does, precisely; whole noise gives all that it may do, and larger
errors for a selector to fall for. A decision can have both: candidates of every temperature, of which those of larger
noise win only by a margin. Where an episode may go several ways the better one is worth far more than any margin;
everywhere else the most precise candidates decide among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: How noise is scaled in training, and what share of it each way (DNK, section V-A). Of decisions it says nothing.
TEMPERATURES, SHARES = (0.3, 0.5, 0.7), (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Sampling:
    """A candidate's noise is scaled by one of the temperatures, in these shares.

    margin: what a candidate must be worth more for every unit that its temperature is above ``cool``, in the selector's
    own units. 0: candidates of every temperature are judged alike.
    """

    temperatures: tuple[float, ...] = TEMPERATURES
    shares: tuple[float, ...] = SHARES
    margin: float = 0.0
    cool: float = 0.5

    def __post_init__(self) -> None:
        if len(self.temperatures) != len(self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"temperatures {self.temperatures} need as many shares, adding up to 1, got {self.shares}")
        if min(self.shares) < 0 or min(self.temperatures) <= 0 or not 0 <= self.margin < float("inf"):
            raise ValueError(
                f"temperatures must be above 0, shares and margin at least 0; got {self.temperatures}, {self.shares} "
                f"and {self.margin}"
            )
        if self.margin and not self.cool >= min(self.temperatures):
            raise ValueError(f"cool is {self.cool}: nobody is, of temperatures {self.temperatures}")

    def of(self, candidates: int) -> Tensor:
        """The temperature of each candidate (N,)."""
        bounds = (torch.tensor(self.shares).cumsum(0) * candidates).round()
        which = torch.searchsorted(bounds, torch.arange(candidates) + 0.5)
        return torch.tensor(self.temperatures)[which.clamp(max=len(self.temperatures) - 1)]

    def handicap(self, candidates: int) -> Tensor | None:
        """What is taken from each candidate's score (N,); None: nothing from anyone's."""
        return self.margin * (self.of(candidates) - self.cool).clamp(min=0) if self.margin else None
