"""One decision as the smallest module that gives the same action: a trained one-step policy without its training.

    observation (O,), draw -> encode -> one product -> + noise_bank[draw] -> body -> scores (N,) -> first action (A,)

What a decision computes for nothing is taken out, exactly (``affine.py`` has the rewrites):

- normalisers are part of the first and the last layers;
- what observation and context add to the first layers, of the student and of what ranks its plans, is one product
  per decision, not one per candidate;
- what the noise adds to the first layer is looked up: ``noise_bank[draw]`` holds it for N candidates, for every draw;
- linear layers in a row are one: the encoder's last, Q and the gains' first; P and the decoder's first; KDM's and
  KDM-F's matrix with both neighbours; the decoder's last and the return model's first, where that is smaller;
- only those entries of a plan are decoded that score and action need, the winner's plan where it is asked for.

Layer normalisations stay as they are: their gain stands before a SiLU, and runtimes take the mean away in the same
pass as the scale. The residual MLPs' have nothing between them and the next product, and are part of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from onestride.engine.affine import (
    Affine,
    by_entries,
    dense,
    exact,
    fold_input_norm,
    fold_offset,
    fold_output_norm,
    hcat,
    of_varied,
    outputs_of,
    split_columns,
    vcat,
)
from onestride.engine.fold.folds import generator_fold, selector_fold
from onestride.engine.fold.parts import NoEngineError, Ranking
from onestride.networks.conditions import ConditionEmbedding
from onestride.plans.given import order_of
from onestride.policy.policy import Policy
from onestride.tasks.task import Task


class Choice(NamedTuple):
    """What a decision gives: the winner's action (A,) in the robot's units, its score, its number, all scores (N,).

    plan (H, D) in task units, where it was asked for. A score that is not finite means that no candidate is.
    """

    action: Tensor
    score: Tensor
    winner: Tensor
    scores: Tensor
    plan: Tensor | None


class FoldedPolicy(nn.Module):
    """``forward(observation (observation_dim,), draw int64 (1,))`` -> ``Choice``; ``fold`` makes it.

    With conditions, ``forward(observation, draw, asked (K,))``; NaN: not asked for.
    """

    offset: Tensor  # what is known less this is what the first layers see
    noise_bank: Tensor  # (draws, N, hidden)
    skip_noise: Tensor | None  # (draws, N, R), where the last layer has the noise as an input of its own
    score_penalty: Tensor | None  # (N,), what candidates must be worth more

    def __init__(
        self,
        task: Task,
        known: Affine,
        offset: Tensor,
        noise_bank: Tensor,
        skip_noise: Tensor | None,
        score_penalty: Tensor | None,
        body: nn.Module,
        ranking: Ranking,
        conditions: ConditionEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.conditions = conditions
        self.task, self.control = task, task.control
        self.order = order_of(task.plans)
        asked = offset.new_zeros(known.weight.shape[1] - len(offset))  # nothing is usual of what is asked for
        self.decision_bias = dense(fold_offset(known, torch.cat((offset, asked))))
        self.body, self.scorer = body, ranking.scorer
        self.finish = nn.Identity() if ranking.finish is None else dense(ranking.finish)
        self.register_buffer("offset", offset)
        self.register_buffer("noise_bank", noise_bank)
        self.register_buffer("skip_noise", skip_noise)
        self.register_buffer("score_penalty", score_penalty)

    @property
    def draws(self) -> int:
        """How many decisions have noise of their own; then it comes round again."""
        return len(self.noise_bank)

    @property
    def candidates(self) -> int:
        """N."""
        return self.noise_bank.shape[1]

    def forward(self, observation: Tensor, draw: Tensor, asked: Tensor | None = None) -> Choice:
        row = observation[None]
        given = self.task.encode(row)
        seen = torch.cat((given.values, given.context), -1) - self.offset
        if self.conditions is not None and asked is not None:
            seen = torch.cat((seen, self.conditions(self.conditions.by_name(asked[None]))), -1)
        known = self.decision_bias(seen)
        hidden = self.noise_bank.shape[-1]
        features = self.body(self.noise_bank.index_select(0, draw)[0] + known[:, :hidden])
        if self.skip_noise is not None:
            features = torch.cat((features, self.skip_noise.index_select(0, draw)[0]), -1)
        rows, scores = self.scorer(features, known[:, hidden:], row, given)
        score, winner, scores = chosen(scores, self.score_penalty)
        free = self.finish(rows.index_select(0, winner))  # (1, A), or (1, H D - K) of the whole plan
        dim = self.control.transition_dim
        missing = self.control.horizon * dim - free.shape[1]
        complete = missing == given.values.shape[1]
        plan = torch.cat((given.values if complete else given.values[:, : self.control.state_dim], free), -1)
        if complete and self.order is not None:
            plan = plan[:, self.order]
        action = self.task.command(plan[:, None, :dim], given.frame)[0]
        whole = plan.view(-1, dim) if complete else None
        return Choice(action, score, winner[0], scores, whole)


def chosen(scores: Tensor, score_penalty: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (N,) of a decision's candidates -> the best score (), its number (1,), and what decided, (N,).

    A candidate that is not finite never wins: its score becomes -inf.
    """
    if score_penalty is not None:
        scores = scores - score_penalty
    scores = torch.where(scores - scores == 0, scores, -torch.inf)  # x - x is 0 for finite x alone
    winner = scores.argmax(0, keepdim=True)
    return scores.index_select(0, winner)[0], winner, scores


