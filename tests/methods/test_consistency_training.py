"""Consistency students in the optimisation loop, and what they learn."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from consistency_students import make, make_batch, make_teacher, normal, seeded
from onestride.methods.consistency import (
    KINDS,
    ConsistencyConfig,
    ConsistencyStudent,
)
from onestride.methods.edm import EDMConfig, EDMPlanner
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from onestride.training.state import STATE
from plan_specs import spec_of

TRAINING = TrainConfig(60, 32, 1e-2, warmup=5, ema_decay=0.9, precision="32-true", accelerator="cpu")


# ---- the optimisation loop ----


@pytest.mark.parametrize("method", [*KINDS, "edm"])
def test_killed_and_resumed_ends_with_the_same_bits(method, tmp_path, monkeypatch):
    start = make_teacher() if method == "edm" else make(method, curriculum_steps=60)
    data, config = make_batch(96), replace(TRAINING, checkpoint_every=0.0)

    def run(model, folder):
        return train(model, data, config, folder, title=method, identity={})[0]

    whole, killed, resumed = (copy.deepcopy(start) for _ in range(3))
    whole_ema = run(whole, tmp_path / "whole")
    calls, step = 0, type(start).training_step

    def dies(self, batch, generator):
        nonlocal calls
        calls += 1
        if calls == 56:
            raise KeyboardInterrupt
        return step(self, batch, generator)

    with monkeypatch.context() as patched:
        patched.setattr(type(start), "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(killed, tmp_path / "killed")
    assert (tmp_path / "killed" / STATE).is_file()
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)
    resumed_ema = run(resumed, tmp_path / "killed")
    for a, b in ((whole, resumed), (whole_ema, resumed_ema)):
        a, b = a.state_dict(), b.state_dict()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
    if method != "edm":
        assert whole.step.item() == resumed.step.item() == 60


@pytest.mark.parametrize("method", KINDS)
def test_it_trains_where_the_rest_is_in_bfloat16(method, tmp_path):
    config = replace(TRAINING, steps=5, precision="bf16-mixed")
    student = make(method)
    ema, _ = train(student, make_batch(96), config, tmp_path, title=method, identity={})
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in ema.parameters())


# ---- what they learn: a ~ N(0.6 o, 0.4^2) beside b at -1 or 1, each N(+-1, 0.1^2) ----

TOY_FIXED = torch.tensor([[True, False, False]])


def toy_plans(count=4096):
    g = seeded()
    o, a, b = torch.randn(3, count, 1, generator=g)
    side = torch.where(torch.rand(count, 1, generator=g) < 0.5, -1.0, 1.0)
    return torch.stack((o, 0.6 * o + 0.4 * a, side + 0.1 * b), -1)  # (M, 1, 3)


class ToyTeacher(EDMPlanner):
    """The exact denoiser of the toy."""

    def denoise(self, x, sigma, context):
        o, a, b = x.unbind(-1)
        sigma = sigma.flatten(1) if isinstance(sigma, torch.Tensor) else sigma
        a = 0.6 * o + 0.16 / (0.16 + sigma**2) * (a - 0.6 * o)
        side = torch.tanh(b / (0.01 + sigma**2))
        b = side + 0.01 / (0.01 + sigma**2) * (b - side)
        return torch.stack((o, a, b), -1)


def test_the_toys_denoiser_is_exact():
    """Against the posterior mean over samples of the data."""
    plans, x = toy_plans(200_000)[:, 0, 2], torch.tensor([-0.7, 0.1, 2.0])
    weight = torch.softmax(-((x[:, None] - plans) ** 2) / (2 * 0.8**2), 1)
    rows = torch.stack((torch.zeros(3), torch.zeros(3), x), -1)[:, None]
    exact = ToyTeacher(EDMConfig(width=8, blocks=1), spec_of(TOY_FIXED, 1, 1)).denoise(rows, 0.8, None)[:, 0, 2]
    torch.testing.assert_close(exact, weight @ plans, rtol=0, atol=0.01)


def train_toy(student, steps, folder):
    config = TrainConfig(steps, 256, 2e-3, warmup=50, ema_decay=0.99, precision="32-true", accelerator="cpu")
    data = {"plans": toy_plans(), "context": torch.ones(4096, 1)}
    ema, _ = train(student, data, config, folder, title="toy", identity={})
    prior = normal(4000, 1, 3, seed=9)
    return prior, ema.sample(prior, torch.ones(1, 1)).detach()


def statistics(plans):
    """Slope of a on o, spread of a around it, share of b within 0.3 of a side, share of the right one among them."""
    o, a, b = plans.flatten(1).T
    slope = (a * o).mean() / o.square().mean()
    near = (b.abs() - 1).abs() < 0.3
    numbers = (slope, (a - slope * o).std(), near.float().mean(), (b[near] > 0).float().mean())
    return tuple(x.item() for x in numbers)


@pytest.mark.slow
def test_ct_learns_spread_and_modes_without_a_teacher(tmp_path):
    torch.manual_seed(0)
    config = ConsistencyConfig(method="ct", width=64, blocks=2, curriculum_steps=1000)
    _, plans = train_toy(ConsistencyStudent(config, spec_of(TOY_FIXED, 1, 1)), 1000, tmp_path)
    slope, spread, near, right = statistics(plans)
    assert slope == pytest.approx(0.6, abs=0.06)
    assert spread == pytest.approx(0.4, abs=0.06)
    assert near > 0.8
    assert 0.35 < right < 0.65


@pytest.mark.slow
def test_cd_learns_its_teachers_map_noise_by_noise(tmp_path):
    torch.manual_seed(0)
    student = ConsistencyStudent(ConsistencyConfig(method="cd", width=64, blocks=2), spec_of(TOY_FIXED, 1, 1))
    teacher = ToyTeacher(EDMConfig(width=64, blocks=2), spec_of(TOY_FIXED, 1, 1))
    student.distil(teacher)
    prior, plans = train_toy(student, 800, tmp_path)
    expected = teacher.sample(prior, None)
    off_o, off_a, off_b = (plans - expected).square().mean((0, 1)).sqrt().tolist()
    assert (off_o, off_a < 0.1, off_b < 0.16) == (0.0, True, True)  # with target_decay = 0: 0.2 and 0.4
    got, wanted = statistics(plans), statistics(expected)
    assert got[:2] == pytest.approx(wanted[:2], abs=0.04)
    assert got[2] > 0.85
    assert got[3] == pytest.approx(wanted[3], abs=0.04)
