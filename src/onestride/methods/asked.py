"""Any one-step student with conditions: their embedding is more context of its generator, which knows of none.

    context (B, C) | embedding of what is asked for (B, E) -> the generator's context

At a decision the embedding is made once, before candidates are drawn (``embed``): asking costs a decision next to
nothing, however many candidates there are. In training a batch's rows say what each was asked with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onestride.methods.wrapped import WrappedPlanner
from onestride.networks.conditions import COLUMN, ConditionEmbedding, of_batch
from onestride.plans.spec import PlanSpec


class AskedPlanner(WrappedPlanner):
    """A generator whose context is made of numbers and of what is asked for.

    Args:
        planner: the method's generator, whose context has C + E numbers.
        conditions: embeds what is asked for (B, E).
    """

    def __init__(self, planner: Any, conditions: ConditionEmbedding) -> None:
        super().__init__(planner)
        self.conditions = conditions

    def embed(self, context: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        """Return the generator's context (B, C + E) of context (B, C) and conditions (1 or B, size) by name."""
        made = self.conditions(asked, rows=len(context))
        return torch.cat((context, made.expand(len(context), -1)), 1)

    def seen(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return a batch whose columns "condition.<name>" (B, size), what its rows ask for, are in its context."""
        del rng
        rest = {name: column for name, column in batch.items() if not name.startswith(COLUMN)}
        return rest | {"context": self.embed(batch["context"], of_batch(batch))}


def with_conditions(build: Callable[[Any, PlanSpec], Any], config: Any, spec: PlanSpec) -> AskedPlanner:
    """Return a method's generator with an embedding of what its plans may be asked for."""
    conditions = ConditionEmbedding(spec.conditions)
    inner = replace(spec, context_dim=spec.context_dim + conditions.width, conditions=())
    return AskedPlanner(build(config, inner), conditions)
