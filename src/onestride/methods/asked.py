"""Any one-step student with conditions: their embedding is more context of its generator, which knows of none.

    context (B, C) | embedding of what is asked for (B, E) -> the generator's context

At a decision the embedding is made once, before candidates are drawn (``embed``): asking costs a decision next to
nothing, however many candidates there are. In training a pair says what it was asked with; a student of a planner that
takes conditions itself draws what both are asked for, and keeps the planner's embedding (``AskedLearner``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.methods.wrapped import WrappedLearner, WrappedPlanner
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


class AskedLearner(WrappedLearner):
    """Trains a student of a planner that takes conditions: every phase asks both for the same, drawn anew.

    Args:
        generator: with the method's generator inside, which ``learner`` trains; it takes the teacher's embedding, which
            stays as it is.
        learner: the method's, of the generator inside and the teacher.
        conditions: the teacher's.
        usual: what decisions ask for (K,); NaN: nothing.
    """

    deployed: AskedPlanner

    def __init__(self, generator: AskedPlanner, learner: Any, conditions: ConditionEmbedding, usual: Tensor) -> None:
        super().__init__(generator, learner)
        generator.conditions.load_state_dict(conditions.state_dict())
        generator.conditions.requires_grad_(False)
        self.usual = usual

    def loss(self, phase: str, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the loss of a phase of the method."""
        asked = drawn(self.deployed.conditions, self.usual, len(batch["context"]), rng)
        columns = {f"{COLUMN}{name}": value.to(batch["context"]) for name, value in asked.items()}
        return super().loss(phase, batch | columns, rng)


def drawn(conditions: ConditionEmbedding, usual: Tensor, rows: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Return what rows of a student's training ask its teacher for (rows, size), by name.

    An eighth asks for nothing. Of the others each condition is, by itself, left out in a quarter, what decisions ask
    for in a quarter, and anywhere in its range in half: a student is to follow the teacher wherever it may be asked.

    Args:
        conditions: the teacher's.
        usual: what decisions ask for (K,); NaN: nothing.
        rows: of the training.
        rng: that draws them, on whose device they are.

    Raises:
        ValueError: a condition has no range.
    """
    there = rng.device
    silent = torch.rand(rows, 1, generator=rng, device=there) < 0.125
    low, high = conditions.low.to(there), conditions.high.to(there)
    if not torch.isfinite(high - low).all():
        raise ValueError(
            f"a student's training asks for {', '.join(conditions.sizes)} anywhere in their ranges, and one has none: "
            "give its Condition low and high, and train the teacher again"
        )
    values = low + (high - low) * torch.rand(rows, len(low), generator=rng, device=there)
    which = torch.rand(rows, len(conditions.sizes), generator=rng, device=there)
    which = which.repeat_interleave(torch.tensor(list(conditions.sizes.values()), device=there), 1)
    values = torch.where(which < 0.5, usual.to(there), values)
    return conditions.by_name(values.masked_fill((which < 0.25) | silent, torch.nan))


def without_conditions(planner: DiffusionPlanner) -> DiffusionPlanner:
    """Return a planner as one whose context (B, C + E) holds what is asked for, embedded; weights are shared."""
    made = copy.copy(planner)
    made._modules = dict(planner._modules) | {"conditions": None}
    return made
