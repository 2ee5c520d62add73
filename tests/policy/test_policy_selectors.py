"""Policies whose selector is learnt: bundled with the checkpoint, exchanged, missing; many observations at once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinds import METHOD_OF, wrap
from onestride.checkpoint import CONFIG, seal_with
from onestride.files import CheckpointError
from onestride.methods.guided import GuidedPlanner
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import GUIDE, SELECTOR, make_generator
from onestride.robot.decision import NoPlanError
from onestride.seals import seal
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.iql import CriticSelector
from onestride.selectors.store import load_selector, make_selector_model, save_selector
from onestride.tasks import TASKS

TASK = TASKS["halfcheetah-v5"]()
CONTROL = TASK.control
SIZES = {
    "teacher": {"width": 32, "blocks": 1, "n_steps": 4},
    "student": {"latent_dim": 16, "hidden": 16, "gain_hidden": 8},
    "consistency": {"width": 32, "blocks": 1},
    "edm": {"width": 32, "blocks": 1, "steps": 3},
}
MODELS = {"iql": {"hidden": 16}, "returns": {"width": 16, "blocks": 1, "n_steps": 4}}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(module):
    """Past the zeros that some layers start with."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=i))
    return module


def normalizer():
    d = CONTROL.transition_dim
    return Normalizer(0.1 * normal(d, seed=3), normal(d, seed=4).abs() + 0.5, torch.zeros(0), torch.ones(0))


def learned(kind):
    torch.manual_seed(1)
    return wrap(moved(make_selector_model(kind, MODELS[kind], TASK)), normalizer(), CONTROL)


@pytest.fixture
def make():
    def policy(kind="student", *, selector="iql", task=TASK, guidance=0.0, candidates=8, **settings):
        torch.manual_seed(0)
        generator = moved(make_generator(task, METHOD_OF.get(kind, kind), SIZES[kind]))
        if guidance:
            generator = GuidedPlanner(generator, learned("returns").model, guidance)
        chosen = learned(selector) if isinstance(selector, str) else selector
        return Policy(task, generator, normalizer(), selector=chosen, candidates=candidates, **settings)

    return policy


@pytest.fixture
def observations():
    return normal(5, CONTROL.observation_dim, seed=7).double().numpy()


def decisions(policy, observations, seed=3):
    policy.reset(seed)
    return [policy.decide(o) for o in observations]


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.action, y.action)
        np.testing.assert_array_equal(x.scores, y.scores)
        assert np.array_equal(x.plans, y.plans)


# ---- who selects ----


@pytest.mark.parametrize("kind", ["iql", "returns"])
def test_the_selectors_favourite_acts(make, observations, kind):
    policy = make(selector=kind)
    for observation, decision in zip(observations, decisions(policy, observations), strict=True):
        with torch.no_grad():
            row = torch.from_numpy(observation).float()[None]
            scores = policy.selector(torch.from_numpy(decision.plans)[None], row, None)[0]
        np.testing.assert_array_equal(decision.scores, scores.numpy())
        best = decision.plans[int(scores.argmax())]
        np.testing.assert_array_equal(decision.plan, best)
        np.testing.assert_allclose(decision.action, best[0, CONTROL.state_dim :].clip(-1, 1))
        assert len(np.unique(decision.scores)) > 1


def test_nobody_to_select_is_a_clear_error(make, observations):
    policy = make(selector=None)
    for use in (lambda: policy.decide(observations[0]), lambda: policy.act(observations)):
        with pytest.raises(ValueError, match=r"'halfcheetah-v5' has no selector of its own: .*onestride train iql"):
            use()


def test_unselected_takes_the_first_candidate(make, observations):
    for decision in decisions(make(selector=unselected), observations):
        assert not decision.scores.any()
        np.testing.assert_array_equal(decision.plan, decision.plans[0])


