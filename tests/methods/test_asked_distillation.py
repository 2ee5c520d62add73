"""OneDP of a planner with conditions: both are asked for the same, and the teacher's guidance is inside."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from onestride.methods.asked import AskedLearner, drawn, with_conditions
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.score_distillation import (
    ONEDP_S,
    OneStepStudent,
    ScoreDistillation,
    ScoreDistillationConfig,
)
from onestride.networks.conditions import ConditionEmbedding
from onestride.plans.spec import PlanSpec
from onestride.training.config import TrainConfig
from onestride.training.loop import train

SPEC = PlanSpec(horizon=1, state_dim=0, action_dim=1, known=(), conditions=(("side", 1),))
TEACHER = TeacherConfig(width=32, blocks=1, n_steps=20, first_action_weight=1.0, condition_dropout=0.25)
USUAL = torch.tensor([1.0])


def learner_of(teacher, **settings):
    """A learner of a student that takes the conditions which its teacher takes."""
    config = ScoreDistillationConfig(planner="diffuser", settings=asdict(teacher.config), **settings)
    student = with_conditions(OneStepStudent, config, SPEC)
    return AskedLearner(student, ONEDP_S.learner(student.planner, teacher, config), teacher.conditions, USUAL)


@pytest.fixture(scope="module")
def two_sides(tmp_path_factory):
    """A planner of numbers near -1 or 1, the side of which is a condition."""
    torch.manual_seed(0)
    teacher = DiffusionPlanner(TEACHER, SPEC)
    teacher.conditions.limit({"side": (-1.0, 1.0)})
    side = torch.where(torch.rand(4096, 1) < 0.5, -1.0, 1.0)
    data = {"plans": (side + 0.1 * torch.randn(4096, 1))[..., None], "context": torch.zeros(4096, 0)}
    config = TrainConfig(steps=500, batch_size=256, learning_rate=3e-3, ema_decay=0.98, precision="32-true")
    folder = tmp_path_factory.mktemp("sides")
    return train(teacher, data | {"condition.side": side}, config, folder, title="sides", identity={})[0]


@pytest.mark.slow
def test_what_is_asked_for_comes_in_one_call_and_without_asking_both_do(two_sides, tmp_path):
    learner = learner_of(two_sides, learning_rate=1e-3, score_learning_rate=3e-3)
    data = {"plans": torch.zeros(256, 1, 1), "context": torch.zeros(256, 0)}
    config = TrainConfig(steps=400, batch_size=256, ema_decay=0.98, precision="32-true")
    student = train(learner, data, config, tmp_path, title="student", identity={})[0]
    assert (student.nfe, two_sides.nfe) == (1, 20)
    prior, nothing = torch.randn(200, 1, 1, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 0)
    for side in (-1.0, 1.0):
        made = student.sample(prior, student.embed(nothing, {"side": torch.tensor([[side]])}))
        assert float((made.sign() == side).float().mean()) > 0.95
    free = student.sample(prior, student.embed(nothing, {}))
    assert 0.25 < float((free > 0).float().mean()) < 0.75


@pytest.mark.slow
def test_the_teachers_score_is_the_guided_one_and_the_score_networks_is_not(two_sides):
    guided = replace(two_sides.config, condition_weight=0.9)
    teacher = DiffusionPlanner(guided, SPEC)
    teacher.load_state_dict(two_sides.state_dict())
    learner = learner_of(teacher)
    inner: ScoreDistillation = learner.learner
    rows, level = 64, torch.full((64,), 10)
    made, eps = torch.randn(rows, 1, 1), torch.randn(rows, 1, 1)
    asked = {"side": torch.where(torch.rand(rows, 1) < 0.5, torch.nan, 1.0)}
    alpha, sigma = teacher.schedule.at(level, made)
    noisy = alpha * made + sigma * eps
    with torch.no_grad():
        theirs = teacher.asking(torch.zeros(rows, 0), asked)(noisy, level)
        plain = DiffusionPlanner(replace(guided, condition_weight=0.0), SPEC)
        plain.load_state_dict(two_sides.state_dict())
        ours = plain.asking(torch.zeros(rows, 0), asked)(noisy, level)
        expected = (alpha / sigma * (ours - theirs)).square().mean().sqrt()
    context = learner.deployed.embed(torch.zeros(rows, 0), asked)
    gap = inner.matching(made, level, eps, context)["gap"]
    torch.testing.assert_close(gap, expected, rtol=1e-5, atol=1e-6)
    assert gap > 1e-3


def test_the_embedding_is_the_teachers_and_stays(two_sides):
    learner = learner_of(two_sides)
    before = {name: value.clone() for name, value in learner.deployed.conditions.state_dict().items()}
    assert all(torch.equal(value, two_sides.conditions.state_dict()[name]) for name, value in before.items())
    batch = {"plans": torch.zeros(64, 1, 1), "context": torch.zeros(64, 0)}
    for group in learner.groups():
        learner.loss(group.phase, batch, torch.Generator().manual_seed(0))["loss"].backward()
    assert not any(p.requires_grad for p in learner.deployed.conditions.parameters())
    grouped = {id(p) for group in learner.groups() for p in group.parameters}
    assert not grouped & {id(p) for p in learner.deployed.conditions.parameters()}


def test_what_is_drawn_covers_the_range_the_usual_and_nothing():
    torch.manual_seed(0)
    conditions = ConditionEmbedding((("side", 1), ("place", 2)))
    conditions.limit({"side": (-1.0, 1.0), "place": (0.0, 2.0)})
    asked = drawn(conditions, torch.tensor([0.5, 1.0, 1.5]), 20_000, torch.Generator().manual_seed(0))
    side, place = asked["side"][:, 0], asked["place"]
    missing, usual = side.isnan(), side == 0.5
    assert float(missing.float().mean()) == pytest.approx(1 - 7 / 8 * 3 / 4, abs=0.01)
    assert float(usual.float().mean()) == pytest.approx(7 / 8 / 4, abs=0.01)
    assert torch.equal(place.isnan().any(1), place.isnan().all(1))
    anywhere = side[~missing & ~usual]
    assert float(anywhere.min()) < -0.99
    assert float(anywhere.max()) > 0.99
    assert float(place.nan_to_num(0.5).min()) >= 0.0
    with pytest.raises(ValueError, match="asks for side, place anywhere in their ranges, and one has none"):
        drawn(ConditionEmbedding((("side", 1), ("place", 2))), torch.zeros(3), 4, torch.Generator())
