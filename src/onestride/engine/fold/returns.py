"""The fold of a return model as a selector, where it is a residual MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onestride.engine.affine import (
    Affine,
    affine,
    by_entries,
    compose,
    dense,
    exact,
    fold_gain,
    fold_input_norm,
    fold_output_norm,
    of_varied,
    outputs,
)
from onestride.engine.fold.parts import Ranking
from onestride.engine.fold.plans import fold_plans
from onestride.engine.fold.residual import ResidualBody, film_at
from onestride.networks.mlp import ResidualMLP
from onestride.plans.given import Given
from onestride.selectors.returns import ReturnSelector
from onestride.tasks.task import Task


def fold_returns(selector: ReturnSelector, last: Affine, task: Task, plan: bool) -> Ranking:
    """Return the model at k = 0, its first layer one with the decoder's last where that is smaller; a U-Net ranks whole
    plans."""
    if not isinstance(selector.model.network, ResidualMLP):
        return fold_plans(selector, last, task, plan)
    network, normalizer = exact(selector.model.network), exact(selector.normalizer)
    film = film_at(network, network.features[:1])
    mean, std = normalizer.mean.repeat(task.control.horizon), normalizer.std.repeat(task.control.horizon)
    given, others = (torch.from_numpy(which) for which in (task.plans.known_entries, task.plans.free_entries))
    known, free = by_entries(of_varied(affine(network.input), std), given, others)
    seen = fold_output_norm(last, -mean[others] / std[others], 1 / std[others])
    whole = compose(free, seen)
    smaller = whole.weight.numel() < free.weight.numel() + seen.weight.numel()
    first = dense(whole) if smaller else nn.Sequential(dense(seen), dense(free))
    output = fold_gain(affine(network.output), film[-2], film[-1])
    finish = last if plan else outputs(last, 0, task.control.action_dim)
    known = fold_input_norm(known, mean[given], std[given])
    return Ranking(ReturnScorer(first, ResidualBody(network, film), output), known, finish)


class ReturnScorer(nn.Module):
    """The return model at k = 0."""

    def __init__(self, first: nn.Module, body: ResidualBody, output: Affine) -> None:
        super().__init__()
        self.first, self.body, self.output = first, body, dense(output)

    def forward(self, features: Tensor, known: Tensor, row: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        del row, given
        return features, self.output(self.body(self.first(features) + known))[:, 0]
