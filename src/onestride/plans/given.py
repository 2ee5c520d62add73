"""The known entries of a plan before it is generated, and the noise that it is generated from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from onestride.plans.spec import PlanSpec


@dataclass(frozen=True)
class Given:
    """What a task derives from observations before plans are generated, in task units.

    Attributes:
        values: the plans' known entries (B, K), in the order of ``PlanSpec.known_entries``.
        context: the generator's condition (B, C).
        frame: what the task needs to turn plans into commands. Only the task looks into it.
        images: cameras' images (B, n_obs_steps, height, width, 3) by name, 0 to 255, which an encoder makes more
            context of.
    """

    values: Tensor
    context: Tensor
    frame: Any
    images: Mapping[str, Tensor] = field(default_factory=dict)


def mask_of(spec: PlanSpec) -> Tensor:
    """Return which entries of a plan are known (H, D), bool."""
    return torch.tensor(spec.mask)  # on the default device, meta included


def loss_weights(spec: PlanSpec, first_action_weight: float) -> Tensor:
    """Return how much each entry of a plan weighs in a loss (H, D): nothing where it is known, 1 on average elsewhere.

    first_action_weight: of the action in row 0, which is carried out, against all other free entries.
    """
    known = mask_of(spec)
    weight = torch.ones(known.shape)
    weight[0, spec.state_dim :] = first_action_weight
    weight = weight * ~known
    return weight * (len(spec.free_entries) / weight.sum())


def order_of(spec: PlanSpec) -> Tensor | None:
    """Return the places of a flattened plan's entries in [known entries | free entries] (H D,).

    None where every entry keeps its place.
    """
    if spec.starts_with_observation:
        return None
    return torch.from_numpy(spec.known_entries_first.argsort())


def make_prior(noise: Tensor, temperature: Tensor, values: Tensor, entries: Tensor) -> Tensor:
    """Return noise (B, H, D) times temperature (B,), with normalised values (B or 1, K) in the known entries (K,)."""
    prior = noise * temperature[:, None, None]
    if not len(entries):
        return prior  # nothing is written into a graph, and a runtime stumbles over no empty index
    return prior.flatten(1).index_copy(1, entries, values.expand(len(prior), -1)).view_as(prior)
