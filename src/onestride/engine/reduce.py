"""One decision as the smallest module that gives the same action: a trained one-step policy without its training.

    observation (O,), draw -> encode -> one thin product -> + bank[draw] -> trunk -> scores (N,) -> first action (A,)

What a decision computes for nothing is taken out, exactly (``affine.py`` has the rewrites):

- normalisers are part of the first and the last layers;
- what observation and context add to the first layers, of the student and of what ranks its plans, is one product
  per decision, not one per candidate;
- what the noise adds to the first layer is looked up: ``bank[draw]`` holds it for N candidates, for every draw;
- linear layers in a row are one: the encoder's last, Q and the gains' first; P and the decoder's first; KDM's and
  KDM-F's matrix with both neighbours; the decoder's last and the return model's first, where that is smaller;
- only those entries of a plan are decoded that score and action need, the winner's plan where it is asked for.

Layer normalisations stay as they are: their gain stands before a SiLU, and runtimes take the mean away in the same
pass as the scale. The residual MLPs' have nothing between them and the next product, and are part of it.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.control.policy import Policy
from onestride.diffusion.returns import ReturnSelector
from onestride.engine.affine import (
    Affine,
    affine,
    after,
    apart,
    beside,
    dense,
    in_units,
    of_offset,
    of_scaled,
    of_units,
    outputs,
    spectral_matrix,
    stacked,
)
from onestride.networks.embeddings import sinusoidal
from onestride.networks.mlp import ResidualMLP
from onestride.selectors.iql import CriticSelector
from onestride.students.consistency import ConsistencyStudent
from onestride.students.koopman import FDKLayer, KoopmanStudent, PlainLayer, StaticFactorizedLayer
from onestride.tasks.task import Selector, Start, Task

M = TypeVar("M", bound=nn.Module)


class ReduceError(ValueError):
    """A policy that is no single network call, or ranks nothing; the message says what to do instead."""


class Choice(NamedTuple):
    """What a decision gives: the winner's action (A,) in the robot's units, its score, its number, all scores (N,).

    plan (H, D) in task units, where it was asked for. A score that is not finite means that no candidate is.
    """

    action: Tensor
    score: Tensor
    winner: Tensor
    scores: Tensor
    plan: Tensor | None


class Reduced(nn.Module):
    """``forward(observation (observation_dim,), draw int64 (1,))`` -> ``Choice``; ``reduce`` makes it."""

    offset: Tensor  # what is known less this is what the first layers see
    bank: Tensor  # (draws, N, hidden)
    noise: Tensor | None  # (draws, N, R), where the last layer has the noise as an input of its own

    def __init__(
        self,
        task: Task,
        known: Affine,
        offset: Tensor,
        bank: Tensor,
        noise: Tensor | None,
        trunk: nn.Module,
        ranking: Ranking,
    ) -> None:
        super().__init__()
        self.task = task
        self.known = dense(of_offset(known, offset))
        self.trunk, self.scorer = trunk, ranking.scorer
        self.finish = nn.Identity() if ranking.finish is None else dense(ranking.finish)
        self.register_buffer("offset", offset)
        self.register_buffer("bank", bank)
        self.register_buffer("noise", noise)

    @property
    def draws(self) -> int:
        """How many decisions have noise of their own; then it comes round again."""
        return len(self.bank)

    @property
    def candidates(self) -> int:
        """N."""
        return self.bank.shape[1]

    def forward(self, observation: Tensor, draw: Tensor) -> Choice:
        row = observation[None]
        start = self.task.encode(row)
        known = self.known(torch.cat((start.start, start.context), -1) - self.offset)
        hidden = self.bank.shape[-1]
        features = self.trunk(self.bank.index_select(0, draw)[0] + known[:, :hidden])
        if self.noise is not None:
            features = torch.cat((features, self.noise.index_select(0, draw)[0]), -1)
        rows, scores = self.scorer(features, known[:, hidden:], row, start)
        # A candidate that is not a number never wins; x - x is 0 for finite x alone.
        scores = torch.where(scores - scores == 0, scores, -torch.inf)
        winner = scores.argmax(0, keepdim=True)
        free = self.finish(rows.index_select(0, winner))  # (1, A), or (1, H D - O) of the whole plan
        plan = torch.cat((start.start, free), -1)
        dim = self.task.transition_dim
        action = self.task.command(plan[:, None, :dim], start.frame)[0]
        whole = plan.view(-1, dim) if plan.shape[1] == self.task.horizon * dim else None
        return Choice(action, scores.index_select(0, winner)[0], winner[0], scores, whole)


@torch.no_grad()
def reduce(
    policy: Policy, *, draws: int = 64, seed: int = 0, plan: bool = False, dtype: torch.dtype = torch.float32
) -> Reduced:
    """The policy's decision as one module on the CPU, with noise for ``draws`` decisions from ``seed``.

    Decision k has the noise of the k-th decision of ``policy`` after ``policy.reset(seed)`` on a CPU.
    plan: also decode the winner's whole plan. dtype: everything is made in float64 and rounded to it in the end.

    Raises:
        ReduceError: the generator makes more than one network call, or nothing ranks its plans.
    """
    if policy.selector is None:
        raise ReduceError(
            f"nothing ranks the plans of task '{policy.task.name}': give the policy a selector (--selector RUN/iql)"
        )
    if draws < 1:
        raise ReduceError(f"a decision needs noise: draws is {draws}, expected at least 1")
    task, normalizer = policy.task, _exact(policy.normalizer)
    o, size = task.state_dim, task.horizon * task.transition_dim
    mean, std = normalizer.mean.repeat(task.horizon), normalizer.std.repeat(task.horizon)
    parts = _parts(policy.generator)

    plan_part, context_part = apart(parts.first, size)
    start_part, noise_part = apart(plan_part, o)
    offset = torch.cat((mean[:o], normalizer.context_mean))
    known = of_units(beside(start_part, context_part), offset, torch.cat((std[:o], normalizer.context_std)))
    scaled = bank_noise(policy, draws, seed).double() * policy.temperature.cpu()[:, None, None]
    free = scaled.flatten(2)[..., o:]
    bank = free @ noise_part.weight.T
    wanted = size - o
    if isinstance(policy.selector, CriticSelector) and not plan:
        wanted = judged_entries(policy.selector, task)
    last = in_units(outputs(parts.last, o, o + wanted), mean[o : o + wanted], std[o : o + wanted])
    noise = None
    if parts.skip:
        last = beside(last, Affine(parts.skip * std[o : o + wanted].double().diag(), torch.zeros(wanted).double()))
        noise = free[..., :wanted]
    ranking = _ranking(policy.selector, last, task, plan)
    if ranking.known is not None:
        nothing = Affine(torch.zeros(len(ranking.known.bias), task.context_dim).double(), torch.zeros(()).double())
        known = stacked(known, beside(ranking.known, nothing))
    return Reduced(task, known, offset, bank, noise, parts.trunk, ranking).to(dtype).eval().requires_grad_(False)


def bank_noise(policy: Policy, draws: int, seed: int) -> Tensor:
    """The noise of ``draws`` decisions (draws, N, H, D), before temperatures: as the policy itself would draw it."""
    rng = torch.Generator().manual_seed(seed)
    shape = (policy.candidates, policy.task.horizon, policy.task.transition_dim)
    return torch.stack([torch.randn(shape, generator=rng) for _ in range(draws)])


# ---------------------------------------------------------------- generators


class Parts(NamedTuple):
    """A generator in normalised units: first layer of [plan H D | context C], trunk, last layer to H D.

    skip: what of a free entry's noise the plan keeps.
    """

    first: Affine
    trunk: nn.Module
    last: Affine
    skip: float = 0.0


def _parts(generator: nn.Module) -> Parts:
    if isinstance(generator, KoopmanStudent):
        first = _beside_context(generator.encoder.plan, generator.encoder.context)
        return Parts(first, KoopmanTrunk(generator), _map(generator.decoder[6]))
    if isinstance(generator, ConsistencyStudent):
        return _consistency(generator)
    calls = getattr(generator, "nfe", "many")
    raise ReduceError(
        f"a {type(generator).__name__} makes {calls} network calls per decision and only one can be reduced: distil it "
        "first (`onestride distill`, `onestride consistency`)"
    )


def _beside_context(plan: nn.Linear, context: nn.Linear | None) -> Affine:
    return affine(plan) if context is None else beside(affine(plan), affine(context))


class KoopmanTrunk(nn.Module):
    """From the encoder's first pre-activations (N, hidden) to what the decoder's last layer sees (N, hidden)."""

    def __init__(self, student: KoopmanStudent) -> None:
        super().__init__()
        encoder, decoder, operator = student.encoder.rest, student.decoder, student.operator
        self.norms = nn.ModuleList(_exact(norm) for norm in (encoder[0], encoder[3], decoder[1], decoder[4]))
        self.encode, self.decode = dense(_map(encoder[2])), dense(_map(decoder[3]))
        into, out = _map(encoder[5]), _map(decoder[0])  # both ends of the latent space
        self.lift = self.gains = None
        if isinstance(operator, FDKLayer):
            self.lift = dense(after(stacked(affine(operator.Q), _map(operator.gamma[0])), into))  # [Q z | gains' first]
            self.gains = dense(_map(operator.gamma[2]))
            self.carry = dense(after(out, affine(operator.P)))
        elif isinstance(operator, PlainLayer):
            self.lift = dense(after(_map(operator.net[0]), into))
            self.carry = dense(after(out, _map(operator.net[2])))
        else:
            static = spectral_matrix(operator) if isinstance(operator, StaticFactorizedLayer) else affine(operator.A)
            self.carry = dense(after(out, after(static, into)))

    def forward(self, h: Tensor) -> Tensor:
        enter, leave, arrive, decoded = self.norms
        h = F.silu(leave(self.encode(F.silu(enter(h)))))
        if self.lift is not None:
            h = self.lift(h)
            if self.gains is None:
                h = F.silu(h)
            else:
                latent = self.gains.out_features
                h = h[:, :latent] * self.gains(F.silu(h[:, latent:]))
        return F.silu(decoded(self.decode(F.silu(arrive(self.carry(h))))))


class ResidualTrunk(nn.Module):
    """A residual MLP between its input and its output layer, at one noise index: (N, W) -> (N, W), normalised.

    What k says is then a constant, and part of the products.
    """

    def __init__(self, network: ResidualMLP, film: Tensor) -> None:
        """film: scales and shifts (2 blocks + 2, W) at that index."""
        super().__init__()
        self.width = network.width
        self.expand = nn.ModuleList(
            dense(of_scaled(_map(layer), film[2 * i], film[2 * i + 1])) for i, layer in enumerate(network.expand)
        )
        self.contract = nn.ModuleList(dense(_map(layer)) for layer in network.contract)

    def forward(self, h: Tensor) -> Tensor:
        for expand, contract in zip(self.expand, self.contract, strict=True):
            h = h + contract(F.silu(expand(F.layer_norm(h, (self.width,)))))
        return F.layer_norm(h, (self.width,))


def film_at(network: ResidualMLP, features: Tensor) -> Tensor:
    """Scales and shifts (2 blocks + 2, W) for the features (1, 64) of a noise index."""
    return network.film(network.time(features)).view(-1, network.width)


def _consistency(student: ConsistencyStudent) -> Parts:
    """f at sigma_max: the network sees free entries scaled and what the observation fixes as it is."""
    f, sigma = student.f, student.config.sigma_max
    above = (sigma - f.boundary) / f.sigma_data
    c_in = (sigma**2 + f.sigma_data**2) ** -0.5
    network = _exact(f.network)
    film = film_at(network, sinusoidal(f.index(torch.full((1,), sigma, dtype=torch.float64)), network.omega))
    first = _beside_context(network.input, network.context)
    scale = torch.ones(first.weight.shape[1], dtype=torch.float64)
    scale[: f.fixed.numel()][~f.fixed.cpu().flatten()] = c_in * sigma
    last = of_scaled(affine(network.output), film[-2], film[-1])
    factor = above * f.sigma_data**2 * c_in
    return Parts(
        Affine(first.weight * scale, first.bias),
        ResidualTrunk(network, film),
        Affine(last.weight * factor, last.bias * factor),
        skip=sigma / (1 + above**2),
    )


# ---------------------------------------------------------------- ranking


class Ranking(NamedTuple):
    """scorer(features (N, F), its part of the known (1, K), observation (1, O), start) -> rows (N, R), scores (N,).

    known: what the scorer wants of the observation (O -> K). finish: from the winner's row to the free entries of
    its plan, or of its first action; None where the row is that.
    """

    scorer: nn.Module
    known: Affine | None
    finish: Affine | None


def _ranking(selector: Selector, last: Affine, task: Task, plan: bool) -> Ranking:
    if isinstance(selector, CriticSelector):
        return _critic(selector, last, task, plan)
    if isinstance(selector, ReturnSelector) and isinstance(selector.model.network, ResidualMLP):
        return _returns(selector, last, task, plan)
    kept = _exact(selector) if isinstance(selector, nn.Module) else selector
    return Ranking(PlanScorer(kept, last, task), None, None)


class CriticScorer(nn.Module):
    """Mean over a plan's first rows of min Q(s_t, a_t): the critics' first layers are one product, their second one
    batched product. All in the critics' own units, the clamp of actions too.
    """

    low: Tensor
    high: Tensor

    def __init__(self, selector: CriticSelector, seen: Affine, first: Affine, task: Task) -> None:
        """seen: features -> free entries of the judged rows. first: a row (D) -> the critics' hidden units (E W)."""
        super().__init__()
        q, self.action_dim, self.transition_dim = selector.iql.q, task.action_dim, task.transition_dim
        self.members, _, self.width = q.weights[0].shape
        self.decode, self.pair = dense(seen), dense(first)
        self.action = dense(apart(first, task.state_dim)[1])
        self.weight, self.last = (nn.Parameter(w.detach().double().cpu()) for w in list(q.weights)[1:])
        self.bias, self.last_bias = (nn.Parameter(b.detach().double().cpu()) for b in list(q.biases)[1:])
        mean, std = (v[task.state_dim :] for v in (_exact(selector.normalizer).mean, _exact(selector.normalizer).std))
        rows = (len(seen.bias) + task.state_dim) // task.transition_dim
        for name, limit, state in (("low", selector.low, -torch.inf), ("high", selector.high, torch.inf)):
            row = torch.cat((torch.full((task.state_dim,), state), (limit.cpu() - mean) / std))
            self.register_buffer(name, row.repeat(rows)[task.state_dim :])

    def forward(self, features: Tensor, known: Tensor, row: Tensor, start: Start) -> tuple[Tensor, Tensor]:
        del row, start
        seen = self.decode(features)
        x = torch.minimum(torch.maximum(seen, self.low), self.high)
        h = self.action(x[:, : self.action_dim]) + known  # of the first rows, whose state is the observed one
        if x.shape[1] > self.action_dim:
            h = torch.cat((h, self.pair(x[:, self.action_dim :].reshape(-1, self.transition_dim))))
        h = h.view(-1, self.members, self.width).transpose(0, 1)  # (E, rows N, W)
        h = F.silu(F.layer_norm(h, (self.width,)))
        h = F.silu(F.layer_norm(torch.matmul(h, self.weight) + self.bias, (self.width,)))
        worth = (torch.matmul(h, self.last) + self.last_bias)[..., 0].amin(0)
        n = len(features)
        scores = worth[:n]
        if len(worth) > n:
            later = worth[n:].view(n, -1)
            scores = (scores + later.sum(1)) / (1 + later.shape[1])
        # The clamp would hide an action that is infinite; nothing is added to the score of any other.
        return features, scores + 0 * seen.sum(-1)


