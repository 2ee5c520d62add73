"""The critic: its losses one row at a time, a bandit whose answer is known, and what it looks at in a plan."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from onestride.networks.normalizer import Normalizer
from onestride.selectors.iql import IQL, CriticSelector, Ensemble, IQLConfig, reward_scale

O, A, M = 3, 2, 64  # noqa: E741


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


@pytest.fixture
def make():
    def iql(**settings):
        torch.manual_seed(0)
        made = IQL(IQLConfig(**{"hidden": 16} | settings), O, A)
        with torch.no_grad():
            for p in made.target.parameters():  # as if it had followed for a while
                p.add_(0.1 * normal(*p.shape, seed=9))
        return made

    return iql


@pytest.fixture
def batch():
    return {
        "observation": normal(M, O, seed=1),
        "action": normal(M, A, seed=2),
        "next_observation": normal(M, O, seed=3),
        "reward": normal(M, seed=4),
        "terminated": (torch.rand(M, generator=seeded(5)) < 0.3).float(),
    }


def fit(iql, batch, steps, rate=3e-3):
    optimizer = torch.optim.Adam([p for p in iql.parameters() if p.requires_grad], rate)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        iql.training_step(batch, seeded())["loss"].backward()
        optimizer.step()
        annealed.step()


# ---- networks side by side ----


@torch.no_grad()
def test_an_ensemble_is_its_members():
    torch.manual_seed(0)
    ensemble, x = Ensemble(3, 5, 16), normal(7, 5)
    for b in ensemble.biases:
        b.add_(normal(*b.shape))
    found = ensemble(x)
    assert found.shape == (3, 7)
    for i in range(3):
        h = x
        for layer, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            h = h @ weight[i] + bias[i]
            if layer < 2:
                h = F.silu(F.layer_norm(h, (16,)))
        torch.testing.assert_close(found[i], h[:, 0])


@torch.no_grad()
def test_members_start_apart():
    torch.manual_seed(0)
    values = Ensemble(2, 5, 64)(normal(100, 5))
    assert (values[0] - values[1]).abs().mean() > 0.01


# ---- the losses, eq. 5 and 6 ----


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.95])
def test_losses_are_the_naive_ones(make, batch, tau):
    iql = make(expectile=tau, discount=0.9, critics=3)
    found = iql.training_step(batch, seeded())  # moves the targets first: what is left in it is what it used
    v_loss = q_loss = 0.0
    with torch.no_grad():
        for i in range(M):
            row = {k: v[i : i + 1] for k, v in batch.items()}
            pair = torch.cat((row["observation"], row["action"]), 1)
            ahead = iql.target(pair).min() - iql.v(row["observation"])[0, 0]
            v_loss += (tau if ahead > 0 else 1 - tau) * ahead**2 / M
            target = row["reward"][0]
            if not row["terminated"][0]:
                target = target + 0.9 * iql.v(row["next_observation"])[0, 0]
            q_loss += ((iql.q(pair)[:, 0] - target) ** 2).sum() / M  # of every critic
    torch.testing.assert_close(found["v"], v_loss, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["q"], q_loss, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["loss"], found["v"] + found["q"])


def test_each_loss_moves_its_own_networks(make, batch):
    for name, moves, stays in (("v", "v", "q"), ("q", "q", "v")):
        iql = make()
        iql.training_step(batch, seeded())[name].backward()
        assert all(p.grad is not None and p.grad.any() for p in getattr(iql, moves).parameters())
        assert all(p.grad is None for p in [*getattr(iql, stays).parameters(), *iql.target.parameters()])


@torch.no_grad()
def test_what_follows_a_terminal_step_does_not_count(make, batch):
    iql = make(polyak=1e-9)
    elsewhere = batch | {"next_observation": normal(M, O, seed=8)}
    for terminated, same in ((torch.ones(M), True), (torch.zeros(M), False)):
        end = {"terminated": terminated}
        a, b = (iql.training_step(d | end, seeded())["q"] for d in (batch, elsewhere))
        assert torch.equal(a, b) == same


@torch.no_grad()
def test_targets_follow_by_the_polyak_share_once_a_step(make, batch):
    iql = make(polyak=0.25)
    before = copy.deepcopy(iql)
    iql.training_step(batch, seeded())
    for slow, was, fast in zip(iql.target.parameters(), before.target.parameters(), before.q.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * was + 0.25 * fast)
        assert not slow.requires_grad
    for p, was in zip(iql.q.parameters(), before.q.parameters(), strict=True):
        assert torch.equal(p, was)


def test_targets_start_as_the_critics():
    iql = IQL(IQLConfig(hidden=8), O, A)
    assert all(torch.equal(a, b) for a, b in zip(iql.target.parameters(), iql.q.parameters(), strict=True))


# ---- a bandit with five arms in one state ----

ARMS, WORTH = torch.linspace(-1, 1, 5), torch.tensor([0.0, 1.0, 3.0, 2.0, -1.0])


def expectile(values, tau):
    """m with tau sum (x - m)+ = (1 - tau) sum (m - x)+, by bisection."""
    low, high = values.min().item(), values.max().item()
    for _ in range(60):
        m = (low + high) / 2
        above = tau * (values - m).clamp(min=0).sum() > (1 - tau) * (m - values).clamp(min=0).sum()
        low, high = (m, high) if above else (low, m)
    return m


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
def test_v_is_the_expectile_of_what_the_arms_are_worth(tau):
    torch.manual_seed(0)
    iql = IQL(IQLConfig(hidden=16, expectile=tau, polyak=0.1), 1, 1)
    state, one = torch.zeros(5, 1), torch.ones(5)
    data = {"observation": state, "next_observation": state, "action": ARMS[:, None], "reward": WORTH}
    fit(iql, data | {"terminated": one}, 500)
    with torch.no_grad():
        worth = iql.q(torch.cat((state, ARMS[:, None]), 1))
        torch.testing.assert_close(worth, WORTH.expand(2, 5), atol=0.05, rtol=0)
        assert iql.v(state)[0, 0].item() == pytest.approx(expectile(WORTH, tau), abs=0.05)
        selector = CriticSelector(iql, Normalizer.empty(2, 0), -torch.ones(1), torch.ones(1))
        plans = torch.zeros(1, 5, 4, 2)
        plans[0, :, 0, 1] = ARMS
        assert selector(plans, torch.zeros(1, 1), None).argmax().item() == 2


@pytest.mark.slow
def test_a_reward_for_ever_is_worth_its_discounted_sum():
    torch.manual_seed(0)
    iql = IQL(IQLConfig(hidden=16, discount=0.5, polyak=0.5), 1, 1)
    state = torch.zeros(4, 1)
    data = {"observation": state, "next_observation": state, "action": torch.linspace(-1, 1, 4)[:, None]}
    fit(iql, data | {"reward": torch.full((4,), 1.5), "terminated": torch.zeros(4)}, 400)
    with torch.no_grad():
        assert iql.v(state)[0].mean().item() == pytest.approx(1.5 / (1 - 0.5), abs=0.05)


# ---- as a selector ----


@pytest.fixture
def selector(make):
    normalizer = Normalizer(normal(O + A, seed=6), normal(O + A, seed=7).abs() + 0.5, torch.zeros(0), torch.ones(0))
    return CriticSelector(make(), normalizer, -torch.ones(A), torch.ones(A))


@pytest.mark.parametrize(("rows", "judged"), [(1, 1), (4, 4), (9, 5)])
@torch.no_grad()
def test_the_score_is_the_lesser_critics_along_the_plan_from_the_true_state(selector, rows, judged):
    observation, plans = normal(4, O, seed=1), 2 * normal(4, 6, 5, O + A, seed=2)
    selector.options = replace(selector.options, scored_steps=rows)
    found = selector(plans, observation, None)
    assert found.shape == (4, 6)
    for b in range(4):
        for n in range(6):
            worth = []
            for t in range(judged):
                state = observation[b] if t == 0 else plans[b, n, t, :O]
                pair = selector.normalizer.plans(torch.cat((state, plans[b, n, t, O:].clamp(-1, 1))))
                worth.append(selector.iql.q(pair[None])[:, 0].min())
            torch.testing.assert_close(found[b, n], torch.stack(worth).mean())
    critics = selector.iql.q(normal(500, O + A))
    assert (critics[0] < critics[1]).any()  # each is the lesser one somewhere
    assert (critics[0] > critics[1]).any()


@torch.no_grad()
def test_what_is_not_judged_changes_no_score_and_plans_stay_as_they_are(selector):
    observation, plans = normal(2, O, seed=1), normal(2, 6, 5, O + A, seed=2)
    selector.options = replace(selector.options, scored_steps=4)
    other = plans.clone()
    other[:, :, 0, :O] += 5.0  # a dreamt first state
    other[:, :, 4:] = 100.0
    before = other.clone()
    assert torch.equal(selector(plans, observation, None), selector(other, observation, None))
    assert torch.equal(other, before)
    assert not torch.equal(selector(plans, observation, None), selector(plans, observation + 1, None))
    other[:, :, 1] += 1.0
    assert not torch.equal(selector(plans, observation, None), selector(other, observation, None))


def test_returns_are_scaled_to_a_range_of_a_thousand():
    assert reward_scale(torch.tensor([-3.0, 10.0, 1.0])) == pytest.approx(1000 / 13)
    with pytest.raises(ValueError, match="all episodes earned the same"):
        reward_scale(torch.ones(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expectile": 1.0}, r"iql\.expectile 1\.0"),
        ({"discount": 1.0}, r"iql\.discount 1\.0"),
        ({"polyak": 0.0}, r"iql\.polyak 0\.0"),
        ({"critics": 0}, "at least 1 critic"),
        ({"hidden": 0}, "1 hidden unit"),
    ],
)
def test_configs_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IQLConfig(**settings)
