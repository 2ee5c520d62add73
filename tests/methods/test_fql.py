"""Flow Q-learning: its losses written out, a bandit whose answer is known, and a training that was killed."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.cli import main
from onestride.methods.fql import FQL, FQLActor, FQLConfig
from onestride.plans.spec import Block, PlanSpec
from onestride.policy.policy import Policy
from onestride.runs.run import material_of
from onestride.tasks import TASKS
from onestride.training.config import TrainConfig
from onestride.training.learner import as_learner
from onestride.training.loop import train
from onestride.training.state import STATE
from tiny_run import PRESET, copy_without

O, A, C, M = 2, 1, 3, 64  # noqa: E741
D = O + A
TRAINING = TrainConfig(300, 128, 1e-2, warmup=20, ema_decay=0.98, precision="32-true", accelerator="cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def make(context=C, **settings):
    torch.manual_seed(0)
    spec = PlanSpec(horizon=1, state_dim=O, action_dim=A, context_dim=context)
    return FQL(FQLActor(FQLConfig(**{"hidden": 32, "layers": 2} | settings), spec))


@pytest.fixture
def batch():
    following = normal(M, 1, D, seed=3)
    following[..., O:] = 0.0
    return {
        "plans": normal(M, 1, D, seed=1),
        "context": normal(M, C, seed=2),
        "next_plans": following,
        "next_context": normal(M, C, seed=4),
        "reward": normal(M, seed=5),
        "terminated": (torch.rand(M, generator=seeded(6)) < 0.3).float(),
    }


# ---- the losses ----


@pytest.mark.parametrize("target", ["mean", "min"])
def test_the_critics_loss_is_the_naive_one(batch, target):
    learner = make(target=target, discount=0.9, polyak=0.25)
    with torch.no_grad():
        for p in learner.slow.parameters():
            p.add_(0.1 * normal(*p.shape, seed=9))
    slow = [0.75 * s + 0.25 * q for s, q in zip(learner.slow.parameters(), learner.q.parameters(), strict=True)]
    found = learner.loss("critic", batch, seeded(7))["loss"]
    for moved, wanted in zip(learner.slow.parameters(), slow, strict=True):
        torch.testing.assert_close(moved, wanted)
    low, high = batch["plans"][:, 0, O:].min(), batch["plans"][:, 0, O:].max()
    noise, total = normal(M, 1, D, seed=7), 0.0
    for i in range(M):
        prior = torch.cat((batch["next_plans"][i, 0, :O], noise[i, 0, O:]))
        action = learner.deployed.network(prior[None, None], batch["next_context"][i : i + 1])[0, 0, O:]
        row = torch.cat((prior[:O], action.clamp(low, high), batch["next_context"][i]))
        worth = learner.slow(row[None])[:, 0]
        worth = worth.mean() if target == "mean" else worth.min()
        goal = batch["reward"][i] + (0 if batch["terminated"][i] else 0.9 * worth)
        said = learner.q(torch.cat((batch["plans"][i, 0], batch["context"][i]))[None])[:, 0]
        total = total + (said - goal).square().sum() / (2 * M)
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-6)


def test_the_flows_loss_is_the_naive_one_and_its_noise_leaves_the_state_alone(batch):
    learner, g = make(), seeded(7)
    start = torch.cat((batch["plans"][..., :O], torch.randn(M, 1, D, generator=g)[..., O:]), -1)
    t, total = torch.rand(M, 1, 1, generator=g), 0.0
    for i in range(M):
        x = (1 - t[i]) * start[i] + t[i] * batch["plans"][i]
        v = learner.flow(x[None], torch.cat((batch["context"][i], t[i, 0]))[None])[0, 0, O:]
        total = total + (v - (batch["plans"][i] - start[i])[0, O:]).square().mean() / M
    torch.testing.assert_close(learner.loss("flow", batch, seeded(7))["loss"], total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_actors_loss_is_the_naive_one(batch, normalised):
    learner = make(alpha=3.0, normalise_q=normalised)
    learner.loss("critic", batch, seeded())  # has seen the range of the data
    prior = torch.cat((batch["plans"][..., :O], normal(M, 1, D, seed=7)[..., O:]), -1)
    x, context = prior, batch["context"]
    for i in range(10):
        v = learner.flow(x, torch.cat((context, torch.full((M, 1), i / 10)), 1))
        x = torch.cat((prior[..., :O], (x + v / 10)[..., O:]), -1)
    low, high = batch["plans"][..., O:].min(), batch["plans"][..., O:].max()
    action = learner.deployed.sample(prior, context)[..., O:]
    distillation = (action - x[..., O:].clamp(low, high)).square().mean()
    q = learner.q(torch.cat((prior[:, 0, :O], action[:, 0].clamp(low, high), context), 1)).mean(0)
    wanted = 3.0 * distillation - q.mean() / (q.abs().mean() if normalised else 1)
    torch.testing.assert_close(learner.loss("actor", batch, seeded(7))["loss"], wanted, rtol=1e-4, atol=1e-6)


def test_each_phase_moves_its_own_networks_and_nothing_the_averages(batch):
    learner = as_learner(make())
    for group in learner.groups():
        learner.zero_grad()
        learner.loss(group.phase, batch, seeded())["loss"].backward()
        assert all(p.grad is not None and p.grad.any() for p in group.parameters if p.ndim > 1)
        assert all(p.grad is None for p in learner.slow.parameters())
        if group.phase == "actor":
            assert all(p.grad is None for p in learner.flow.parameters())
    assert [group.phase for group in learner.groups()] == ["critic", "flow", "actor"]


# ---- a bandit: a is worth 1 - (a - 1)^2 / 4, and the data is as often near -1 (worth 0) as near 1 (worth 1) ----


def bandit(count=4096):
    g = seeded()
    side = torch.where(torch.rand(count, generator=g) < 0.5, 1.0, -1.0)
    action = side + 0.3 * torch.randn(count, generator=g)
    state = torch.randn(count, O, generator=g)
    nothing, ends = torch.zeros(count, 0), torch.ones(count)
    return {
        "plans": torch.cat((state, action[:, None]), 1)[:, None], "context": nothing,
        "next_plans": torch.zeros(count, 1, D), "next_context": nothing,
        "reward": 1 - (action - 1).square() / 4, "terminated": ends,
    }  # fmt: skip


def learnt(folder, alpha):
    learner = make(context=0, alpha=alpha, hidden=64)
    actor, _ = train(learner, bandit(), TRAINING, folder, title="fql", identity={})
    with torch.no_grad():
        prior, nothing = normal(4000, 1, D, seed=8), torch.zeros(4000, 0)
        return actor.sample(prior, nothing)[:, 0, O], learner.flowed(prior, nothing)[:, 0, O]


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "apart"), [(0.05, 0.25), (10.0, 0.1)])
def test_the_flow_keeps_both_modes_and_the_actor_goes_to_the_better_one_as_far_as_alpha_lets_it(tmp_path, alpha, apart):
    """From a noise that flows to -1, alpha (a + 1)^2 + (a - 1)^2 / 4 is least at (1 - 4 alpha) / (1 + 4 alpha)."""
    acted, flowed = learnt(tmp_path, alpha)
    near = (flowed.abs() - 1).abs() < 0.9
    assert near.float().mean() > 0.8
    assert (flowed > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    worse = flowed < -0.7
    assert acted[worse].mean().item() == pytest.approx((1 - 4 * alpha) / (1 + 4 * alpha), abs=apart)
    assert acted[flowed > 0.7].mean().item() == pytest.approx(1.0, abs=2 * apart)
    if alpha < 1:
        assert ((acted - 1).abs() < 0.9).float().mean() > 0.95  # where the better mode's data is, and not beyond


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path, monkeypatch):
    data, config = bandit(96), replace(TRAINING, steps=60, batch_size=32, checkpoint_every=0.0)

    def run(learner, folder):
        return train(learner, data, config, folder, title="fql", identity={})[0]

    whole, killed, resumed = make(context=0), make(context=0), make(context=0)
    ema = run(whole, tmp_path / "whole")
    calls, loss = 0, FQL.loss

    def dies(self, phase, batch, rng):
        nonlocal calls
        calls += 1
        if calls == 3 * 50 + 2:  # between two phases of a step
            raise KeyboardInterrupt
        return loss(self, phase, batch, rng)

    with monkeypatch.context() as patched:
        patched.setattr(FQL, "loss", dies)
        with pytest.raises(KeyboardInterrupt):
            run(killed, tmp_path / "killed")
    assert (tmp_path / "killed" / STATE).is_file()
    again = run(resumed, tmp_path / "killed")
    for a, b in ((whole, resumed), (ema, again)):
        a, b = a.state_dict(), b.state_dict()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert whole.low.isfinite().all()


# ---- a run ----


@pytest.mark.slow
def test_a_steps_columns_are_the_datas(run):
    task = TASKS["hopper-v5"]().with_control(horizon=1)
    material = material_of(run, task)
    made, step, scales = material.steps(), material.transitions(), material.normalizer
    o = task.control.state_dim
    torch.testing.assert_close(scales.unnormalize(made["plans"])[:, 0, :o], step["observation"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scales.unnormalize(made["plans"])[:, 0, o:], step["action"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        scales.unnormalize(made["next_plans"])[:, 0, :o], step["next_observation"], rtol=1e-4, atol=1e-4
    )
    assert not made["next_plans"][..., o:].any()
    assert torch.equal(made["terminated"], step["terminated"])
    ratio = made["reward"] / step["reward"]
    torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)))


@pytest.mark.slow
def test_it_trains_by_its_name_and_is_ranked_by_the_critic(run, tmp_path):
    there = tmp_path / "run"
    copy_without(run, there)
    settings = ("--preset", PRESET, "--run", str(there), "--training.steps", "20", "--training.batch-size", "64")
    main(["train", "fql", *settings, "--config.hidden", "16"])
    policy = Policy.from_pretrained(there / "fql-0")
    assert (policy.control.horizon, policy.selector.kind, policy.nfe) == (1, "iql", 1)
    assert torch.equal(policy.temperature, torch.ones(64))
    decision = policy.decide(policy.task.first_observation(0))
    assert decision.plans[:, 0, -3:].std(0).min() > 0  # actions of their own
    np.testing.assert_array_equal(decision.plan, decision.plans[decision.scores.argmax()])


@pytest.mark.slow
def test_tasks_that_are_no_single_steps_are_refused_before_they_are_read(run):
    task = TASKS["hopper-v5"]()
    with pytest.raises(ValueError, match=r"plans of 1 row .*; task 'hopper-v5' has 32 rows and 1 observations"):
        material_of(run, task).steps()
    known = PlanSpec(horizon=2, state_dim=O, action_dim=A, known=(Block(0, 0, O), Block(-1, 0, O)))
    with pytest.raises(ValueError, match=r"its plan is one row, .* 2 rows and known entries"):
        FQLActor(FQLConfig(), known)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"flow_steps": 0}, {"alpha": -1.0}, {"discount": 1.0}, {"target": ""}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"self.{next(iter(wrong))}"):
        FQLConfig(**wrong)


def test_a_copy_of_the_critics_starts_where_they_are():
    learner = make()
    for slow, fast in zip(learner.slow.parameters(), learner.q.parameters(), strict=True):
        assert torch.equal(slow, fast)
        assert slow.data_ptr() != fast.data_ptr()
    assert set(copy.deepcopy(learner.deployed).state_dict()) == {
        name for name, _ in learner.deployed.named_parameters()
    }  # fmt: skip
