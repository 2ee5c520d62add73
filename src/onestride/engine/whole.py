"""One decision of a policy whose generator has no fold: the modules themselves, one after the other.

observation (O,), draw -> encode -> prior of noise_bank[draw] -> generator.sample -> scores (N,) -> first action (A,)
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from onestride.engine.fold.folds import generator_fold
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import Choice, FoldedPolicy, bank_noise, chosen, fold, ranked
from onestride.engine.runners import ASKED, COMMITTED
from onestride.methods.prefixed import PrefixedPlanner
from onestride.networks.conditions import ConditionEmbedding
from onestride.plans.given import make_prior
from onestride.policy.embedding import embedded, inside
from onestride.policy.policy import Policy


class WholePolicy(nn.Module):
    """``forward(observation (observation_dim,), draw int64 (1,))`` -> ``Choice``; draw k has the noise of the policy's
    k-th decision after ``policy.reset(seed)`` on a CPU. With conditions, ``forward(observation, draw, asked (K,))``; of
    a planner with a prefix, ``forward(observation, draw, committed (P, A))``: action columns, NaN where none is."""

    known: Tensor  # the known entries of a plan (K,)
    noise_bank: Tensor  # (draws, N, H, D)
    temperature: Tensor  # (N,)
    score_penalty: Tensor | None  # (N,), what candidates must be worth more

    def __init__(self, policy: Policy, *, draws: int, seed: int, plan: bool) -> None:
        super().__init__()
        ranked(policy, draws)
        self.task, self.control = policy.task, policy.control
        self.plan = plan
        self.generator: Any = _own(policy.generator)
        self.normalizer, self.selector = _own(policy.normalizer), _own(policy.selector)
        self.register_buffer("known", policy.known.cpu())
        self.register_buffer("noise_bank", bank_noise(policy, draws, seed))
        self.register_buffer("temperature", policy.temperature.cpu())
        self.register_buffer("score_penalty", None if policy.score_penalty is None else policy.score_penalty.cpu())
        _refuse_noise(self)

    @property
    def draws(self) -> int:
        """How many decisions have noise of their own; then it comes round again."""
        return len(self.noise_bank)

    @property
    def candidates(self) -> int:
        """N."""
        return self.noise_bank.shape[1]

    @property
    def conditions(self) -> ConditionEmbedding | None:
        """Embeds what may be asked for; None: nothing may."""
        return getattr(self.generator, "conditions", None)

    @property
    def committed(self) -> tuple[int, int] | None:
        """P and A of what may be committed; None: nothing may."""
        spec = self.task.plans
        return (spec.prefix, spec.action_dim) if isinstance(self.generator, PrefixedPlanner) else None

    def forward(self, observation: Tensor, draw: Tensor, beside: Tensor | None = None) -> Choice:
        row = observation[None]
        given = self.task.encode(row)
        values = self.normalizer.entries(given.values, self.known)
        prior = make_prior(self.noise_bank.index_select(0, draw)[0], self.temperature, values, self.known)
        named = {} if self.conditions is None or beside is None else self.conditions.by_name(beside[None])
        prefix = None
        if self.committed is not None and beside is not None:
            columns = torch.arange(self.control.state_dim, self.control.transition_dim)
            prefix = self.normalizer.entries(beside[None], columns)
        context = embedded(self.generator, self.normalizer.context(given.context), given.images, named, prefix)
        made = self.generator.sample(prior, context, **inside(self.generator, named))
        plans = self.normalizer.unnormalize(made.float())
        scores = self.selector(plans[None], row, given.frame)[0]
        scores = scores + 0 * plans.flatten(1).sum(-1)  # a plan that is not finite makes its score so
        score, winner, scores = chosen(scores, self.score_penalty)
        plan = plans.index_select(0, winner)
        action = self.task.command(plan, given.frame)[0]
        return Choice(action, score, winner[0], scores, plan[0] if self.plan else None)


DecisionModule = FoldedPolicy | WholePolicy


def beside_of(decision: DecisionModule) -> tuple[str, tuple[int, ...]] | None:
    """Return the name and shape of what goes into a decision beside observation and draw; None: nothing does."""
    if decision.conditions is not None:
        return ASKED, (decision.conditions.numbers,)
    committed = decision.committed if isinstance(decision, WholePolicy) else None
    return None if committed is None else (COMMITTED, committed)


def decision_module(policy: Policy, *, draws: int, seed: int, plan: bool) -> DecisionModule:
    """Return the policy's decision as one module: folded where its generator has a fold, else whole.

    Raises:
        NoEngineError: the policy has no engine at all; the message says why.
    """
    if generator_fold(policy.generator) is None:
        return WholePolicy(policy, draws=draws, seed=seed, plan=plan).eval().requires_grad_(False)
    return fold(policy, draws=draws, seed=seed, plan=plan)


def _own(part: Any) -> Any:
    """A copy on the CPU of what has weights; functions are as they are."""
    return copy.deepcopy(part).cpu() if isinstance(part, nn.Module) else part


@torch.no_grad()
def _refuse_noise(whole: WholePolicy) -> None:
    """Raise NoEngineError where the generator draws more noise than its prior: a graph would draw other noise."""
    prior = whole.noise_bank[0] * whole.temperature[:, None, None]
    given = whole.task.encode(prior.new_zeros(1, whole.control.observation_dim))
    context = embedded(whole.generator, whole.normalizer.context(given.context), given.images)
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        before = rng.get_state(), torch.get_rng_state()
        whole.generator.sample(prior, context, generator=rng)
        if torch.equal(before[0], rng.get_state()) and torch.equal(before[1], torch.get_rng_state()):
            return
    raise NoEngineError(
        f"this {type(whole.generator).__name__} draws noise within its steps, which a graph cannot repeat: give it a "
        "deterministic solver, distil it, or run the policy itself (without --engine)"
    )
