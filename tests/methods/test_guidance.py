"""Guided sampling against the distribution it claims to sample: p(x) exp(w value(x)), Gaussian in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.guided import GuidedPlanner
from onestride.methods.settings import changed, with_settings
from onestride.selectors.returns import ReturnConfig, ReturnModel
from plan_specs import spec_of

H, D, C = 2, 2, 3
FIXED = torch.zeros(H, D, dtype=torch.bool)
FIXED[0, 0] = True
FREE = ~FIXED
VARIANCE = 0.6  # of the data, N(0, VARIANCE) in every entry


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


class Exact(nn.Module):
    """E[x_0 | x_k] of the Gaussian data."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, k, context):
        return self.gain(k) * x

    def gain(self, k):
        a, s = self.schedule.alpha[k], self.schedule.sigma[k]
        return a * VARIANCE / (a**2 * VARIANCE + s**2)


class Linear(Exact):
    """E[slope x_0 | x_k]: what regression on noisy plans learns of a linear return."""

    slope = 1.5

    def forward(self, x, k, context):
        return self.slope * super().forward(x, k, context).sum((1, 2))

    def shifted(self, w):
        """Mean and variance of p(x) exp(w slope x)."""
        return VARIANCE * w * self.slope, VARIANCE


class Quadratic(Exact):
    """log E[exp(-q/2 (x_0 - c)^2) | x_k], but for a constant: exact at weight 1."""

    q, c = 3.0, 1.2

    def forward(self, x, k, context):
        rest = (
            VARIANCE
            * self.schedule.sigma[k] ** 2
            / (self.schedule.alpha[k] ** 2 * VARIANCE + self.schedule.sigma[k] ** 2)
        )
        distance = super().forward(x, k, context) - self.c
        return -(0.5 * self.q / (1 + self.q * rest) * distance.square()).sum((1, 2))

    def shifted(self, w):
        assert w == 1
        precision = 1 / VARIANCE + self.q
        return self.q * self.c / precision, 1 / precision


def exact(value, weight, n_steps):
    """The planner and the return model of the Gaussian problem, both as good as networks can be."""
    planner = DiffusionPlanner(TeacherConfig(width=8, blocks=1, n_steps=n_steps), spec_of(FIXED, 0, 1))
    returns = ReturnModel(ReturnConfig(width=8, blocks=1, n_steps=n_steps), spec_of(FIXED, 0))
    planner.network, returns.network = Exact(planner.schedule), value(planner.schedule)
    return GuidedPlanner(planner, returns, weight)


def moments(guided, solver, count=40_000):
    prior = normal(count, H, D)
    made = with_settings(guided, changed(solver=solver)).sample(prior, None, generator=seeded(1))[:, FREE]
    return made.mean().item(), made.var().item()


CASES = [(Linear, 1.0), (Linear, 0.3), (Linear, -1.0), (Quadratic, 1.0)]


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++2m"])
@pytest.mark.parametrize(("value", "weight"), CASES)
def test_samples_are_those_of_the_tilted_distribution(value, weight, solver):
    """At 100 steps, to 0.03 of the mean and a tenth of the variance. There are 120 000 numbers: se 0.003."""
    guided = exact(value, weight, 100)
    mean, variance = guided.returns.network.shifted(weight)
    found_mean, found_variance = moments(guided, solver)
    assert found_mean == pytest.approx(mean, abs=0.03)
    assert found_variance == pytest.approx(variance, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize(("value", "weight"), [CASES[0], CASES[3]])
def test_more_steps_come_nearer(value, weight, solver):
    errors = []
    for n_steps in (5, 20, 80):
        guided = exact(value, weight, n_steps)
        mean, variance = guided.returns.network.shifted(weight)
        found_mean, found_variance = moments(guided, solver)
        errors.append(math.hypot(found_mean - mean, math.sqrt(found_variance) - math.sqrt(variance)))
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


# ---- with networks that know nothing ----


@pytest.fixture
def make():
    def made(weight, **settings):
        torch.manual_seed(0)
        planner = DiffusionPlanner(TeacherConfig(width=16, blocks=1, n_steps=6, **settings), spec_of(FIXED, C, 1))
        returns = ReturnModel(ReturnConfig(width=16, blocks=1, n_steps=6), spec_of(FIXED, C))
        with torch.no_grad():
            for p in [*planner.parameters(), *returns.parameters()]:
                p.add_(0.1 * torch.randn_like(p))
        return GuidedPlanner(planner, returns, weight)

    return made


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++2m"])
def test_without_weight_it_is_the_planner_to_the_bit(make, solver):
    guided, prior, context = with_settings(make(0.0), changed(solver=solver)), normal(9, H, D), normal(9, C, seed=1)
    with torch.inference_mode():
        a = guided.sample(prior, context, generator=seeded(2))
        b = guided.planner.sample(prior, context, generator=seeded(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, make(0.1, solver=solver).sample(prior, context, generator=seeded(2)))


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++2m"])
def test_fixed_entries_come_back_bit_for_bit(make, solver):
    prior, context = 1e3 * normal(9, H, D), normal(1, C, seed=1)
    made = make(5.0, solver=solver).sample(prior, context, generator=seeded(2))
    assert torch.equal(made[:, FIXED], prior[:, FIXED])


def test_the_estimate_moves_up_the_value_and_by_the_weight(make):
    one, two, x, context = make(1.0), make(2.0), normal(9, H, D), normal(9, C, seed=1)
    with torch.no_grad():
        for k in (1, 3, 6):
            plain, schedule = one.planner.denoise(x, k, context), one.planner.schedule
            moved = one.denoise(x, k, context) - plain
            wanted = schedule.sigma[k] ** 2 / schedule.alpha[k] * one.returns.gradient(x, k, context)
            torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(two.denoise(x, k, context) - plain, 2 * wanted, rtol=1e-4, atol=1e-5)


def test_the_planners_solver_and_prediction_are_kept(make):
    guided = make(0.5, solver="ddpm", prediction="eps")
    prior, context = normal(9, H, D), normal(9, C, seed=1)
    a = guided.sample(prior, context, generator=seeded(3))
    assert torch.equal(a, with_settings(guided, changed(solver="ddpm")).sample(prior, context, generator=seeded(3)))
    assert guided.config is guided.planner.config
    few = with_settings(guided, changed(solver="ddim", sample_steps=2))
    assert (few.nfe, guided.nfe, guided.config.solver) == (2, 6, "ddpm")
    own = make(0.5, solver="ddim", sample_steps=2, prediction="eps")
    assert torch.equal(few.sample(prior, context), own.sample(prior, context))


def test_other_noise_levels_are_refused():
    planner = DiffusionPlanner(TeacherConfig(width=8, blocks=1, n_steps=6), spec_of(FIXED, C, 1))
    returns = ReturnModel(ReturnConfig(width=8, blocks=1, n_steps=7), spec_of(FIXED, C))
    with pytest.raises(ValueError, match=r"knows 7 noise levels, the planner has 6; train it with --returns.n-steps 6"):
        GuidedPlanner(planner, returns, 1.0)
