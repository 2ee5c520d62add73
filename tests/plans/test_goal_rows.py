"""A goal that stands in a plan's last row: known to teacher, students, pairs, selectors, engine and exported graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinds import METHOD_OF
from onestride import Engine
from onestride.engine.export import export
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import fold
from onestride.networks.normalizer import Normalizer
from onestride.plans.given import Given
from onestride.plans.spec import Block
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.runs.pairs import load_pairs, make_pairs
from onestride.runs.settings import PairsConfig
from onestride.selectors.iql import IQL, CriticSelector, IQLConfig
from onestride.selectors.returns import ReturnConfig, ReturnModel, ReturnSelector
from onestride.tasks import CONTROL_SPECS, TASKS

SIZES = {
    "teacher": {"width": 16, "blocks": 1, "n_steps": 3},
    "edm": {"width": 16, "blocks": 1, "steps": 2},
    "student": {"latent_dim": 16, "hidden": 16, "gain_hidden": 8},
    "consistency": {"width": 16, "blocks": 1},
    "kdp": {"width": 16, "blocks": 1},
}
GOAL = (Block(0, 0, 2), Block(-1, 0, 2))  # rows are [position 2 | displacement 2]


@pytest.fixture
def reaching(point, monkeypatch):
    """The small task, with its goal in the plan's last row instead of in its context."""
    made = replace(
        point,
        context_dim=0,
        known=GOAL,
        encode=lambda observation: Given(observation, observation[:, :0], None),
        plan_window=lambda o, a: (torch.cat((o[..., :2], a), -1), o[:, 0, :0]),
        scenes=lambda count, seed: list(range(count)),
        first_observation=lambda scene: OBSERVATION + 0.1 * scene,
    )
    monkeypatch.setitem(TASKS, "point", lambda: made)
    monkeypatch.setitem(CONTROL_SPECS, "point", lambda: made.control)
    return made


@pytest.fixture
def make(reaching):
    def made(kind, selector=None, **options):
        torch.manual_seed(0)
        generator = make_generator(reaching, METHOD_OF.get(kind, kind), SIZES[kind])
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        mean, std = torch.randn(4), 0.5 + torch.rand(4)
        normalizer = Normalizer(mean, std, torch.zeros(0), torch.ones(0))
        return Policy(reaching, generator, normalizer, candidates=6, selector=selector, **options)

    return made


OBSERVATION = np.array([0.3, -0.2, 1.5, 0.7])


@pytest.mark.parametrize("kind", SIZES)
def test_every_plan_begins_at_the_start_and_ends_at_the_goal(make, kind):
    plans = make(kind).decide(OBSERVATION).plans
    np.testing.assert_allclose(plans[:, 0, :2], np.tile(OBSERVATION[:2], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(plans[:, -1, :2], np.tile(OBSERVATION[2:], (6, 1)), atol=1e-6)
    assert plans[:, 1:-1].std(0).min() > 0


@pytest.mark.parametrize("kind", SIZES)
def test_what_is_known_is_neither_noised_nor_learnt(make, kind):
    """In training too: the network's last layer hears of free entries alone."""
    policy, rng = make(kind), torch.Generator().manual_seed(0)
    generator = policy.generator.requires_grad_(True)
    plans = torch.randn(8, 4, 4)
    batch = {"plans": plans, "context": torch.zeros(8, 0)}
    if kind == "student":
        batch = {"prior": plans, "target": plans, "context": torch.zeros(8, 0), "weight": torch.ones(8)}
    generator.training_step(batch, rng)["loss"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in generator.parameters())
    last = {
        "teacher": lambda g: g.network.output.bias,
        "edm": lambda g: g.denoiser.network.output.bias,
        "consistency": lambda g: g.f.network.output.bias,
        "kdp": lambda g: g.network.output.bias,
        "student": lambda g: g.decoder[-2].bias,
    }[kind](generator)
    gradient = last.grad.view(4, 4)
    assert (gradient[policy.fixed] == 0).all()
    assert (gradient[~policy.fixed] != 0).all()


def test_pairs_hold_start_and_goal_in_prior_and_target(make, reaching, tmp_path):
    observations = torch.randn(50, 4)
    teacher = make("teacher")
    make_pairs(teacher, observations, PairsConfig(count=64, shards=1), tmp_path / "pairs", {"teacher": "one"})
    pairs = load_pairs(tmp_path / "pairs")
    known = pairs["prior"].flatten(1)[:, reaching.plans.known_entries]
    assert torch.equal(known, pairs["target"].flatten(1)[:, reaching.plans.known_entries])
    starts = teacher.normalizer.entries(observations, teacher.known)
    assert (known[:, None] == starts).all(-1).any(1).all()


def selector_of(kind, task, normalizer):
    if kind == "returns":
        model = ReturnModel(ReturnConfig(width=16, blocks=1, n_steps=3), task.plans)
        with torch.no_grad():
            model.network.output.weight.add_(0.3 * torch.randn_like(model.network.output.weight))  # type: ignore
        return ReturnSelector(model, normalizer)
    low, high = torch.full((2,), -10.0), torch.full((2,), 10.0)
    return CriticSelector(IQL(IQLConfig(hidden=16), 2, 2), normalizer, low, high)


@pytest.mark.parametrize(
    "generator", ["student", *(pytest.param(name, marks=pytest.mark.slow) for name in ("consistency", "kdp"))]
)
@pytest.mark.parametrize("ranks", ["own", "critic", pytest.param("returns", marks=pytest.mark.slow)])
@pytest.mark.parametrize("plan", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_engine_decides_as_its_policy(make, reaching, generator, ranks, plan):
    torch.manual_seed(1)
    normalizer = Normalizer(torch.zeros(4), torch.ones(4), torch.zeros(0), torch.ones(0))
    policy = make(generator, None if ranks == "own" else selector_of(ranks, reaching, normalizer))
    for backend in ("torch", "onnx"):
        engine = Engine.from_policy(policy, backend, threads=1, draws=4, seed=0, plan=plan)
        policy.reset(0)
        for k in range(3):
            observation = OBSERVATION + 0.1 * k
            expected, found = policy.decide(observation), engine.decide(observation)
            np.testing.assert_allclose(found.action, expected.action, atol=1e-4)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
            if plan:
                np.testing.assert_allclose(found.plan, expected.plan, atol=1e-4)
                np.testing.assert_allclose(found.plan[-1, :2], observation[2:], atol=1e-5)


def test_what_the_engine_cannot_fold_is_refused_with_advice(make, reaching):
    normalizer = Normalizer(torch.zeros(4), torch.ones(4), torch.zeros(0), torch.ones(0))
    critic = selector_of("critic", reaching, normalizer)
    critic.options = replace(critic.options, scored_steps=4)  # the goal's row too
    with pytest.raises(NoEngineError, match="in which more is known than where it starts"):
        fold(make("student", critic))
    with pytest.raises(NoEngineError, match="has no native engine"):
        Engine.from_policy(make("student"), "native")


@pytest.mark.slow
def test_an_exported_graph_ends_at_the_goal(make, tmp_path):
    export(make("student"), tmp_path / "engine", form="onnx", draws=2, seed=0, checkpoint=None)
    plan = Engine.from_folder(tmp_path / "engine", threads=1).decide(OBSERVATION).plan
    np.testing.assert_allclose(plan[[0, -1]][:, :2], OBSERVATION.reshape(2, 2), atol=1e-5)
