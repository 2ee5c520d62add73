"""The teacher: its loss against a naive one, its two predictions against each other, its samples against a Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onestride.diffusion.samplers import SOLVERS, eps_from_x0
from onestride.diffusion.schedule import Schedule
from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig
from onestride.methods.settings import changed, with_settings
from plan_specs import spec_of

H, O, A, C, N = 8, 3, 2, 4, 20  # noqa: E741
D = O + A


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


@pytest.fixture
def fixed():
    mask = torch.zeros(H, D, dtype=torch.bool)
    mask[0, :O] = True
    return mask


@pytest.fixture
def make(fixed):
    def planner(**settings):
        torch.manual_seed(0)
        small = {"width": 32, "blocks": 2, "unet_width": 8, "unet_multipliers": (1, 2), "n_steps": N}
        return DiffusionPlanner(TeacherConfig(**small | settings), spec_of(fixed, C, O))

    return planner


@pytest.fixture
def batch():
    return {"plans": normal(64, H, D), "context": normal(64, C, seed=1)}


class Recorder(nn.Module):
    """Says something that depends on everything it is told, and keeps it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, k, context):
        said = torch.tanh(x.flip(1)) + 0.05 * k.view(-1, 1, 1) + context.sum(1)[:, None, None]
        said = said.detach().requires_grad_()
        self.calls.append((x, k, context, said))
        return said


class Exact(nn.Module):
    """E[x_0 | x_k] of independent Gaussians; asked for "eps" it says the noise that this implies."""

    def __init__(self, mean, variance, schedule, says="x0"):
        super().__init__()
        self.mean, self.variance, self.schedule, self.says = mean, variance, schedule, says

    def forward(self, x, k, context=None):
        a, s = self.schedule.alpha[k], self.schedule.sigma[k]
        x0 = self.mean + a * self.variance * (x - a * self.mean) / (a**2 * self.variance + s**2)
        return x0 if self.says == "x0" else eps_from_x0(x, x0, a, s)


# ---- the loss ----


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_loss_is_the_naive_one(make, batch, fixed, prediction):
    planner = make(prediction=prediction, first_action_weight=10.0)
    planner.network = recorder = Recorder()
    loss = planner.training_step(batch, seeded(3))["loss"].item()
    ((x_k, k, context, said),) = recorder.calls
    assert torch.equal(context, batch["context"])
    total = 0.0
    for b in range(64):
        alpha, sigma = planner.schedule.alpha[k[b]], planner.schedule.sigma[k[b]]
        for h in range(H):
            for d in range(D):
                x0, seen = batch["plans"][b, h, d].item(), x_k[b, h, d].item()
                if fixed[h, d]:
                    assert seen == x0  # the start is put back after noising
                    continue
                eps = (seen - alpha * x0) / sigma
                target = x0 if prediction == "x0" else eps
                weight = 10.0 if h == 0 and d >= O else 1.0
                total += weight * (said[b, h, d].item() - target) ** 2
    assert loss == pytest.approx(total / (64 * H * D), rel=2e-4)


