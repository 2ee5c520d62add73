"""MeanFlow: its identity where the mean velocity is known, its loss by hand, and two modes from one network call."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from onestride.methods.meanflow import K_STEPS, MeanFlowConfig, MeanFlowPlanner, identity
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from plan_specs import spec_of

O, A, C = 2, 3, 4  # noqa: E741
D = O + A
SMALL = MeanFlowConfig(width=16, blocks=1, unet_width=8, unet_multipliers=(1, 2))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def known(rows, observed=True):
    mask = torch.zeros(rows, D, dtype=torch.bool)
    mask[0, :O] = observed
    return mask


def make(horizon=4, observed=True, **settings):
    torch.manual_seed(0)
    planner = MeanFlowPlanner(replace(SMALL, **settings), spec_of(known(horizon, observed), C, O))
    with torch.no_grad():  # past the zeros that some layers start with
        for i, p in enumerate(planner.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=i))
    return planner


def make_batch(rows=32):
    return {"plans": normal(rows, 4, D, seed=2), "context": normal(rows, C, seed=3)}


# ---- the identity, for data N(m, s^2): z_t ~ N((1 - t) m, (1 - t)^2 s^2 + t^2), and the flow keeps the quantile ----


def width(t, s):
    return ((1 - t).square() * s**2 + t.square()).sqrt()


def mean_velocity(z, r, t, m, s):
    """(z_t - z_r) / (t - r) of that flow, in a form that holds at r = t."""
    r, t = r[:, None, None], t[:, None, None]
    ratio = (t + r - s**2 * (2 - t - r)) / (width(t, s) + width(r, s))  # (width(t) - width(r)) / (t - r)
    return -m + ratio * (z - (1 - t) * m) / width(t, s)


def times(rows, seed=0):
    """r <= t (rows,) each, r = t in the first half."""
    r, t = torch.rand(2, rows, generator=seeded(seed)).double().sort(0).values
    return torch.where(torch.arange(rows) < rows // 2, t, r), t


@pytest.mark.parametrize(("m", "s"), [(0.7, 0.5), (-1.0, 2.0), (0.3, 1e-3)])
def test_the_mean_velocity_of_a_gaussian_satisfies_it(m, s):
    z, (r, t) = normal(200, 2, 3).double(), times(200)
    v = mean_velocity(z, t, t, m, s)
    target = identity(lambda z, r, t: mean_velocity(z, r, t, m, s), z, r, t, v)
    torch.testing.assert_close(target, mean_velocity(z, r, t, m, s), rtol=0, atol=1e-5)
    assert not torch.allclose(target[100:], v[100:], atol=0.01)  # which flow matching would say


def test_one_call_carries_noise_to_the_data_of_a_gaussian():
    z, one = normal(100, 1, 3).double(), torch.ones(100).double()
    plans = z - mean_velocity(z, 0 * one, one, 0.7, 0.5)
    torch.testing.assert_close(plans, 0.7 + 0.5 * z)


class PointMass(torch.nn.Module):
    """u = (z - m) / t, whatever r: all data lie at m."""

    def forward(self, z, k, context, until):
        return (z - context[:, None, :1]) / (k / K_STEPS)[:, None, None]


@pytest.mark.parametrize("settings", [{}, {"power": 0.0, "share": 1.0}, {"first_action_weight": 5.0}])
def test_a_point_mass_has_no_loss_and_is_reached_in_one_call(settings):
    planner = make(**settings).double()
    planner.network = PointMass()
    context = normal(64, C, seed=3).double()
    plans = torch.where(planner.fixed, normal(64, 4, D).double(), context[:, None, :1])
    losses = planner.training_step({"plans": plans, "context": context}, seeded())
    assert losses["error"] < 1e-5**2
    assert losses["loss"] < 1e-5
    prior = torch.where(planner.fixed, plans, normal(64, 4, D, seed=9).double())
    torch.testing.assert_close(planner.sample(prior, context), plans)
    planner.network.forward = lambda z, k, context, until: (
        1.01 * PointMass.forward(planner.network, z, k, context, until)
    )
    assert planner.training_step({"plans": plans, "context": context}, seeded())["error"] > 1e-3


# ---- the loss ----


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_its_derivative_is_that_of_a_finite_difference(network):
    planner, context = make(network=network).double(), normal(8, C, seed=3).double()
    z, v, (r, t) = normal(8, 4, D).double(), normal(8, 4, D, seed=1).double(), times(8)

    def u(z, r, t):
        return planner.velocity(z, r, t, context)

    with torch.no_grad():
        slope = (u(z + 1e-6 * v, r, t + 1e-6) - u(z - 1e-6 * v, r, t - 1e-6)) / 2e-6
        torch.testing.assert_close(identity(u, z, r, t, v), v - (t - r)[:, None, None] * slope, rtol=1e-5, atol=1e-6)


def test_the_loss_is_that_of_the_paper():
    planner, batch = make(share=0.5, first_action_weight=3.0), make_batch()
    got = planner.training_step(batch, seeded(5))
    g = seeded(5)
    r, t = planner._times(32, g, torch.device("cpu"))
    v = (torch.randn(32, 4, D, generator=g) - batch["plans"]) * ~planner.fixed
    z = batch["plans"] + t[:, None, None] * v
    target = identity(lambda z, r, t: planner.velocity(z, r, t, batch["context"]), z, r, t, v)
    error = planner.velocity(z, r, t, batch["context"]) - target
    square = (planner.loss_weight * error.square()).sum((1, 2))
    torch.testing.assert_close(got["error"], square.mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(got["loss"], (square / (square + 1e-3) ** 0.75).mean(), rtol=1e-5, atol=0)


def test_times_are_logit_normal_and_the_share_of_rows_moves():
    planner = make(share=0.25, time_mean=-0.4, time_std=1.0)
    r, t = planner._times(100_000, seeded(), torch.device("cpu"))
    assert (r[:25_000] < t[:25_000]).all()
    assert torch.equal(r[25_000:], t[25_000:])
    logits = torch.cat((r[:25_000], t[:25_000])).double().logit()
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((-0.4, 1.0), abs=0.02)


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("observed", [True, False])
def test_known_entries_come_back_bit_for_bit_are_never_noised_and_weigh_nothing(network, observed):
    planner, seen, outputs = make(network=network, observed=observed), [], []
    fixed = planner.fixed

    def keep(module, args, output):
        seen.append(args[0])
        outputs.append(output)

    planner.network.register_forward_hook(keep)
    prior = normal(32, 4, D)
    prior[0, 0, :O] = -0.0
    plans = planner.sample(prior, normal(1, C))
    assert torch.equal(plans[:, fixed].view(torch.int32), prior[:, fixed].view(torch.int32))
    assert len(seen) == planner.nfe == 1
    torch.testing.assert_close(plans[:, ~fixed], (prior - outputs[0])[:, ~fixed])
    batch = make_batch()
    losses = planner.training_step(batch, seeded())
    assert torch.equal(seen[-1][:, fixed], batch["plans"][:, fixed])
    outputs[-1].retain_grad()
    losses["loss"].backward()
    assert not outputs[-1].grad[:, fixed].any()
    assert outputs[-1].grad[:, ~fixed].any(0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in planner.parameters())


def test_it_trains_where_the_rest_is_in_bfloat16(tmp_path):
    planner, batch = make(), make_batch(96)
    with torch.autocast("cpu", torch.bfloat16):
        loss = planner.training_step(batch, seeded())["loss"]
    assert loss == planner.training_step(batch, seeded())["loss"]
    config = TrainConfig(5, 32, 1e-2, precision="bf16-mixed", accelerator="cpu")
    ema, _ = train(planner, batch, config, tmp_path, title="meanflow", identity={})
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in ema.parameters())


# ---- what it learns ----


@pytest.mark.slow
def test_one_call_keeps_both_modes(tmp_path):
    torch.manual_seed(0)
    planner = MeanFlowPlanner(MeanFlowConfig(width=32, blocks=1), spec_of(torch.zeros(1, 1, dtype=torch.bool), 1))
    side = torch.where(normal(2048, 1, 1) > 0, 1.0, -1.0)
    training = TrainConfig(400, 128, 3e-3, warmup=50, ema_decay=0.98, precision="32-true", accelerator="cpu")
    data = {"plans": side + 0.1 * normal(2048, 1, 1, seed=1), "context": torch.ones(2048, 1)}
    ema, _ = train(planner, data, training, tmp_path, title="meanflow", identity={})
    plans = ema.sample(normal(2000, 1, 1, seed=4), torch.ones(1, 1)).flatten()
    near = (plans.abs() - 1).abs() < 0.4
    assert near.float().mean() > 0.75
    assert 0.25 < (plans[near] > 0).float().mean() < 0.75


def test_config_and_weights_survive_json_and_a_new_object():
    planner = make(network="unet")
    config = MeanFlowConfig(**json.loads(json.dumps(asdict(planner.config))))
    again = MeanFlowPlanner(config, spec_of(known(4), C, O))
    again.load_state_dict(planner.state_dict())
    prior, context = normal(3, 4, D), normal(3, C, seed=1)
    assert torch.equal(planner.sample(prior, context), again.sample(prior, context))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"share": 1.5}, "share"), ({"time_std": 0.0}, "time_std"), ({"power": -1.0}, "power"),
     ({"offset": 0.0}, "offset"), ({"first_action_weight": 0.0}, "first_action_weight"),
     ({"network": "cnn"}, "there are mlp, unet")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)