def test_a_selectors_own_sampling_counts_where_noise_may_be_scaled(make, observations, tmp_path):
    """Hot candidates win by a margin alone; a generator that starts from one noise level keeps it."""
    own = CandidateSampling((0.3, 1.0), (0.5, 0.5), temperature_penalty=2.0)
    policy = make("student", sampling=CandidateSampling((0.7,), (1.0,)))
    policy.selector.options = replace(policy.selector.options, **vars(own))
    again = Policy(
        policy.task, policy.generator, policy.normalizer, selector=policy.selector, candidates=8,
        sampling=policy.sampling, config=policy.config,
    )  # fmt: skip
    assert again.temperature.tolist() == pytest.approx([0.3] * 4 + [1.0] * 4)
    decision = again.decide(observations[0])
    row = torch.from_numpy(observations[0]).float()[None]
    worth = policy.selector(torch.from_numpy(decision.plans)[None], row, None)[0].numpy()
    np.testing.assert_allclose(decision.scores, worth - np.repeat([0.0, 1.0], 4), atol=1e-5)
    np.testing.assert_array_equal(decision.plan, decision.plans[decision.scores.argmax()])
    again.save(tmp_path / "it", {"id": "abc"})
    loaded = Policy.from_pretrained(tmp_path / "it", candidates=8)
    np.testing.assert_array_equal(loaded.decide(observations[0]).scores, decision.scores)
    bare = Policy.from_pretrained(tmp_path / "it", selector=unselected)
    assert bare.temperature.unique().tolist() == pytest.approx([0.7])

    consistent = make("consistency")
    consistent.selector.options = replace(consistent.selector.options, **vars(own))
    kept = Policy(
        consistent.task, consistent.generator, consistent.normalizer, selector=consistent.selector,
        sampling=CandidateSampling((1.0,), (1.0,)),
    )  # fmt: skip
    assert kept.temperature.unique().tolist() == [1.0]
    assert kept.score_penalty is None


def test_the_tasks_own_selector_is_the_default_and_gives_way(make_arm_policy, observation):
    own = make_arm_policy()
    assert own.selector is own.task.score
    other = Policy(own.task, own.generator, own.normalizer, selector=unselected, candidates=4)
    assert not other.decide(observation).scores.any()


# ---- many observations at once ----


@pytest.mark.parametrize("kind", ["teacher", "student", "consistency", "edm"])
def test_acting_on_one_is_deciding_on_one(make, observations, kind):
    policy = make(kind)
    decided = decisions(policy, observations)
    policy.reset(3)
    acted = [policy.act(o[None]) for o in observations]
    assert acted[0].shape == (1, CONTROL.action_dim)
    np.testing.assert_array_equal(np.concatenate(acted), [d.action for d in decided])


def test_acting_on_many_selects_for_each_its_own(make, observations):
    """Every row with its own noise, its own start and its own winner."""
    policy, seen = make(), []
    policy.selector.register_forward_hook(lambda m, given, out: seen.append((*given[:2], out)))
    policy.reset(3)
    acted = policy.act(observations)
    ((plans, rows, scores),) = seen
    assert acted.shape == (5, CONTROL.action_dim)
    assert plans.shape == (5, 8, CONTROL.horizon, CONTROL.transition_dim)
    torch.testing.assert_close(rows, torch.from_numpy(observations).float())
    starts = plans[:, :, 0, : CONTROL.state_dim]
    torch.testing.assert_close(starts, rows[:, None].expand_as(starts), rtol=1e-4, atol=1e-5)
    for i in range(5):
        best = plans[i, int(scores[i].argmax())]
        np.testing.assert_allclose(acted[i], best[0, CONTROL.state_dim :].clip(-1, 1))
    assert len(plans[..., 0, CONTROL.state_dim :].reshape(40, -1).unique(dim=0)) == 40


