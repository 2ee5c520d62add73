"""What is known of a plan when it is asked for, and the noise that it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class Given:
    """What an observation says about the plan to be made, in task units.

    values: the known entries (B, K), in the order of ``PlanSpec.known_entries``. context: (B, C), conditions the
    generator. frame: whatever the task needs to turn plans back into commands; opaque to everyone else.
    """

    values: Tensor
    context: Tensor
    frame: Any


def mask_of(spec: PlanSpec) -> Tensor:
    """Which entries of a plan are known (H, D), bool."""
    return torch.tensor(spec.mask)  # on the default device, meta included


def order_of(spec: PlanSpec) -> Tensor | None:
    """Where the entries of a flattened plan are in [known entries | free entries] (H D,); None: in their places."""
    if spec.starts_with_observation:
        return None
    return torch.from_numpy(spec.known_entries_first.argsort())


def make_prior(noise: Tensor, temperature: Tensor, values: Tensor, entries: Tensor) -> Tensor:
    """Return noise (B, H, D) times temperature (B,), with normalised values (B or 1, K) in the known entries (K,)."""
    prior = noise * temperature[:, None, None]
    return prior.flatten(1).index_copy(1, entries, values.expand(len(prior), -1)).view_as(prior)
