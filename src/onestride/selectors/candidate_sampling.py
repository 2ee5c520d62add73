"""How the noise of a decision's candidates is scaled, and what those of larger noise must be worth more.

Noise that is scaled down gives what a planner mostly does, precisely; whole noise gives all that it may do, and larger
errors for a selector to fall for. A decision can have both: candidates of every temperature, of which those of larger
noise win only by a margin. Where an episode may go several ways the better one is worth far more than any margin;
everywhere else the most precise candidates decide among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: How noise is scaled in training, and what share of it each way (DNK, section V-A). Of decisions it says nothing.
TEMPERATURES, SHARES = (0.3, 0.5, 0.7), (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class CandidateSampling:
    """A candidate's noise is scaled by one of the temperatures, with these probabilities.

    temperature_penalty: what a candidate must be worth more for every unit that its temperature is above
    ``penalty_free_below``, in the selector's own units. 0: candidates of every temperature are judged alike.
    """

    temperatures: tuple[float, ...] = TEMPERATURES
    probabilities: tuple[float, ...] = SHARES
    temperature_penalty: float = 0.0
    penalty_free_below: float = 0.5

    def __post_init__(self) -> None:
        temperatures, probabilities, penalty = self.temperatures, self.probabilities, self.temperature_penalty
        if len(temperatures) != len(probabilities) or abs(sum(probabilities) - 1) > 1e-6:
            raise ValueError(
                f"temperatures {temperatures} need as many probabilities, adding up to 1, got {probabilities}"
            )
        if min(probabilities) < 0 or min(temperatures) <= 0 or not 0 <= penalty < float("inf"):
            raise ValueError(
                "temperatures must be above 0, probabilities and temperature_penalty at least 0; got "
                f"{temperatures}, {probabilities} and {penalty}"
            )
        if penalty and not self.penalty_free_below >= min(temperatures):
            raise ValueError(
                f"penalty_free_below is {self.penalty_free_below}, expected at least the lowest of the temperatures "
                f"{temperatures}"
            )

    def temperatures_of(self, candidates: int) -> Tensor:
        """The temperature of each candidate (N,)."""
        import torch  # takes seconds, and a command's settings are read without it

        bounds = (torch.tensor(self.probabilities).cumsum(0) * candidates).round()
        which = torch.searchsorted(bounds, torch.arange(candidates) + 0.5)
        return torch.tensor(self.temperatures)[which.clamp(max=len(self.temperatures) - 1)]

    def score_penalty(self, candidates: int) -> Tensor | None:
        """What is taken from each candidate's score (N,); None: nothing from anyone's."""
        return (
            self.temperature_penalty * (self.temperatures_of(candidates) - self.penalty_free_below).clamp(min=0)
            if self.temperature_penalty
            else None
        )
