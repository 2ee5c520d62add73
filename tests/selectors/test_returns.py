"""The return model: what it must learn is known in closed form where plans are Gaussian and returns quadratic."""

from __future__ import annotations

import pytest
import torch

from onestride.networks.normalizer import Normalizer
from onestride.selectors.returns import ReturnConfig, ReturnModel, ReturnSelector
from plan_specs import spec_of

H, D, C = 4, 3, 2
SMALL = {"width": 32, "blocks": 1, "n_steps": 10, "unet_width": 8, "unet_multipliers": (1, 2)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


@pytest.fixture
def fixed():
    mask = torch.zeros(H, D, dtype=torch.bool)
    mask[0, :2] = True
    return mask


@pytest.fixture(params=["mlp", "unet"])
def network(request):
    return request.param


@pytest.fixture
def make(fixed):
    def model(context_dim=0, **settings):
        torch.manual_seed(0)
        made = ReturnModel(ReturnConfig(**SMALL | settings), spec_of(fixed, context_dim))
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.05 * normal(*p.shape, seed=1))
        return made

    return model


# ---- the loss ----


class Recorder(torch.nn.Module):
    def forward(self, x, k, context):
        self.x, self.k, self.context = x, k, context
        return x.sum((1, 2))


def test_the_loss_is_the_squared_error_at_every_noise_level_data_included(make, fixed):
    model = make(C)
    model.network = Recorder()
    batch = {"plans": normal(4000, H, D), "context": normal(4000, C, seed=1), "value": normal(4000, seed=2)}
    loss = model.training_step(batch, seeded(3))["loss"]
    x, k = model.network.x, model.network.k
    assert torch.equal(loss, (x.sum((1, 2)) - batch["value"]).square().mean())
    assert model.network.context is batch["context"]
    assert k.bincount().tolist() == pytest.approx([4000 / 11] * 11, rel=0.3)  # 0 ... N, evenly
    assert torch.equal(x[:, fixed], batch["plans"][:, fixed])  # the start is never noised
    assert torch.equal(x[k == 0], batch["plans"][k == 0])
    for level in (1, 5, 10):
        rows = k == level
        noise = (x[rows] - model.schedule.alpha[level] * batch["plans"][rows])[:, ~fixed] / model.schedule.sigma[level]
        assert noise.std().item() == pytest.approx(1.0, abs=0.06)
    again = model.training_step(batch, seeded(3))["loss"]
    assert torch.equal(loss, again)


@pytest.mark.slow
def test_it_learns_a_quadratic_return_from_plans_at_any_noise_level(make, fixed):
    """Plans are N(0, I) and worth -(x - c)^2 in one entry: given x_k that is -(alpha x_k - c)^2 - sigma^2."""
    c, n = 0.8, 512
    model = make(width=64, blocks=2, n_steps=5)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    steps = 700
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = seeded(5)
    for _ in range(steps):
        plans = torch.randn(n, H, D, generator=generator)
        value = -(plans[:, 2, 1] - c).square()
        optimizer.zero_grad()
        model.training_step({"plans": plans, "context": torch.zeros(n, 0), "value": value}, generator)[
            "loss"
        ].backward()
        optimizer.step()
        annealed.step()
    x = normal(4000, H, D, seed=6)  # as x_k is distributed at every k
    with torch.no_grad():
        for k in range(6):
            alpha, sigma = model.schedule.alpha[k], model.schedule.sigma[k]
            wanted = -(alpha * x[:, 2, 1] - c).square() - sigma**2
            error = (model(x, k, None) - wanted).square().mean().sqrt()
            assert error < 0.25, k  # of returns whose standard deviation is 2.1
    slope = model.gradient(x, 1, None)
    assert torch.corrcoef(torch.stack((slope[:, 2, 1], c - x[:, 2, 1])))[0, 1] > 0.95
    other = slope.clone()
    other[:, 2, 1] = 0
    assert other.abs().mean() < 0.15 * slope[:, 2, 1].abs().mean()


# ---- its gradient ----


def test_the_gradient_is_the_finite_differences(make, network):
    model = make(C, network=network).double()
    x, context = normal(3, H, D).double(), normal(3, C, seed=1).double()
    found, step = model.gradient(x, 4, context), 1e-5
    assert found.shape == x.shape
    for h in range(H):
        for d in range(D):
            moved = x.clone()
            moved[:, h, d] += step
            back = x.clone()
            back[:, h, d] -= step
            with torch.no_grad():
                slope = (model(moved, 4, context) - model(back, 4, context)) / (2 * step)
            torch.testing.assert_close(found[:, h, d], slope, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_there_in_inference_mode_too_and_leaves_no_trace(make, network):
    model = make(C, network=network).requires_grad_(False)
    x, context = normal(3, H, D), normal(1, C, seed=1)
    outside = model.gradient(x, 4, context)
    assert not outside.requires_grad
    assert x.grad is None
    assert not x.requires_grad
    with torch.inference_mode():
        inside = model.gradient(x.clone(), 4, context.clone())
        assert torch.equal(inside, outside)
        assert torch.equal(inside + x, outside + x)
        assert torch.is_inference_mode_enabled()
    with torch.no_grad():
        assert torch.equal(model.gradient(x, 4, context), outside)
    assert all(p.grad is None for p in model.parameters())


def test_one_context_serves_a_whole_batch(make, network):
    model = make(C, network=network)
    x, context = normal(5, H, D), normal(1, C, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(model(x, 3, context), model(x, 3, context.expand(5, C)))
    torch.testing.assert_close(model.gradient(x, 3, context), model.gradient(x, 3, context.expand(5, C)))


# ---- as a selector, and as a config ----


@torch.no_grad()
def test_the_score_is_the_value_of_the_normalised_plan_at_no_noise(make, network):
    model = make(network=network)
    normalizer = Normalizer(normal(D), normal(D, seed=1).abs() + 0.5, torch.zeros(0), torch.ones(0))
    plans = normal(2, 6, H, D, seed=2)
    found = ReturnSelector(model, normalizer)(plans, normal(2, 2), None)
    assert found.shape == (2, 6)
    for b in range(2):
        for n in range(6):
            wanted = model(normalizer.plans(plans[b, n])[None], 0, None)[0]
            torch.testing.assert_close(found[b, n], wanted, rtol=1e-4, atol=1e-5)


def test_the_noise_levels_are_the_teachers(make):
    from onestride.methods.diffusion_planner import DiffusionPlanner, TeacherConfig

    planner = DiffusionPlanner(
        TeacherConfig(width=8, blocks=1, n_steps=10), spec_of(torch.zeros(H, D, dtype=torch.bool), 0, 2)
    )
    assert make(n_steps=10).schedule == planner.schedule
    assert ReturnConfig().n_steps == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"network": "gru"}, "'gru'; there are mlp, unet"), ({"discount": 1.0}, r"returns\.discount is 1\.0")],
)
def test_configs_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ReturnConfig(**settings)
