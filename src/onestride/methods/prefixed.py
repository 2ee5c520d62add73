"""Any planner with a prefix: the first rows' actions are committed when a plan is asked for, and the plan goes on.

    context (B, C) | committed actions (B, P A), 0 where none is | whether each row is committed (B, P) -> its context

A robot goes on with its running plan while the next is computed. Told what it does meanwhile, the next plan joins it
without a jump. The committed rows come back bit for bit. In training a batch's prefixes are as long as chance has it, 0
to P rows, and each is its own window's (training-time real-time chunking); the generator's loss is as it always is: of
committed rows it learns to repeat what it is told. They are not left out, since a teacher's estimates of them are read
where its score is (``score_distillation.py``). Diffusion planners have the prefix put into every estimate of the plan.

Sources: "Real-Time Execution of Action Chunking Flow Policies" (Black et al. 2025, arXiv 2506.07339); "Training-Time
Action Conditioning for Efficient Real-Time Chunking" (arXiv 2512.05964). Theirs are planners of several calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onestride.methods.diffusion_planner import DiffusionPlanner
from onestride.methods.method import Method
from onestride.methods.wrapped import WrappedPlanner
from onestride.plans.spec import PlanSpec


class PrefixedPlanner(WrappedPlanner):
    """A generator whose context says what is committed.

    Args:
        planner: the method's generator, whose context has C + P (A + 1) numbers.
        spec: of its plans, with the longest prefix P; C is the context's size.
    """

    def __init__(self, planner: Any, spec: PlanSpec) -> None:
        super().__init__(planner)
        self.longest, self.first, self.context_dim = spec.prefix, spec.state_dim, spec.context_dim
        self.actions = spec.action_dim

    def embed(self, context: Tensor, committed: Tensor | None = None) -> Tensor:
        """Return the generator's context (B, C + P (A + 1)) of context (B, C).

        committed: actions of the first rows (1 or B, P, A), normalised; rows with a NaN are not committed. None: none.
        """
        if committed is None:
            return torch.cat((context, context.new_zeros(len(context), self.longest * (self.actions + 1))), 1)
        there = (committed == committed).all(2)  # NaN is not itself
        values = torch.where(there[..., None], committed, torch.zeros_like(committed))
        told = torch.cat((values.flatten(1), there.to(values.dtype)), 1)
        return torch.cat((context, told.to(context.dtype).expand(len(context), -1)), 1)

    def sample(
        self, prior: Tensor, context: Tensor | None, *, generator: torch.Generator | None = None, **more: Any
    ) -> Tensor:
        """Return plans (B, H, D) from a prior (B, H, D) and what ``embed`` made (1 or B, .)."""
        assert context is not None
        planner = self.planner
        if not isinstance(planner, DiffusionPlanner):
            return self.put_back(planner.sample(prior, context, generator=generator, **more), context)
        plans = planner.solve(lambda x, k: self.put_back(planner.denoise(x, k, context), context), prior, generator)
        return self.put_back(plans, context)

    def put_back(self, plans: Tensor, context: Tensor) -> Tensor:
        """Return plans (B, H, D) with the committed actions that the context (1 or B, .) says."""
        values, there = context[:, self.context_dim :].split((self.longest * self.actions, self.longest), 1)
        head, tail = plans[:, : self.longest], plans[:, self.longest :]
        values, own = values.unflatten(1, (self.longest, self.actions)), head[..., self.first :]
        actions = torch.where(there[..., None] > 0, values, own)
        return torch.cat((torch.cat((head[..., : self.first].to(actions.dtype), actions), 2), tail), 1)

    def draw(self, plans: Tensor, rng: torch.Generator) -> Tensor:
        """Return prefixes of plans (B, H, D), normalised (B, P, A): each length from 0 to P is as likely as another."""
        rows = torch.arange(self.longest, device=plans.device)
        length = torch.randint(self.longest + 1, (len(plans), 1), generator=rng, device=plans.device)
        return plans[:, : self.longest, self.first :].masked_fill((rows >= length)[..., None], torch.nan)

    def seen(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return windows with a prefix each in their context. Pairs have that of their teacher's plan already."""
        if "plans" not in batch:
            return batch
        return batch | {"context": self.embed(batch["context"], self.draw(batch["plans"], rng))}


def with_prefix(build: Callable[[Any, PlanSpec], Any], config: Any, spec: PlanSpec) -> PrefixedPlanner:
    """Return a method's generator that is told a prefix of at most ``spec.prefix`` rows."""
    inner = replace(spec, context_dim=spec.context_dim + spec.prefix * (spec.action_dim + 1), prefix=0)
    return PrefixedPlanner(build(config, inner), spec)


def refuse_prefix(method: Method, config: Any, *, cameras: bool, conditions: bool, guided: bool, columns: bool) -> None:
    """Raise ValueError where a method cannot be told a prefix, before it is trained.

    columns: whether the task knows commands as a plan's action columns (``ControlSpec.action_columns``).
    """
    why = (
        "its task's commands are no numbers of a plan (the task has no action_columns)" if not columns
        else "it looks at cameras, and takes either them or a prefix" if cameras
        else "its plans take conditions, and it takes either them or a prefix" if conditions
        else "a return model guides it, which knows of no prefix (--guidance 0)" if guided
        else "it learns from single steps, which have no prefix" if method.needs == "transitions"
        else "it learns from neighbours, which have other prefixes (--config.neighbours 0)"
        if method.neighbours(config)[0]
        else ""
    )  # fmt: skip
    if why:
        raise ValueError(f"method '{method.name}' cannot be trained with a prefix: {why}")
