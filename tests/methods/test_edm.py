"""The EDM teacher: its preconditioning by the numbers, Heun's order on a Gaussian, and a toy it learns."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from onestride.methods.edm import EDMConfig, EDMPlanner, NoiseLevels, Preconditioned, heun, noised
from onestride.methods.settings import changed, with_settings
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from plan_specs import spec_of

O, A, C = 2, 3, 4  # noqa: E741
D = O + A
SMALL = EDMConfig(width=16, blocks=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def mask(horizon):
    fixed = torch.zeros(horizon, D, dtype=torch.bool)
    fixed[0, :O] = True
    return fixed


def make(horizon=4, context_dim=C, **settings):
    torch.manual_seed(0)
    planner = EDMPlanner(replace(SMALL, **settings), spec_of(mask(horizon), context_dim, O))
    with torch.no_grad():  # past the zeros that some layers start with
        for p in planner.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return planner


# ---- levels and preconditioning ----


def test_the_grid_is_that_of_the_paper():
    grid = NoiseLevels().grid(18)
    assert (len(grid), grid[0], grid[-1]) == (18, 80.0, 0.002)
    for i, sigma in enumerate(grid):  # eq. 5 in float64
        assert sigma == pytest.approx((80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, rel=1e-12)
    assert grid == sorted(grid, reverse=True)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 80.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_the_preconditioning_is_that_of_table_1(sigma, sigma_data):
    fixed = torch.zeros(4, D, dtype=torch.bool)
    denoiser = Preconditioned(spec_of(fixed, 0), width=8, blocks=1, sigma_data=sigma_data).double()
    seen = {}

    def network(x, k, context):
        seen.update(x=x, k=k)
        return torch.full_like(x, 3.0)

    denoiser.network.forward = network
    x = normal(5, 4, D, dtype=torch.float64)
    root = math.sqrt(sigma**2 + sigma_data**2)
    expected = sigma_data**2 / root**2 * x + sigma * sigma_data / root * 3.0
    torch.testing.assert_close(denoiser(x, sigma, None), expected)
    torch.testing.assert_close(seen["x"], x / root)
    assert seen["k"].item() == pytest.approx(16 * math.log(sigma) / 4)  # c_noise, in the network's unit


def test_a_level_for_all_is_the_same_as_one_for_each():
    denoiser, x, context = make().denoiser, normal(3, 4, D), normal(1, C, seed=1)
    each = denoiser(x, torch.full((3, 1, 1), 0.7), context.expand(3, C))
    torch.testing.assert_close(denoiser(x, 0.7, context), each)
    sigma = torch.tensor([0.01, 1.0, 50.0])
    rows = denoiser(x, sigma[:, None, None], context)
    for i in range(3):
        torch.testing.assert_close(rows[i : i + 1], denoiser(x[i : i + 1], sigma[i].item(), context))


# ---- Heun's method on a Gaussian ----

VARIANCE = torch.tensor([0.05, 0.5, 2.0], dtype=torch.float64)


def gaussian(x, sigma):
    """The exact denoiser of N(0, diag(VARIANCE))."""
    return VARIANCE / (VARIANCE + sigma**2) * x


def test_heun_carries_noise_to_the_data_of_a_gaussian():
    """The 18 steps of the paper leave plans 4 to 7 per cent too wide, 36 a quarter of that."""
    x = 80 * torch.ones(1, 1, 3, dtype=torch.float64)
    exact = x * (VARIANCE / (VARIANCE + 80**2)).sqrt()
    wide = [(heun(gaussian, x, NoiseLevels().grid(n)) / exact - 1).flatten() for n in (18, 36)]
    torch.testing.assert_close(wide[0], torch.tensor([0.0706, 0.0498, 0.0404]).double(), atol=1e-4, rtol=0)
    assert wide[1].abs().max() < 0.016


def test_heun_is_of_second_order():
    """Down to a level at which the last, Euler step has nothing left to do."""
    levels = NoiseLevels(sigma_min=1e-4, sigma_max=20.0)
    x = 20 * normal(50, 1, 3, dtype=torch.float64)
    exact = x * (VARIANCE / (VARIANCE + 20**2)).sqrt()
    counts = torch.tensor([32.0, 64.0, 128.0, 256.0])
    errors = torch.stack([(heun(gaussian, x, levels.grid(int(n))) - exact).square().mean().sqrt() for n in counts])
    order = -torch.log2(errors[1:] / errors[:-1])
    assert ((order > 1.9) & (order < 2.1)).all(), order


def test_network_calls_are_as_many_as_it_says():
    planner, calls = make(), []
    planner.denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    planner.sample(normal(2, 4, D), normal(1, C))
    assert len(calls) == planner.nfe == 35
    calls.clear()
    with_settings(planner, changed(steps=5)).sample(normal(2, 4, D), normal(1, C))
    assert len(calls) == 9


# ---- fixed entries ----


@pytest.mark.parametrize("horizon", [1, 4])
def test_fixed_entries_come_back_bit_for_bit_and_are_never_noised(horizon):
    planner, fixed, seen = make(horizon), mask(horizon), []
    planner.denoiser.network.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, fixed]))
    prior, context = 3 * normal(6, horizon, D), normal(6, C, seed=1)
    plans = planner.sample(prior, context, generator=seeded())
    assert plans.shape == prior.shape
    assert torch.equal(plans[:, fixed], prior[:, fixed])
    planner.training_step({"plans": prior, "context": context}, seeded())
    assert len(seen) == 36
    assert all(torch.equal(x, prior[:, fixed]) for x in seen)


def test_fixed_entries_weigh_nothing_and_the_first_action_ten_times():
    planner, plans, errors = make(), normal(6, 4, D), []

    def out(module, args, output):
        output.retain_grad()
        errors.append(output)

    planner.denoiser.network.register_forward_hook(out)
    planner.training_step({"plans": plans, "context": normal(6, C)}, seeded())["loss"].backward()
    gradient = errors[0].grad
    assert not gradient[:, planner.fixed].any()
    assert gradient[:, ~planner.fixed].all()
    assert planner.loss_weight[0].tolist() == [0.0] * O + [10.0] * A
    assert (planner.loss_weight[1:] == 1).all()


def test_the_loss_is_that_of_the_paper():
    planner, plans, context = make(first_action_weight=1.0), normal(64, 4, D), normal(64, C, seed=1)
    loss = planner.training_step({"plans": plans, "context": context}, seeded(5))["loss"]
    g = seeded(5)
    sigma = (-1.2 + 1.2 * torch.randn(64, 1, 1, generator=g)).exp()
    x = noised(plans, sigma, planner.fixed, torch.randn(plans.shape, generator=g))
    square = (planner.denoise(x, sigma, context) - plans).double().square()
    weight = (sigma.double() ** 2 + 1) / sigma.double() ** 2
    torch.testing.assert_close(loss.double(), (weight * square).mean(), rtol=1e-5, atol=0)


# ---- what it learns ----


@pytest.mark.slow
def test_it_learns_a_conditional_gaussian(tmp_path):
    """One observation o, one action a ~ N(0.6 o, 0.4^2): slope and spread to 0.05."""
    fixed, g = torch.tensor([[True, False]]), seeded()
    o = torch.randn(4096, 1, 1, generator=g)
    plans = torch.cat((o, 0.6 * o + 0.4 * torch.randn(4096, 1, 1, generator=g)), -1)
    torch.manual_seed(0)
    planner = EDMPlanner(EDMConfig(width=32, blocks=1), spec_of(fixed, 1, 1))
    config = TrainConfig(400, 256, 3e-3, ema_decay=0.98, warmup=20, precision="32-true", accelerator="cpu")
    data = {"plans": plans, "context": torch.ones(4096, 1)}
    ema, _ = train(planner, data, config, tmp_path, title="edm", identity={})
    prior = normal(4000, 1, 2, seed=9)
    o, a = ema.sample(prior, torch.ones(1, 1)).detach().flatten(1).T
    slope = (a * o).mean() / o.square().mean()
    assert slope.item() == pytest.approx(0.6, abs=0.05)
    assert (a - slope * o).std().item() == pytest.approx(0.4, abs=0.05)


def test_half_the_noise_is_half_the_spread():
    """Temperature scales the prior; for a Gaussian the path is linear in it."""
    x = 80 * normal(100, 1, 3, dtype=torch.float64)
    grid = NoiseLevels().grid(18)
    torch.testing.assert_close(heun(gaussian, 0.5 * x, grid), 0.5 * heun(gaussian, x, grid))


# ---- config and state ----


def test_config_and_weights_survive_json_and_a_new_object():
    planner = make()
    config = EDMConfig(**json.loads(json.dumps(asdict(planner.config))))
    assert config == planner.config
    again = EDMPlanner(config, spec_of(mask(4), C, O))
    again.load_state_dict(planner.state_dict())
    prior, context = normal(3, 4, D), normal(3, C, seed=1)
    assert torch.equal(planner.sample(prior, context), again.sample(prior, context))
    assert set(planner.state_dict()) == {name for name, _ in planner.named_parameters()}


@pytest.mark.parametrize(
    ("change", "says"),
    [({"sigma_min": 0.0}, "sigma_min"), ({"sigma_max": 0.001}, "sigma_max"), ({"sigma_data": 0.0}, "sigma_data"),
     ({"rho": -1.0}, "rho"), ({"steps": 0}, "at least 1"), ({"p_std": 0.0}, "p_std"),
     ({"first_action_weight": -1.0}, "weight")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)


# ---- a continuous index in the network ----


def test_a_whole_float_index_is_the_integer():
    network = make().denoiser.network
    x, context = normal(4, 4, D), normal(4, C, seed=1)
    k = torch.tensor([0, 3, 7, 20])
    torch.testing.assert_close(network(x, k.float(), context), network(x, k, context))
    between = network(x, torch.tensor([3.5]), context)
    assert torch.isfinite(between).all()
    assert not torch.equal(between, network(x, 3, context))
