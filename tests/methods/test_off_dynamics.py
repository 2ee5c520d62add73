"""Guidance and conditions of the off-dynamics planner against what is known in closed form."""

from __future__ import annotations

import pytest
import torch

from onestride.diffusion.guidance import classifier_free
from onestride.diffusion.samplers import x0_from_eps
from onestride.diffusion.schedule import Schedule
from onestride.methods import METHODS
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.plans.spec import PlanSpec
from onestride.training.config import TrainConfig
from onestride.training.datasets import Order, Resident, Stratified
from onestride.training.loop import train

W = 0.9


def test_guidance_of_noise_and_of_plans_agree_and_the_printed_sign_does_not_hold():
    """T-OD-3. As printed, (1 + w) e(x | c) + w e(x), a plan grows by 1.8 of itself where conditions say nothing."""
    schedule, rng = Schedule.cosine(20), torch.Generator().manual_seed(0)
    x, with_it, without = torch.randn(3, 8, 4, 5, generator=rng, dtype=torch.float64)
    for k in (5, 10, 19):
        alpha, sigma = schedule.alpha[k], schedule.sigma[k]
        of_noise = x0_from_eps(x, classifier_free(with_it, without, W), alpha, sigma)
        of_plans = classifier_free(*(x0_from_eps(x, eps, alpha, sigma) for eps in (with_it, without)), W)
        torch.testing.assert_close(of_noise, of_plans, atol=1e-6, rtol=1e-6)
        printed = x0_from_eps(x, (1 + W) * with_it + W * with_it, alpha, sigma)
        assert (printed - x0_from_eps(x, with_it, alpha, sigma)).abs().max() > 0.1
    assert torch.equal(classifier_free(with_it, without, 0.0), with_it)


@pytest.mark.slow
def test_what_is_asked_for_moves_a_gaussian_plan_as_its_conditional_mean(tmp_path):
    """T-OD-4: x = 0.8 y + 0.6 e, y of a unit normal law: E[x | y] = 0.8 y, at y = -2 and 2 too; asked nothing: 0."""
    torch.manual_seed(0)
    spec = PlanSpec(horizon=1, state_dim=0, action_dim=1, known=(), conditions=(("y", 1),))
    config = TeacherConfig(
        width=64, blocks=2, n_steps=20, first_action_weight=1.0, condition_dropout=0.5, condition_weight=0.0
    )
    y = torch.randn(20_000, 1)
    data = {"plans": (0.8 * y + 0.6 * torch.randn(20_000, 1))[..., None], "context": torch.zeros(20_000, 0)}
    training = TrainConfig(steps=800, batch_size=512, learning_rate=3e-3, ema_decay=0.98, precision="32-true")
    planner = train(
        DiffusionPlanner(config, spec), data | {"condition.y": y}, training, tmp_path, title="normal", identity={}
    )[0]
    prior = torch.randn(4_000, 1, 1, generator=torch.Generator().manual_seed(1))
    for asked in (-2.0, 0.0, 2.0):
        made = planner.sample(prior, None, conditions={"y": torch.tensor([[asked]])})
        assert float(made.mean()) == pytest.approx(0.8 * asked, abs=0.12)
        assert float(made.std()) == pytest.approx(0.6, abs=0.12)
    free = planner.sample(prior, None)
    assert (float(free.mean()), float(free.std())) == (pytest.approx(0, abs=0.1), pytest.approx(1.0, abs=0.12))
    gone = planner.sample(prior, None, conditions={"y": torch.full((len(prior), 1), torch.nan)})
    torch.testing.assert_close(gone, free)  # NaN is not asked for


def test_batches_are_half_of_each_body_whatever_there_is_of_each():
    """T-OD-5."""
    data = Stratified([Resident({"x": torch.zeros(30, 1)}), Resident({"x": torch.ones(5_000, 1)})], (0.5, 0.5))
    order = Order(data, 32, 0, torch.device("cpu"))
    for step in range(20):
        assert data.rows(order.rows(step))["part"].tolist().count(0) == 16


def test_planners_ask_for_what_is_good_and_the_targets():
    asked = {name: METHODS[name]().asked for name in METHODS if METHODS[name]().conditions}
    assert asked["off-dynamics"] == {"return": 1.0, "dynamics": 1.0, "inverse": 0.0}
    assert asked["labelled-diffuser"] == {"return": 1.0, "label": 1.0}
    for name in asked:
        config = METHODS[name]().config
        if isinstance(config, TeacherConfig):
            assert (config.condition_dropout, config.condition_weight) == (0.5, W)
