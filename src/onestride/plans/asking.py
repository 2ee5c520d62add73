"""What a planner may be asked for beside what it observes: names, sizes and ranges. Needs NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def _unknown_values(_materials: Sequence[Any]) -> list[Tensor]:
    raise ValueError("what windows had of this condition is not known to a planner that was loaded")


@dataclass(frozen=True)
class Condition:
    """Something that may be asked for at decision time.

    Attributes:
        name: by which it is asked for.
        size: how many numbers it is.
        values: maps the ``Material`` of every set of episodes that is learnt from to what its windows had of it
            (M, size), normalised as it is asked for.
        low, high: between which numbers it may be asked for.
    """

    name: str
    size: int
    values: Callable[[Sequence[Any]], Sequence[Tensor]] = _unknown_values
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Asking:
    """The conditions of a planner, in the order in which their numbers stand one after the other.

    Attributes:
        names: of the conditions.
        sizes: how many numbers each is.
        low, high: between which each number may be asked for (K,).
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, generator: Any) -> Asking:
        """Return what a generator has learnt to be asked for: nothing of one without ``conditions``."""
        embedding = getattr(generator, "conditions", None)
        if embedding is None:
            return NOTHING
        sizes, low, high = embedding.sizes, embedding.low, embedding.high
        return cls(tuple(sizes), tuple(sizes.values()), low.cpu().numpy(), high.cpu().numpy())

    def numbers(self, conditions: Mapping[str, float | Sequence[float]]) -> np.ndarray:
        """Return what is asked for as one array of numbers (K,), float32; NaN: not asked for.

        Raises:
            ValueError: there is no such condition, or the value has another size or lies outside of its range.
        """
        made = np.full(sum(self.sizes), np.nan, np.float32)
        firsts = dict(zip(self.names, np.cumsum((0, *self.sizes))[:-1].tolist(), strict=True))
        sizes = dict(zip(self.names, self.sizes, strict=True))
        for name, value in conditions.items():
            given = np.atleast_1d(np.asarray(value, np.float32))
            if given.shape != (sizes.get(name),):
                known = ", ".join(f"{each} ({size})" for each, size in sizes.items()) or "nothing"
                raise ValueError(f"condition '{name}' of {given.size} numbers was not learnt; learnt: {known}")
            place = slice(firsts[name], firsts[name] + len(given))
            low, high = self.low[place], self.high[place]
            if not ((given >= low) & (given <= high)).all():
                raise ValueError(
                    f"condition '{name}' is {_said(given)}, expected {_said(low)} to {_said(high)}; leave it away to "
                    "ask for nothing"
                )
            made[place] = given
        return made

    def by_name(self, numbers: np.ndarray) -> dict[str, list[float]]:
        """Return the conditions that these numbers (K,) ask for, by name: what ``numbers`` makes them of."""
        parts = np.split(numbers, np.cumsum(self.sizes)[:-1]) if self.names else []
        named = zip(self.names, parts, strict=True)
        return {name: part.tolist() for name, part in named if not np.isnan(part).any()}


def _said(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


#: Of a planner that takes no conditions.
NOTHING = Asking((), (), np.zeros(0), np.zeros(0))
