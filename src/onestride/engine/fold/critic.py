"""The fold of IQL's critics as a selector."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.affine import (
    Affine,
    dense,
    exact,
    fold_input_norm,
    fold_output_norm,
    of_varied,
    outputs,
    split_columns,
)
from onestride.engine.fold.parts import NoEngineError, Ranking
from onestride.plans.given import Given
from onestride.plans.spec import PlanSpec
from onestride.robot.control_spec import ControlSpec
from onestride.selectors.iql import CriticSelector
from onestride.tasks.task import Task


def fold_critic(selector: CriticSelector, last: Affine, task: Task, plan: bool) -> Ranking:
    """Return the critics on the judged entries; ``last`` decodes these first."""
    weight, bias = selector.iql.q.weights[0], selector.iql.q.biases[0]  # (E, in, W), (E, 1, W)
    first = Affine(weight.detach().double().cpu().transpose(1, 2).flatten(0, 1), bias.detach().double().cpu().flatten())
    control, normalizer = task.control, exact(selector.normalizer)
    o, size = control.state_dim, judged_entries(selector, task)
    mean, std = (v.repeat(control.horizon)[o : o + size] for v in (normalizer.mean, normalizer.std))
    seen = fold_output_norm(outputs(last, 0, size), -mean / std, 1 / std)
    first = of_varied(first, normalizer.std)
    known = fold_input_norm(split_columns(first, o)[0], normalizer.mean[:o], normalizer.std[:o])
    finish = last if plan else outputs(last, 0, control.action_dim)
    return Ranking(CriticScorer(selector, seen, first, control), known, finish)


def judged_entries(selector: CriticSelector, task: Task) -> int:
    """Return how many free entries of a plan the critic looks at: the first action, or ``scored_steps`` whole rows.

    Raises:
        NoEngineError: other entries among them are known than row 0's observation.
    """
    control = task.control
    rows = min(selector.scored_steps, control.horizon)
    judged = PlanSpec(horizon=rows, state_dim=control.state_dim, action_dim=control.action_dim).mask
    if not np.array_equal(task.plans.mask[:rows], judged):
        raise NoEngineError(
            f"the critic judges {rows} rows of a plan of task '{task.name}' in which more is known than where it "
            "starts; run the policy itself, or rank by another selector"
        )
    return rows * control.transition_dim - control.state_dim


class CriticScorer(nn.Module):
    """Mean over a plan's first rows of min Q(s_t, a_t): the critics' first layers are one product, their second one
    batched product. All in the critics' own units, the clamp of actions too.
    """

    low: Tensor
    high: Tensor

    def __init__(self, selector: CriticSelector, seen: Affine, first: Affine, control: ControlSpec) -> None:
        """seen: features -> free entries of the judged rows. first: a row (D) -> the critics' hidden units (E W)."""
        super().__init__()
        q, self.action_dim, self.transition_dim = selector.iql.q, control.action_dim, control.transition_dim
        self.members, _, self.width = q.weights[0].shape
        self.decode, self.pair = dense(seen), dense(first)
        self.action = dense(split_columns(first, control.state_dim)[1])
        weights, biases = ([p.detach().double().cpu() for p in list(own)[1:]] for own in (q.weights, q.biases))
        self.second: nn.Module = Batched(weights[0], biases[0])
        self.last, self.last_bias = nn.Parameter(weights[1]), nn.Parameter(biases[1])
        normalizer = exact(selector.normalizer)
        mean, std = (v[control.state_dim :] for v in (normalizer.mean, normalizer.std))
        rows = (len(seen.bias) + control.state_dim) // control.transition_dim
        for name, limit, state in (("low", selector.low, -torch.inf), ("high", selector.high, torch.inf)):
            row = torch.cat((torch.full((control.state_dim,), state), (limit.cpu() - mean) / std))
            self.register_buffer(name, row.repeat(rows)[control.state_dim :])

    def forward(self, features: Tensor, known: Tensor, row: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        del row, given
        seen = self.decode(features)
        x = torch.minimum(torch.maximum(seen, self.low), self.high)
        h = self.action(x[:, : self.action_dim]) + known  # of the first rows, whose state is the observed one
        if x.shape[1] > self.action_dim:
            h = torch.cat((h, self.pair(x[:, self.action_dim :].reshape(-1, self.transition_dim))))
        h = h.view(-1, self.members, self.width).transpose(0, 1)  # (E, rows N, W)
        h = F.silu(F.layer_norm(h, (self.width,)))
        h = F.silu(F.layer_norm(self.second(h), (self.width,)))
        worth = (torch.matmul(h, self.last) + self.last_bias)[..., 0].amin(0)
        n = len(features)
        scores = worth[:n]
        if len(worth) > n:
            later = worth[n:].view(n, -1)
            scores = (scores + later.sum(1)) / (1 + later.shape[1])
        # The clamp would hide an action that is infinite; nothing is added to the score of any other.
        return features, scores + 0 * seen.sum(-1)


class Batched(nn.Module):
    """A layer of every critic, (E, M, in) -> (E, M, out), as one batched product."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight (E, in, out), bias (E, 1, out)."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, h: Tensor) -> Tensor:
        return torch.matmul(h, self.weight) + self.bias


class Separate(nn.Module):
    """``Batched`` with one layer per critic: runtimes' 8 bits know layers, not batches of them."""

    def __init__(self, batched: Batched) -> None:
        super().__init__()
        maps = zip(batched.weight.detach().transpose(1, 2), batched.bias.detach()[:, 0], strict=True)
        self.layers = nn.ModuleList(dense(Affine(weight, bias)) for weight, bias in maps)

    def forward(self, h: Tensor) -> Tensor:
        return torch.stack([layer(part) for layer, part in zip(self.layers, h, strict=True)])
