"""Planners with a prefix: against the closed form of a linear Gaussian process, bit for bit, and as without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.methods import METHODS
from onestride.methods.mip import FIRST, MIP
from onestride.methods.prefixed import PrefixedPlanner, refuse_prefix, with_prefix
from onestride.networks.normalizer import Normalizer
from onestride.plans.spec import PlanSpec
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.tasks import TASKS
from onestride.tasks.directions import axes_toward

P = 3
TINY = {
    "dnk": {"latent_dim": 16, "hidden": 16, "gain_hidden": 8},
    "mip": {"width": 16, "blocks": 1},
    "diffuser": {"width": 16, "blocks": 1, "n_steps": 4},
    "edm": {"width": 16, "blocks": 1, "steps": 2},
}


@pytest.fixture(scope="module")
def task():
    return replace(TASKS["halfcheetah-v5"]().with_control(horizon=8), prefix=P)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(task, name):
    torch.manual_seed(0)
    return make_generator(task, name, TINY[name])


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("length", range(P + 1))
def test_the_prefix_comes_back_bit_for_bit(task, name, length):
    generator, o = made(task, name), task.control.state_dim
    committed = normal(1, P, task.control.action_dim, seed=1)
    committed[:, length:] = torch.nan
    prior = normal(5, task.control.horizon, task.control.transition_dim)
    plans = generator.sample(prior, generator.embed(torch.zeros(1, 0), committed), generator=torch.Generator())
    assert torch.equal(plans[:, :length, o:], committed[:, :length].expand(5, -1, -1))
    assert torch.equal(plans[:, 0, :o], prior[:, 0, :o])  # what else is known stays
    assert not torch.isclose(plans[:, length:P, o:], torch.zeros(())).all() or length == P
    assert plans.isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_nothing_committed_is_the_method_itself(task, name):
    generator = made(task, name)
    prior, empty = normal(5, task.control.horizon, task.control.transition_dim), generator.embed(torch.zeros(1, 0))
    nothing = generator.embed(torch.zeros(1, 0), torch.full((1, P, task.control.action_dim), torch.nan))
    assert torch.equal(empty, nothing)
    own = generator.planner.sample(prior, empty, generator=torch.Generator())
    assert torch.equal(generator.sample(prior, empty, generator=torch.Generator()), own)
    assert not isinstance(make_generator(replace(task, prefix=0), name, TINY[name]), PrefixedPlanner)


def test_prefixes_are_as_long_as_chance_has_it(task):
    generator = made(task, "diffuser")
    plans = normal(8000, task.control.horizon, task.control.transition_dim)
    drawn = generator.draw(plans, torch.Generator().manual_seed(0))
    there = ~drawn.isnan().any(2)
    counts = there.sum(1).bincount(minlength=P + 1)
    assert ((counts - 2000).abs() < 4 * (8000 * 0.25 * 0.75) ** 0.5).all()
    assert (there[:, :-1] | ~there[:, 1:]).all()  # first rows first
    assert torch.equal(drawn[there], plans[:, :P, task.control.state_dim :][there])


@pytest.mark.slow
def test_a_trained_planner_says_the_conditional_mean_of_a_gaussian_process():
    """x_0 ~ N(0, 1), x_j = rho x_(j-1) + noise: given n rows, the mean of row j >= n is rho^(j - n + 1) x_(n-1)."""
    rho, h = 0.9, 5
    spec = PlanSpec(horizon=h, state_dim=0, action_dim=1, known=(), prefix=P)
    torch.manual_seed(0)
    generator = with_prefix(MIP.build, replace(MIP.config, width=48, blocks=1), spec)
    optimiser = torch.optim.Adam(generator.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    for step in range(1200):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / 1200)
        noise, rows = torch.randn(512, h, generator=rng), [torch.zeros(512)]
        rows[0] = noise[:, 0]
        for j in range(1, h):
            rows.append(rho * rows[-1] + (1 - rho**2) ** 0.5 * noise[:, j])
        batch = {"plans": torch.stack(rows, 1)[..., None], "context": torch.zeros(512, 0)}
        optimiser.zero_grad()
        generator.training_step(batch, rng)["loss"].backward()
        optimiser.step()
    for n in range(P + 1):
        committed = torch.full((1, P, 1), torch.nan)
        committed[0, :n, 0] = torch.tensor([0.3, -0.5, 1.2])[:n]
        last = float(committed[0, n - 1, 0]) if n else 0.0
        context = generator.embed(torch.zeros(1, 0), committed)
        with torch.no_grad():  # its first call regresses to the mean
            mean = generator.planner.network(torch.zeros(1, h, 1), FIRST, context)[0, :, 0]
        wanted = last * rho ** torch.arange(1, h - n + 1)
        torch.testing.assert_close(mean[n:], wanted, atol=0.12, rtol=0)


@pytest.fixture
def policy(task):
    generator = made(task, "dnk")
    normalizer = Normalizer(0.3 * normal(23), 0.5 + normal(23, seed=3).abs(), torch.zeros(0), torch.zeros(0))
    return Policy(task, generator, normalizer, selector=unselected, candidates=3)


def test_a_policy_commits_in_the_robots_units_and_keeps_it_in_its_checkpoint(policy, task, tmp_path):
    observation = np.random.default_rng(0).normal(size=task.control.observation_dim)
    committed = np.random.default_rng(1).uniform(-1, 1, (2, task.control.action_dim))
    decision = policy.decide(observation, committed=committed)
    np.testing.assert_array_equal(decision.action, committed[0])
    np.testing.assert_allclose(decision.plan[:2, task.control.state_dim :], committed, atol=1e-5)
    chunk = policy.predict_action_chunk(observation[None], committed=committed)
    np.testing.assert_array_equal(chunk[0, :1], committed[:1])
    policy.reset(1)
    before = policy.decide(observation, committed=committed).plan
    policy.save(tmp_path / "policy", {})
    again = Policy.from_pretrained(tmp_path / "policy", selector=unselected, seed=1)
    assert (again.longest_prefix, again.task.prefix) == (P, P)
    np.testing.assert_allclose(again.decide(observation, committed=committed).plan, before, atol=1e-6)


@pytest.mark.parametrize("shape", [(P + 1, 6), (2, 5), (6,)])
def test_what_cannot_be_committed_is_refused(policy, task, shape):
    with pytest.raises(ValueError, match=r"committed commands have shape .*, expected \(3 or fewer, 6\)"):
        policy.decide(np.zeros(task.control.observation_dim), committed=np.zeros(shape))


def test_a_planner_without_a_prefix_says_so(task):
    plain = replace(task, prefix=0)
    generator = make_generator(plain, "dnk", TINY["dnk"])
    policy = Policy(plain, generator, Normalizer.empty(23, 0), selector=unselected, candidates=1)
    assert policy.longest_prefix == 0
    with pytest.raises(ValueError, match="knows no prefix; train it with --prefix"):
        policy.decide(np.zeros(task.control.observation_dim), committed=np.zeros((1, 6)))


def test_methods_that_cannot_be_told_a_prefix_say_why():
    kdp, usual = METHODS["kdp"](), {"cameras": False, "conditions": False, "guided": False, "columns": True}
    with pytest.raises(ValueError, match=r"cannot be trained with a prefix: .*--config.neighbours 0"):
        refuse_prefix(kdp, kdp.config, **usual)
    refuse_prefix(kdp, replace(kdp.config, neighbours=0), **usual)
    for changed, said in (("cameras", "cameras"), ("conditions", "conditions"), ("guided", "return model")):
        with pytest.raises(ValueError, match=said):
            refuse_prefix(MIP, MIP.config, **usual | {changed: True})
    with pytest.raises(ValueError, match="no action_columns"):
        refuse_prefix(MIP, MIP.config, **usual | {"columns": False})


def test_the_arms_targets_are_displacements_of_its_rows():
    """Committed targets, as columns of a plan whose positions are where each target before leads, are its commands."""
    spec = TASKS["kinova"]().control
    rng = np.random.default_rng(0)
    observation = np.array(spec.example)
    targets = observation[:3] + 0.01 * rng.normal(size=(4, 3)).cumsum(0)
    plan = np.zeros((4, 9))
    plan[:, 6:] = spec.action_columns(targets, observation)
    offset = observation[6:9] - observation[:3]
    positions = np.concatenate((observation[None, :3], targets[:-1]))
    plan[:, :3] = (positions - observation[6:9]) @ axes_toward(offset).T / np.linalg.norm(offset)
    np.testing.assert_allclose(spec.commands(plan, observation), targets, atol=1e-9)
