"""The folded module decides as the plain policy does: exactly in float64, and in float32 but for ties."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from kinds import FOLDED, wrap
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import bank_noise, fold
from onestride.methods.koopman import OPERATORS
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.runs import presets
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.iql import CriticSelector
from onestride.selectors.store import make_selector_model
from onestride.tasks import TASKS

CHEETAH = TASKS["halfcheetah-v5"]()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def decide_all(folded, observations):
    """Observation i with draw i -> actions (B, A), scores (B, N), winners (B,)."""
    dtype = folded.noise_bank.dtype
    rows = torch.as_tensor(np.asarray(observations)).to(dtype)
    found = [folded(row, torch.tensor([i % folded.draws])) for i, row in enumerate(rows)]
    return tuple(torch.stack([getattr(c, name) for c in found]) for name in ("action", "scores", "winner"))


def exactly(policy, observations, reference, draws=5, **settings):
    """The algebra: float64 on both sides."""
    folded = fold(policy, draws=draws, seed=3, dtype=torch.float64, **settings)
    noise = bank_noise(policy, draws, 3)[torch.arange(len(observations)) % draws]
    actions, scores, winners = decide_all(folded, observations)
    wanted = reference(policy, observations, noise)
    assert torch.equal(winners, wanted[2])
    torch.testing.assert_close(scores, wanted[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(actions, wanted[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("selector", ["iql", "returns", "returns-unet"])
@pytest.mark.parametrize(("kind", "settings"), FOLDED, ids=lambda v: str(v))
def test_it_is_the_plain_policy(make, reference, observations, kind, settings, selector):
    if selector == "returns-unet" and settings.get("horizon") == 1:
        selector = unselected  # one row is no horizon to halve
    exactly(make(kind, selector=selector, **settings), observations, reference)


@pytest.mark.parametrize("operator", OPERATORS)
def test_it_is_the_plain_policy_on_the_arm_ranked_by_geometry(make_arm_policy, reference, arm_rows, operator):
    exactly(make_arm_policy("student", operator=operator), arm_rows(6), reference)


@pytest.mark.parametrize("selector", ["iql", "returns"])
def test_columns_that_hardly_change_lose_nothing_in_float32(make, reference, observations, selector):
    """Their scale is a thousand, so a mean that is taken away too late costs three digits."""
    policy = make(selector=selector)
    for scales in (policy.normalizer, policy.selector.normalizer):
        scales.std[[3, 9]] = 1e-3
        scales.mean[[3, 9]] = 5.0
    observations[:, [3, 9]] = 5.0 + 1e-3 * observations[:, [3, 9]]
    observations = observations.astype(np.float32)
    found = decide_all(fold(policy, draws=6), observations)
    wanted = reference(policy, observations, bank_noise(policy, 6, 0))
    assert torch.equal(found[2], wanted[2])
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1].double(), wanted[1], rtol=1e-5, atol=1e-5)


class Along(CriticSelector):
    """The mean of min Q over a plan's first rows."""

    def forward(self, plans, observation, frame):
        pair, o = plans[:, :, : self.scored_steps].clone(), observation.shape[-1]
        pair[:, :, 0, :o] = observation[:, None]
        pair[..., o:] = pair[..., o:].clamp(self.low, self.high)
        b, n = plans.shape[:2]
        return self.iql.q(self.normalizer.plans(pair).flatten(0, 2)).amin(0).view(b, n, -1).mean(2)


@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("kind", ["student", "consistency"])
def test_a_critic_may_judge_several_rows(make, reference, observations, kind, rows):
    policy = make(kind)
    own = policy.selector
    policy.selector = Along(own.iql, own.normalizer, own.low, own.high)
    policy.selector.options = replace(policy.selector.options, scored_steps=rows)
    exactly(policy, observations, reference)
    exactly(policy, observations, reference, plan=True)


def test_hot_candidates_need_a_margin(make, reference, observations):
    policy = make(sampling=CandidateSampling((0.3, 1.0), (0.5, 0.5), temperature_penalty=0.5), candidates=32)
    exactly(policy, observations, reference)
    free = fold(make(sampling=CandidateSampling((0.3, 1.0), (0.5, 0.5)), candidates=32))
    bound, row = fold(policy), torch.from_numpy(observations[0]).float()
    found = free(row, torch.tensor([0])).scores - bound(row, torch.tensor([0])).scores
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25]).repeat_interleave(16), rtol=0, atol=1e-6)


def test_any_function_may_rank_and_the_whole_plan_may_be_asked_for(make, reference, observations):
    def smooth(plans, rows, frame):
        return -plans.diff(dim=2).square().sum((2, 3)) - rows.square().sum(-1, keepdim=True)

    exactly(make(selector=smooth), observations, reference)
    assert (fold(make(selector=unselected))(torch.zeros(17), torch.tensor([0])).winner) == 0


@pytest.mark.parametrize("selector", ["iql", "returns", "returns-unet"])
def test_the_winners_plan_is_the_plain_policys(make, reference, observations, selector):
    policy = make(selector=selector)
    folded = fold(policy, draws=6, dtype=torch.float64, plan=True)
    _, _, winners, plans = reference(policy, observations, bank_noise(policy, 6, 0))
    exactly(policy, observations, reference, plan=True)
    for i, row in enumerate(torch.from_numpy(observations)):
        torch.testing.assert_close(folded(row, torch.tensor([i])).plan, plans[i, winners[i]], rtol=1e-9, atol=1e-9)


