"""Conditions: embeddings of their own, left out one by one, classifier-free guidance, asked for at decision time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.diffusion.guidance import classifier_free
from onestride.engine.engine import Engine
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.settings import changed, with_settings
from onestride.networks.conditions import ConditionEmbedding
from onestride.networks.normalizer import Normalizer
from onestride.plans.spec import PlanSpec
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.tasks import TASKS
from onestride.tasks.task import Condition
from onestride.training.config import TrainConfig
from onestride.training.loop import train

SPEC = PlanSpec(horizon=1, state_dim=0, action_dim=1, known=(), conditions=(("side", 1), ("place", 2)))


def test_the_weights_of_guidance_add_up_to_one():
    with_it, without = torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(classifier_free(with_it, without, 0.9), 1.9 * with_it - 0.9 * without)
    assert classifier_free(with_it, without, 0.9)[0] == 1.0  # where both say the same, so does guidance
    torch.testing.assert_close(classifier_free(with_it, without, -1.0), without)
    assert classifier_free(with_it, without, 0.0) is with_it


def test_what_is_not_asked_for_is_zeros_and_not_the_value_zero():
    torch.manual_seed(0)
    embedding = ConditionEmbedding(SPEC.conditions)
    asked = {"side": torch.zeros(2, 1), "place": torch.zeros(2, 2)}
    assert torch.equal(embedding(asked), torch.zeros(2, embedding.width))  # it starts as if nothing were asked for
    _stir(embedding)
    nothing, zero = embedding({}, rows=2), embedding(asked)
    assert torch.equal(nothing, torch.zeros(2, embedding.width))
    assert zero.all()
    half = embedding.width // 2
    mixed = embedding({"side": torch.tensor([[0.0], [torch.nan]]), "place": torch.tensor([[0.0, torch.nan]] * 2)})
    assert torch.equal(mixed, torch.cat((zero[:, :half] * torch.tensor([[1.0], [0.0]]), nothing[:, half:]), 1))
    assert torch.equal(embedding({"place": torch.zeros(2, 2)})[:, half:], zero[:, half:])


def _stir(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def test_names_and_sizes_are_checked():
    embedding = ConditionEmbedding(SPEC.conditions)
    with pytest.raises(ValueError, match="nothing was learnt of height; what can be asked for: side, place"):
        embedding({"height": torch.zeros(1, 1)})
    with pytest.raises(ValueError, match=r"'place' has shape \(1, 3\), expected \(B, 2\)"):
        embedding({"place": torch.zeros(1, 3)})


def test_conditions_are_left_out_independently_of_each_other():
    planner = DiffusionPlanner(TeacherConfig(width=8, blocks=1, n_steps=4, condition_dropout=0.5), SPEC)
    seen = []
    planner.conditions.forward = lambda asked: seen.append(asked) or torch.zeros(len(asked["side"]), 128)
    n = 20_000
    batch = {"plans": torch.zeros(n, 1, 1), "context": torch.zeros(n, 0)}
    batch |= {"condition.side": torch.zeros(n, 1), "condition.place": torch.zeros(n, 2)}
    planner.training_step(batch, torch.Generator().manual_seed(0))
    side, place = seen[0]["side"].isnan().all(1), seen[0]["place"].isnan().all(1)
    assert torch.equal(seen[0]["place"].isnan().any(1), place)  # as a whole
    assert float(side.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(place.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((side & place).float().mean()) == pytest.approx(0.25, abs=0.015)


@pytest.fixture(scope="module")
def two_sides(tmp_path_factory):
    """A planner of numbers near -1 or 1, the side of which is a condition."""
    torch.manual_seed(0)
    spec = replace(SPEC, conditions=(("side", 1),))
    planner = DiffusionPlanner(TeacherConfig(width=32, blocks=1, n_steps=10, first_action_weight=1.0), spec)
    side = torch.where(torch.rand(4096, 1) < 0.5, -1.0, 1.0)
    data = {"plans": (side + 0.1 * torch.randn(4096, 1))[..., None], "context": torch.zeros(4096, 0)}
    config = TrainConfig(steps=500, batch_size=256, learning_rate=3e-3, ema_decay=0.98, precision="32-true")
    folder = tmp_path_factory.mktemp("sides")
    return train(planner, data | {"condition.side": side}, config, folder, title="sides", identity={})[0]


def test_what_is_asked_for_comes_and_without_asking_both_do(two_sides):
    prior = torch.randn(200, 1, 1, generator=torch.Generator().manual_seed(1))
    for side in (-1.0, 1.0):
        made = two_sides.sample(prior, None, conditions={"side": torch.tensor([[side]])})
        assert float((made.sign() == side).float().mean()) > 0.97
    free = two_sides.sample(prior, None)
    assert 0.3 < float((free > 0).float().mean()) < 0.7


def test_guidance_moves_further_to_what_is_asked_for(two_sides):
    x, asked = torch.zeros(1, 1, 1), {"side": torch.ones(1, 1)}
    plain = two_sides.asking(None, asked)(x, 8)
    without = two_sides.asking(None, {})(x, 8)
    guided = with_settings(two_sides, changed(condition_weight=0.9)).asking(None, asked)(x, 8)
    torch.testing.assert_close(guided, 1.9 * plain - 0.9 * without)
    assert guided > plain > without


def test_a_policy_asks_and_its_checkpoint_knows_of_what(monkeypatch, tmp_path):
    task = replace(TASKS["hopper-v5"]().with_control(name="asked"), conditions=(Condition("speed", 1),))
    monkeypatch.setitem(TASKS, "asked", lambda: task)
    torch.manual_seed(0)
    generator = make_generator(task, "diffuser", {"width": 16, "blocks": 1, "n_steps": 4, "condition_weight": 1.0})
    _stir(generator)
    normalizer = Normalizer.empty(task.control.transition_dim, 0)
    Policy(task, generator, normalizer, candidates=4).save(tmp_path / "teacher", {"id": "abc"})
    policy = Policy.from_pretrained(tmp_path / "teacher", selector=unselected)
    observation, actions = np.zeros(11), {}
    for speed in (None, 1.0, 3.0):
        policy.ask(**({} if speed is None else {"speed": speed}))
        policy.reset(0)
        actions[speed] = policy.decide(observation).action
    assert len({tuple(action) for action in actions.values()}) == 3
    with pytest.raises(ValueError, match=r"condition 'height' of 1 numbers was not learnt; learnt: speed \(1\)"):
        policy.ask(height=1.0)
    policy.ask(speed=1.0)
    engine = Engine.from_policy(policy, "torch", draws=2)
    for speed in (1.0, 3.0):
        engine.ask(speed=speed)
        engine.reset()
        np.testing.assert_allclose(engine.decide(observation).action, actions[speed], atol=1e-5)
