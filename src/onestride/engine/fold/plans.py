"""The fold of any other selector: it ranks whole plans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onestride.engine.affine import Affine, dense, exact
from onestride.engine.fold.parts import Ranking
from onestride.plans.given import Given, order_of
from onestride.tasks.task import Selector, Task


def fold_plans(selector: Selector, last: Affine, task: Task, plan: bool) -> Ranking:
    """Return the selector itself behind the decoder."""
    del plan
    kept = exact(selector) if isinstance(selector, nn.Module) else selector
    return Ranking(PlanScorer(kept, last, task), None, None)


class PlanScorer(nn.Module):
    """Any selector, on whole plans: a task's own geometry, or a return model that is no MLP."""

    def __init__(self, selector: Selector, last: Affine, task: Task) -> None:
        super().__init__()
        self.selector, self.last, self.dim = selector, dense(last), task.control.transition_dim
        self.order = order_of(task.plans)

    def forward(self, features: Tensor, known: Tensor, row: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        del known
        free = self.last(features)
        plans = torch.cat((given.values.expand(len(free), -1), free), -1)
        if self.order is not None:
            plans = plans[:, self.order]
        plans = plans.view(1, len(free), -1, self.dim)
        return free, self.selector(plans, row, given.frame)[0] + 0 * free.sum(-1)