def test_draw_k_is_the_kth_decision_of_the_plain_policy(make, observations):
    policy = make()
    folded = fold(policy, draws=4, seed=5)
    policy.reset(5)
    for k in range(4):
        decision = policy.decide(observations[k])
        choice = folded(torch.from_numpy(observations[k]).float(), torch.tensor([k]))
        assert choice.winner == decision.scores.argmax()
        np.testing.assert_allclose(choice.action, decision.action, atol=1e-5)
        np.testing.assert_allclose(choice.scores, decision.scores, atol=1e-5)


def test_every_draw_has_noise_of_its_own(make):
    policy = make()
    noise = bank_noise(policy, 8, 0)
    assert len(noise.flatten(1).unique(dim=0)) == 8
    torch.testing.assert_close(noise, bank_noise(policy, 8, 0))
    bank = fold(policy, draws=8).noise_bank
    assert bank.shape == (8, policy.candidates, 24)
    assert len(bank.flatten(1).unique(dim=0)) == 8


def off_by(found, wanted, gap):
    """Float32 against float64: rows with another winner, which must be ties, and the others' error."""
    actions, _, winners = found
    theirs, scores, best = wanted
    same = winners == best
    chosen = scores.gather(1, winners[:, None])[:, 0]
    lost = scores.amax(1) - chosen
    assert (lost <= gap * scores.std(1)).all(), lost.max()
    return int((~same).sum()), (actions - theirs).abs().amax(1)[same].max().item()


def many(policy, rows, reference, chunk=500):
    """10 000 decisions in float32 against the plain policy in float64 and in float32, draws in turn."""
    draws = 20
    folded = fold(policy, draws=draws)
    noise = bank_noise(policy, draws, 0)
    found = decide_all(folded, rows)
    index = torch.arange(len(rows)) % draws
    for dtype in (torch.float64, torch.float32):
        parts = [reference(policy, rows[i : i + chunk], noise[index[i : i + chunk]], dtype)[:3]
                 for i in range(0, len(rows), chunk)]  # fmt: skip
        wanted = tuple(torch.cat(p) for p in zip(*parts, strict=True))
        others, error = off_by(found, wanted, 1e-4)
        assert error <= 1e-5
        assert others <= len(rows) / 500  # ties are rare


@pytest.mark.slow
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_observations_of_the_cheetah(make, reference, count):
    many(make(), 2 * normal(count, 17, seed=1).double().numpy(), reference)


@pytest.mark.slow
def test_observations_of_the_arm(make_arm_policy, reference, arm_rows):
    many(make_arm_policy("student"), arm_rows(300), reference)


@pytest.mark.slow
def test_ten_thousand_observations_at_the_presets_sizes(reference):
    preset = presets.load("halfcheetah-small")
    torch.manual_seed(0)
    student = make_generator(CHEETAH, "dnk", asdict(preset.stage("dnk").config))
    normalizer = Normalizer(normal(23), normal(23, seed=1).abs() + 0.5, torch.zeros(0), torch.ones(0))
    critic = wrap(make_selector_model("iql", {}, CHEETAH), normalizer, CHEETAH.control)
    policy = Policy(CHEETAH, student, normalizer, selector=critic)
    many(policy, normal(10_000, 17, seed=1).double().numpy(), reference, chunk=100)


def test_a_generator_without_a_fold_or_no_ranking_is_refused(make, policy):
    with pytest.raises(NoEngineError, match="DiffusionPlanner has no fold"):
        fold(policy)
    with pytest.raises(NoEngineError, match=r"'halfcheetah-v5': give the policy a selector"):
        fold(make(selector=None))
    with pytest.raises(NoEngineError, match="draws is 0"):
        fold(make(), draws=0)


def test_the_policy_is_left_as_it_was(make, observations):
    policy = make(selector="returns-unet")
    before = {k: v.clone() for k, v in {**policy.generator.state_dict(), **policy.selector.state_dict()}.items()}
    fold(policy, dtype=torch.float64)
    after = {**policy.generator.state_dict(), **policy.selector.state_dict()}
    assert all(v.dtype == before[k].dtype and torch.equal(v, before[k]) for k, v in after.items())


@pytest.mark.parametrize("selector", ["iql", "returns"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_candidate_that_is_no_number_never_wins(make, observations, selector, bad):
    folded, row = fold(make(selector=selector), draws=2), torch.from_numpy(observations[0]).float()
    best = int(folded(row, torch.tensor([1])).winner)
    folded.noise_bank[1, best] = bad
    choice = folded(row, torch.tensor([1]))
    assert choice.winner != best
    assert torch.isfinite(choice.action).all()
    assert choice.scores[best] == -torch.inf
    folded.noise_bank[1] = bad
    assert not torch.isfinite(folded(row, torch.tensor([1])).score)


def test_an_infinite_action_is_not_hidden_by_its_clamp(make, observations):
    folded, row = fold(make(), draws=1), torch.from_numpy(observations[0]).float()
    folded.scorer.decode.bias[2] = torch.inf
    assert not torch.isfinite(folded(row, torch.tensor([0])).score)