def test_acting_on_many_generates_what_each_alone_would_of_its_noise(make, observations):
    policy = make(sampling=CandidateSampling((0.3, 0.9), (0.5, 0.5)))
    seen = []
    sample = policy.generator.sample
    policy.generator.sample = lambda prior, context, **kw: seen.append(prior) or sample(prior, context, **kw)
    policy.act(observations)
    (prior,) = seen
    noise = prior.view(5, 8, -1)[..., CONTROL.state_dim :]
    cold, hot = noise[:, :4].std(), noise[:, 4:].std()  # each observation has candidates of every temperature
    assert cold.item() == pytest.approx(0.3, rel=0.1)
    assert hot.item() == pytest.approx(0.9, rel=0.1)


def test_the_arm_acts_on_many_too(make_arm_policy, observation):
    """With a context, which belongs to its row."""
    policy, other = make_arm_policy("student"), observation.copy()
    other[6:9] += [0.02, -0.03, 0.01]
    rows = np.stack((observation, other))
    policy.reset(0)
    together = policy.act(rows)
    policy.reset(0)
    np.testing.assert_allclose(together[0], policy.act(rows[:1])[0], atol=1e-5)  # the first rows of the same noise
    np.testing.assert_allclose(together[1], policy.act(rows[1:])[0], atol=1e-5)  # and what comes after them


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_candidate_that_is_no_number_never_acts_and_none_left_is_an_error(make, observations, monkeypatch, bad):
    policy = make(selector="iql")
    honest = policy.generator.sample

    def poisoned(prior, context, *, generator=None):
        plans = honest(prior, context).clone()
        plans.view(5, 8, CONTROL.horizon, -1)[2, :share, :, CONTROL.state_dim :] = bad
        return plans

    monkeypatch.setattr(policy.generator, "sample", poisoned)
    monkeypatch.setattr(policy, "selector", lambda plans, rows, frame: plans[:, :, 0, CONTROL.state_dim :].sum(-1))
    share = 7
    assert np.isfinite(policy.act(observations)).all()
    share = 8
    with pytest.raises(NoPlanError, match="none of 8 candidates is finite"):
        policy.act(observations)


# ---- bundled ----


@pytest.mark.parametrize("kind", ["teacher", "student", "consistency", "edm"])
@pytest.mark.parametrize("selector", ["iql", "returns"])
def test_a_bundled_selector_comes_back_and_decides_the_same(make, observations, tmp_path, kind, selector):
    policy = make(kind, selector=selector)
    policy.save(tmp_path / "p", {"id": "x"})
    assert (tmp_path / "p" / SELECTOR / CONFIG).is_file()
    assert not (tmp_path / "p" / GUIDE).exists()
    again = Policy.from_pretrained(tmp_path / "p")
    assert type(again.selector) is type(policy.selector)
    same(decisions(policy, observations), decisions(again, observations))


@pytest.mark.slow
def test_a_guided_teacher_comes_back_guided(make, observations, tmp_path):
    policy, plain = make("teacher", selector="returns", guidance=0.7), make("teacher", selector="returns")
    policy.save(tmp_path / "p", {"id": "x"})
    again = Policy.from_pretrained(tmp_path / "p")
    assert isinstance(again.generator, GuidedPlanner)
    assert again.generator.weight == 0.7
    same(decisions(policy, observations), decisions(again, observations))
    assert not np.array_equal(policy.decide(observations[0]).plans, plain.decide(observations[0]).plans)
    again.save(tmp_path / "q", {"id": "x"})  # and once more
    same(decisions(policy, observations), decisions(Policy.from_pretrained(tmp_path / "q"), observations))


def test_plans_of_another_horizon_come_back_with_it(make, observations, tmp_path):
    policy = make("consistency", task=TASK.with_control(horizon=1))
    policy.save(tmp_path / "p", {})
    again = Policy.from_pretrained(tmp_path / "p")
    assert again.control.horizon == 1
    assert again.decide(observations[0]).plans.shape == (8, 1, CONTROL.transition_dim)
    same(decisions(policy, observations), decisions(again, observations))