def _critic(selector: CriticSelector, last: Affine, task: Task, plan: bool) -> Ranking:
    weight, bias = selector.iql.q.weights[0], selector.iql.q.biases[0]  # (E, in, W), (E, 1, W)
    first = Affine(weight.detach().double().cpu().transpose(1, 2).flatten(0, 1), bias.detach().double().cpu().flatten())
    normalizer, o, size = _exact(selector.normalizer), task.state_dim, judged_entries(selector, task)
    mean, std = (v.repeat(task.horizon)[o : o + size] for v in (normalizer.mean, normalizer.std))
    seen = in_units(outputs(last, 0, size), -mean / std, 1 / std)
    known = of_units(apart(first, o)[0], normalizer.mean[:o], normalizer.std[:o])
    finish = last if plan else outputs(last, 0, task.action_dim)
    return Ranking(CriticScorer(selector, seen, first, task), known, finish)


def judged_entries(selector: CriticSelector, task: Task) -> int:
    """How many free entries of a plan the critic looks at: the first action, or a selector's ``rows`` whole rows."""
    rows = min(getattr(selector, "rows", 1), task.horizon)
    return rows * task.transition_dim - task.state_dim


class ReturnScorer(nn.Module):
    """The return model at k = 0."""

    def __init__(self, first: nn.Module, trunk: ResidualTrunk, output: Affine) -> None:
        super().__init__()
        self.first, self.trunk, self.output = first, trunk, dense(output)

    def forward(self, features: Tensor, known: Tensor, row: Tensor, start: Start) -> tuple[Tensor, Tensor]:
        del row, start
        return features, self.output(self.trunk(self.first(features) + known))[:, 0]


