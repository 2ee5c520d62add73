"""How other libraries normalise, as this one's normaliser has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from onestride.files import CheckpointError
from onestride.networks.normalizer import VARIED, Normalizer

#: Spread of a column that never changed and is -1 when normalised: whatever it is, it stays -1 to seven digits.
STILL = 2.0**20
#: Spread of an action that never changed: the policy's share of it. LeRobot has it too.
TINY = 1e-8


class Columns(NamedTuple):
    """Columns (K,), which are ``(x - shift) / spread`` when normalised.

    Attributes:
        shift: what is taken away.
        spread: what is divided by; 0: the column never changed in the data.
        still: what such a column is when normalised.
    """

    shift: Tensor
    spread: Tensor
    still: Tensor


def columns_of(mode: str, statistics: Mapping[str, Tensor], size: int, what: str) -> Columns:
    """Return columns by the name of a way to normalise and its statistics, as LeRobot has them.

    Args:
        mode: IDENTITY, MEAN_STD, or MIN_MAX, QUANTILES or QUANTILE10, which map two of the statistics to -1 and 1.
        statistics: by name.
        size: K.
        what: the columns' name, for messages.

    Raises:
        CheckpointError: the mode is unknown, a statistic is missing, of another shape or not finite.
    """
    bounds = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
    if mode == "IDENTITY":
        return Columns(torch.zeros(size), torch.ones(size), torch.zeros(size))
    names = ("mean", "std") if mode == "MEAN_STD" else bounds.get(mode)
    if names is None:
        raise CheckpointError(f"{what} is normalised by {mode!r:.40}; IDENTITY, MEAN_STD, {', '.join(bounds)} are read")
    found = []
    for name in names:
        value = statistics.get(name)
        if value is None:
            raise CheckpointError(f"{what} is normalised by {mode}, and the files have no '{name}' of it")
        if value.numel() != size or not bool(value.isfinite().all()):
            raise CheckpointError(f"'{name}' of {what} is {tuple(value.shape)}, expected ({size},) of finite numbers")
        found.append(value.double().flatten())
    if mode == "MEAN_STD":
        return Columns(found[0], found[1], torch.zeros(size))
    low, high = found
    return Columns((low + high) / 2, (high - low) / 2, -torch.ones(size))


def normalizer_of(actions: Columns, step: Columns, n_obs_steps: int, what: str) -> Normalizer:
    """Return the normaliser of chunks of actions, whose context is so many observations, all of one kind of step.

    A column that never changed is what it was there: in an observation whatever it is now, in an action as the policy
    had it in the data.

    Raises:
        CheckpointError: a column changed so little that this library takes it as one that never did, or its spread is
            negative.
    """
    spread, shift = step.spread.clone().double(), step.shift.clone().double()
    never = spread == 0
    spread[never] = torch.where(step.still[never] == 0, 0.0, STILL).double()
    shift[never] = shift[never] - step.still[never] * spread[never]
    for name, values, still in (("observation", spread, never), ("action", actions.spread, actions.spread == 0)):
        little = torch.nonzero(~still & ~(values > VARIED)).flatten().tolist()
        if little:
            raise CheckpointError(
                f"{what}: column {little[0]} of the {name} is divided by {float(values[little[0]]):.3g}, and here "
                f"one of at most {VARIED:g} counts as constant: give it in a smaller unit, or train without it"
            )
    made = Normalizer(actions.shift, actions.spread, shift.repeat(n_obs_steps), spread.repeat(n_obs_steps))
    made.std[actions.spread == 0] = TINY
    return made