def test_noising_is_standard_at_every_index(make):
    """Every k from 1 to N is drawn, all alike often, and the noise at each is a standard Gaussian."""
    planner = make()
    planner.network = recorder = Recorder()
    plans = normal(8000, H, D, seed=5)
    planner.training_step({"plans": plans, "context": torch.zeros(8000, C)}, seeded())
    ((x_k, k, _, _),) = recorder.calls
    count = torch.bincount(k, minlength=N + 1)
    assert count[0] == 0
    assert ((count[1:] - 400).abs() < 5 * 20).all()  # five standard deviations of a binomial count
    alpha, sigma = planner.schedule.at(k, plans)
    eps = ((x_k - alpha * plans) / sigma)[:, 1:]
    for i in (1, N // 2, N):
        at = eps[k == i].flatten()
        assert at.mean().abs() < 5 / len(at) ** 0.5
        assert (at.std() - 1).abs() < 5 / (2 * len(at)) ** 0.5
    assert (eps * plans[:, 1:]).mean().abs() < 0.01  # and has nothing to do with the plan


def test_the_start_weighs_nothing(make, batch, fixed):
    planner = make()
    planner.network = recorder = Recorder()
    planner.training_step(batch, seeded())["loss"].backward()
    gradient = recorder.calls[0][3].grad
    assert (gradient[:, fixed] == 0).all()
    assert (gradient[:, ~fixed] != 0).all()


def test_a_step_is_a_function_of_its_generator(make, batch):
    planner = make()
    losses = [planner.training_step(batch, seeded(s))["loss"].item() for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_the_truth_costs_nothing(make, batch, fixed, prediction):
    planner = make(prediction=prediction)

    class Truth(nn.Module):
        def forward(self, x, k, context):
            alpha, sigma = planner.schedule.at(k, x)
            return batch["plans"] if prediction == "x0" else (x - alpha * batch["plans"]) / sigma

    planner.network = Truth()
    assert planner.training_step(batch, seeded())["loss"].item() < 1e-8


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_both_networks_learn(make, batch, network, prediction):
    planner = make(network=network, prediction=prediction)
    optimizer = torch.optim.Adam(planner.parameters(), 3e-3)
    before = planner.training_step(batch, seeded())["loss"]
    for _ in range(10):
        optimizer.zero_grad()
        planner.training_step(batch, seeded())["loss"].backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in planner.parameters())
    assert planner.training_step(batch, seeded())["loss"] < 0.99 * before


# ---- sampling ----


def test_the_two_predictions_agree_when_told_the_same(make):
    mean, variance = normal(H, D, seed=7), normal(H, D, seed=8).square() + 0.1
    planners = [make(prediction=p) for p in ("x0", "eps")]
    for planner in planners:
        planner.network = Exact(mean, variance, planner.schedule, planner.config.prediction)
    prior = normal(5, H, D, seed=9)
    for k in range(1, N + 1):
        torch.testing.assert_close(*(p.denoise(prior, k, None) for p in planners), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(*(p.sample(prior, None) for p in planners), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_the_start_comes_back_bit_for_bit(make, fixed, solver, prediction):
    planner = make(solver=solver, prediction=prediction)
    prior = normal(6, H, D)
    before = prior.clone()
    plans = planner.sample(prior, normal(1, C, seed=2), generator=seeded())
    assert torch.equal(plans[:, fixed], prior[:, fixed])
    assert torch.equal(prior, before)
    assert (plans[:, ~fixed] != prior[:, ~fixed]).all()
    assert torch.isfinite(plans).all()


@torch.no_grad()
def test_sampling_is_made_of_as_many_calls_as_it_says(make):
    planner, calls = make(), []
    planner.network.register_forward_hook(lambda m, given, out: calls.append(given[1]))
    planner.sample(normal(2, H, D), normal(2, C))
    assert calls == list(range(N, 0, -1))
    assert planner.nfe == N
    calls.clear()
    with_settings(planner, changed(sample_steps=5)).sample(normal(2, H, D), normal(2, C))
    assert calls == [20, 16, 12, 8, 4]


@torch.no_grad()
def test_the_solver_is_the_configs_unless_another_is_asked_for(make):
    prior, context = normal(3, H, D), normal(3, C, seed=1)
    made = {s: make(solver=s).sample(prior, context, generator=seeded()) for s in SOLVERS}
    for solver in SOLVERS:
        assert torch.equal(
            with_settings(make(), changed(solver=solver)).sample(prior, context, generator=seeded()), made[solver]
        )
    assert not torch.equal(made["ddim"], made["ddpm"])


@torch.no_grad()
@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_one_context_serves_all_candidates(make, network):
    planner = make(network=network).double()  # an untrained network makes much of a rounding, call after call
    prior, context = normal(6, H, D).double(), normal(1, C, seed=1).double()
    one, many = planner.sample(prior, context), planner.sample(prior, context.expand(6, C))
    torch.testing.assert_close(one, many, rtol=1e-9, atol=1e-9)
    assert (one - planner.sample(prior, context + 1)).abs().max() > 0.05  # it does look at it


@pytest.mark.slow
def test_samples_of_an_exact_gaussian_have_its_mean_and_deviation(make, fixed):
    """DDIM carries x_N to m + r (x_N - alpha_N m) with r the product of its steps' slopes (T-DNK-1)."""
    mean, variance = normal(H, D, seed=7), normal(H, D, seed=8).square() + 0.05
    planner = make(n_steps=100)
    schedule = planner.schedule
    planner.network = Exact(mean, variance, schedule)
    prior = normal(20_000, H, D, seed=9)
    plans = planner.sample(prior, None)
    slope = torch.ones(H, D, dtype=torch.float64)
    for i in range(1, 101):
        a, s, b, t = schedule.alpha[i], schedule.sigma[i], schedule.alpha[i - 1], schedule.sigma[i - 1]
        slope *= (a * b * variance + s * t) / (a**2 * variance + s**2)
    free = ~fixed
    torch.testing.assert_close(slope[free].float(), variance.sqrt()[free], rtol=0.06, atol=0)  # the flow's limit
    error = (plans.mean(0) - mean + slope.float() * schedule.alpha[100] * mean)[free]
    assert (error.abs() < 5 * slope[free].float() / 20_000**0.5).all()
    assert ((plans.std(0) / slope.float())[free] - 1).abs().max() < 5 / 40_000**0.5
    exact = mean + slope.float() * (prior - schedule.alpha[100] * mean)
    torch.testing.assert_close(plans[:, free], exact[:, free], rtol=1e-3, atol=1e-3)


# ---- configs ----


@pytest.mark.parametrize(
    ("field", "known"), [("network", "mlp, unet"), ("prediction", "x0, eps"), ("solver", "ddpm, ddim, dpm\\+\\+2m")]
)
def test_a_name_nobody_knows_is_refused_with_those_there_are(field, known):
    with pytest.raises(ValueError, match=rf"teacher\.{field} is 'euler'; there are {known}"):
        TeacherConfig(**{field: "euler"})


@pytest.mark.parametrize(("field", "value"), [("n_steps", 1), ("n_steps", 0), ("width", 0), ("blocks", 0)])
def test_sizes_that_make_no_sense_are_refused(make, field, value):
    with pytest.raises(ValueError, match=field):
        make(**{field: value})


def test_a_solver_that_draws_needs_a_generator(make):
    with pytest.raises(ValueError, match="draws noise"):
        make(solver="ddpm").sample(normal(2, H, D), normal(2, C))


def test_the_teacher_of_the_paper_has_its_schedule():
    assert Schedule.cosine(TeacherConfig().n_steps).n_steps == 30


def test_fewer_steps_may_be_the_planners_own(make):
    few, prior, context = make(sample_steps=3), normal(7, H, D), normal(7, C, seed=1)
    assert (few.nfe, make().nfe) == (3, N)
    with torch.no_grad():
        assert torch.equal(
            few.sample(prior, context), with_settings(make(), changed(sample_steps=3)).sample(prior, context)
        )
        assert torch.equal(
            with_settings(few, changed(sample_steps=5)).sample(prior, context),
            make(sample_steps=5).sample(prior, context),
        )