def _returns(selector: ReturnSelector, last: Affine, task: Task, plan: bool) -> Ranking:
    network, normalizer = _exact(selector.model.network), _exact(selector.normalizer)
    assert isinstance(network, ResidualMLP)
    film = film_at(network, network.features[:1])
    mean, std = normalizer.mean.repeat(task.horizon), normalizer.std.repeat(task.horizon)
    o = task.state_dim
    known, free = apart(affine(network.input), o)
    seen = in_units(last, -mean[o:] / std[o:], 1 / std[o:])  # plans as the return model's normaliser gives them
    whole = after(free, seen)
    smaller = whole.weight.numel() < free.weight.numel() + seen.weight.numel()
    first = dense(whole) if smaller else nn.Sequential(dense(seen), dense(free))
    output = of_scaled(affine(network.output), film[-2], film[-1])
    finish = last if plan else outputs(last, 0, task.action_dim)
    known = of_units(known, mean[:o], std[:o])
    return Ranking(ReturnScorer(first, ResidualTrunk(network, film), output), known, finish)


class PlanScorer(nn.Module):
    """Any selector, on whole plans: a task's own geometry, or a return model that is no MLP."""

    def __init__(self, selector: Selector, last: Affine, task: Task) -> None:
        super().__init__()
        self.selector, self.last, self.dim = selector, dense(last), task.transition_dim

    def forward(self, features: Tensor, known: Tensor, row: Tensor, start: Start) -> tuple[Tensor, Tensor]:
        del known
        free = self.last(features)
        plans = torch.cat((start.start.expand(len(free), -1), free), -1).view(1, len(free), -1, self.dim)
        return free, self.selector(plans, row, start.frame)[0] + 0 * free.sum(-1)


def _exact(module: M) -> M:
    """A copy to work on."""
    return copy.deepcopy(module).cpu().double().requires_grad_(False)


def _map(module: nn.Module) -> Affine:
    assert isinstance(module, nn.Linear)
    return affine(module)