def ranked(policy: Policy, draws: int) -> None:
    """Raise NoEngineError unless something ranks the policy's plans and there is noise for a decision."""
    if policy.selector is None:
        raise NoEngineError(
            f"nothing ranks the plans of task '{policy.task.name}': give the policy a selector (--selector RUN/medoid, "
            "or RUN/iql where a critic was trained)"
        )
    if draws < 1:
        raise NoEngineError(f"a decision needs noise: draws is {draws}, expected at least 1")


@torch.no_grad()
def fold(
    policy: Policy, *, draws: int = 64, seed: int = 0, plan: bool = False, dtype: torch.dtype = torch.float32
) -> FoldedPolicy:
    """The policy's decision as one module on the CPU, with noise for ``draws`` decisions from ``seed``.

    Decision k has the noise of the k-th decision of ``policy`` after ``policy.reset(seed)`` on a CPU.
    plan: also decode the winner's whole plan. dtype: everything is made in float64 and rounded to it in the end.

    Raises:
        NoEngineError: the generator has no fold, or nothing ranks its plans.
    """
    make_parts = generator_fold(policy.generator)
    if make_parts is None:
        raise NoEngineError(f"a {type(policy.generator).__name__} has no fold: its policy is written whole")
    ranked(policy, draws)
    task, control, normalizer = policy.task, policy.control, exact(policy.normalizer)
    size = control.horizon * control.transition_dim
    mean, std = normalizer.mean.repeat(control.horizon), normalizer.std.repeat(control.horizon)
    parts, ranked_by = make_parts(policy.generator), selector_fold(policy.selector)
    given, others = (torch.from_numpy(which) for which in (task.plans.known_entries, task.plans.free_entries))

    plan_part, context_part = split_columns(parts.first, size)
    given_part, noise_part = by_entries(plan_part, given, others)
    offset = torch.cat((mean[given], normalizer.context_mean))
    spread = torch.cat((std[given], normalizer.context_std))
    seen_part, asked_part = split_columns(hcat(given_part, context_part), len(offset))
    known = fold_input_norm(of_varied(seen_part, spread), offset, spread)
    scaled = bank_noise(policy, draws, seed).double() * policy.temperature.cpu()[:, None, None]
    free = scaled.flatten(2)[..., others]
    noise_bank = free @ noise_part.weight.T
    decoded = others
    if ranked_by.entries is not None and not plan:
        decoded = others[: ranked_by.entries(policy.selector, task)]
    elif not (plan or task.plans.starts_with_observation):
        plan = True  # the first action is no run of the free entries
    last = fold_output_norm(outputs_of(parts.last, decoded), mean[decoded], std[decoded])
    noise = None
    if parts.skip:
        skipped = Affine(parts.skip * std[decoded].double().diag(), torch.zeros(len(decoded)).double())
        last = hcat(last, skipped)
        noise = free[..., : len(decoded)]
    ranking = ranked_by.fold(policy.selector, last, task, plan)
    if ranking.decision_bias is not None:
        bias, unseen = ranking.decision_bias, len(given) + task.context_dim
        nothing = torch.zeros(len(bias.bias), unseen - bias.weight.shape[1]).double()
        known = vcat(known, hcat(bias, Affine(nothing, torch.zeros(()).double())))
    conditions = getattr(policy.generator, "conditions", None)
    if conditions is not None:  # nobody who ranks sees what was asked for
        rest = torch.zeros(len(known.bias) - len(asked_part.weight), asked_part.weight.shape[1]).double()
        known = hcat(known, Affine(torch.cat((asked_part.weight, rest)), torch.zeros(()).double()))
    score_penalty = None if policy.score_penalty is None else policy.score_penalty.cpu()
    folded = FoldedPolicy(
        task, known, offset, noise_bank, noise, score_penalty, parts.body, ranking,
        None if conditions is None else exact(conditions),
    )  # fmt: skip
    return folded.to(dtype).eval().requires_grad_(False)


def bank_noise(policy: Policy, draws: int, seed: int) -> Tensor:
    """The noise of ``draws`` decisions (draws, N, H, D), before temperatures: as the policy itself would draw it."""
    rng = torch.Generator().manual_seed(seed)
    shape = (policy.candidates, policy.control.horizon, policy.control.transition_dim)
    return torch.stack([torch.randn(shape, generator=rng) for _ in range(draws)])