@pytest.mark.slow
def test_another_selector_may_be_chosen_as_a_function_or_a_folder(make, observations, tmp_path):
    make(selector="iql").save(tmp_path / "p", {})
    save_selector(tmp_path / "s", learned("returns"), TASK.name)
    scores = {}
    for name, given in {"own": None, "folder": tmp_path / "s", "text": str(tmp_path / "s"), "none": unselected}.items():
        policy = Policy.from_pretrained(tmp_path / "p", selector=given)
        scores[name] = decisions(policy, observations[:1])[0].scores
    np.testing.assert_array_equal(scores["folder"], scores["text"])
    np.testing.assert_array_equal(scores["folder"], decisions(make(selector="returns"), observations[:1])[0].scores)
    np.testing.assert_array_equal(scores["own"], decisions(make(selector="iql"), observations[:1])[0].scores)
    assert not scores["none"].any()


def test_a_selector_of_another_task_is_refused(make, tmp_path):
    make().save(tmp_path / "p", {})
    other = TASKS["halfcheetah-v4"]()
    save_selector(tmp_path / "s", learned("iql"), other.name)
    with pytest.raises(CheckpointError, match="trained for task 'halfcheetah-v4', not for 'halfcheetah-v5'"):
        Policy.from_pretrained(tmp_path / "p", selector=tmp_path / "s")
    config = json.loads((tmp_path / "p" / SELECTOR / CONFIG).read_text())
    seal(tmp_path / "p" / SELECTOR / CONFIG, config | {"task": "hopper-v5"})
    with pytest.raises(CheckpointError, match=f"{SELECTOR}/{CONFIG} was altered"):  # not the one that was bundled
        Policy.from_pretrained(tmp_path / "p")
    seal_with(tmp_path / "p", [SELECTOR])
    with pytest.raises(CheckpointError, match="trained for task 'hopper-v5'"):
        Policy.from_pretrained(tmp_path / "p")


def test_a_guide_that_is_gone_is_missed(make, tmp_path):
    make("teacher", selector="iql", guidance=0.5).save(tmp_path / "p", {})
    for inside in (GUIDE, SELECTOR):
        (tmp_path / "p" / inside / CONFIG).rename(tmp_path / CONFIG)
        with pytest.raises(CheckpointError, match=f"{inside}/{CONFIG} cannot be read"):
            Policy.from_pretrained(tmp_path / "p")
        (tmp_path / CONFIG).rename(tmp_path / "p" / inside / CONFIG)
    assert Policy.from_pretrained(tmp_path / "p").selector is not None


def test_no_bundle_where_none_is_learnt(policy, tmp_path):
    policy.save(tmp_path / "p", {})
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_policys_selector_learns_no_more(make):
    policy = make()
    assert isinstance(policy.selector, CriticSelector)
    assert not policy.selector.training
    assert not any(p.requires_grad for p in policy.selector.parameters())


def test_a_selector_on_disk_is_the_one_that_was_bundled(make, observations, tmp_path):
    policy = make(selector="iql")
    policy.save(tmp_path / "p", {})
    loaded = load_selector(tmp_path / "p" / SELECTOR, TASK)
    swapped = make(selector=loaded)
    same(decisions(policy, observations), decisions(swapped, observations))


# ---- precision ----


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_half_the_digits_are_enough_for_nearly_the_same_plans(make, observations, kind):
    """bf16 has 8 bits: 1 in 256 of every product. Scores are full precision all the same."""
    full, half = make(kind), make(kind, precision="bf16-mixed")
    a, b = decisions(full, observations), decisions(half, observations)
    for x, y in zip(a, b, strict=True):
        assert y.plans.dtype == np.float32
        assert not np.array_equal(x.plans, y.plans)
        assert np.abs(x.plans - y.plans).mean() < 0.02 * x.plans.std()
        with torch.no_grad():
            exact = half.selector(torch.from_numpy(y.plans)[None], torch.zeros(1, CONTROL.state_dim), None)
        assert exact.dtype == torch.float32
        assert np.array_equal(
            x.plans[:, 0, : CONTROL.state_dim], y.plans[:, 0, : CONTROL.state_dim]
        )  # the start is exact
