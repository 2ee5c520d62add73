"""Consistency Policy: its boundary, both losses where the teacher's path is known, chaining, and two modes kept."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from onestride.methods.consistency import pseudo_huber
from onestride.methods.consistency_policy import CP, ConsistencyPolicy, ConsistencyPolicyConfig
from onestride.methods.edm import EDMConfig, EDMPlanner, heun_step
from onestride.training.config import TrainConfig
from onestride.training.loop import train
from plan_specs import spec_of

O, A, C = 2, 3, 4  # noqa: E741
D = O + A
SMALL = ConsistencyPolicyConfig(width=16, blocks=1)
TINY = {"width": 16, "blocks": 1}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def known(rows=4, observed=True):
    mask = torch.zeros(rows, D, dtype=torch.bool)
    mask[0, :O] = observed
    return mask


def moved(module):
    """Past the zeros that some layers start with."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=i))
    return module


def make_teacher(observed=True, **settings):
    torch.manual_seed(0)
    return moved(EDMPlanner(EDMConfig(**TINY | settings), spec_of(known(4, observed), C, O)))


def make(observed=True, **settings):
    torch.manual_seed(0)
    student = ConsistencyPolicy(replace(SMALL, **settings), spec_of(known(4, observed), C, O))
    student.distil(make_teacher(observed))
    moved(student.f)
    return student


def make_batch(rows=32):
    return {"plans": normal(rows, 4, D, seed=2), "context": normal(rows, C, seed=3)}


# ---- the jump ----


@pytest.mark.parametrize("sigma", [0.02, 0.3, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_jump_to_its_own_level_is_the_input_exactly(sigma, dtype):
    student, x, context = make().to(dtype), 3 * normal(8, 4, D).to(dtype), normal(8, C).to(dtype)
    assert torch.equal(student.jump(student.f, x, sigma, sigma, context), x)
    each = torch.full((8, 1, 1), sigma, dtype=dtype)
    assert torch.equal(student.jump(student.f, x, each, each, context), x)
    assert not torch.equal(student.jump(student.f, x, 2 * sigma, sigma, context), x)


def test_where_it_jumps_to_reaches_the_network_and_starts_as_the_teachers_own_step():
    fresh = ConsistencyPolicy(SMALL, spec_of(known(), C, O))
    fresh.distil(make_teacher())
    x, context = normal(8, 4, D), normal(8, C)
    torch.testing.assert_close(fresh.f(x, 3.0, context, 0.5), fresh.f(x, 3.0, context, 0.02), rtol=0, atol=0)
    trained = make()
    assert not torch.equal(trained.f(x, 3.0, context, 0.5), trained.f(x, 3.0, context, 0.02))
    assert set(fresh.state_dict()) == set(trained.state_dict())
    assert not any("teacher" in name for name in fresh.state_dict())


class Exact(torch.nn.Module):
    """g of the path of data N(0, s^2): x keeps its quantile, x_s = x_t sqrt((s^2 + s_s^2) / (s^2 + s_t^2))."""

    def __init__(self, s, scale=1.0):
        super().__init__()
        self.s, self.scale = s, scale

    def forward(self, x, sigma, context, until):
        sigma, until = (torch.as_tensor(level, dtype=x.dtype) for level in (sigma, until))
        wide, kept = self.s**2 + sigma**2, until / sigma
        there = ((self.s**2 + until**2) / wide).sqrt()
        same = kept == 1
        jump = (there - kept) / torch.where(same, torch.ones_like(kept), 1 - kept)
        return self.scale * x * torch.where(same, self.s**2 / wide, jump)


class ExactTeacher(EDMPlanner):
    def denoise(self, x, sigma, context):
        return 0.25 / (0.25 + sigma**2) * x


def gaussian(scale=1.0, **settings):
    spec = spec_of(torch.zeros(2, 3, dtype=torch.bool), 1)
    student = ConsistencyPolicy(replace(SMALL, **settings), spec).double()
    student.distil(ExactTeacher(EDMConfig(**TINY), spec).double())
    student.f = student.target = Exact(0.5, scale)
    student.follow = lambda: None
    return student, {"plans": 0.5 * normal(4096, 2, 3).double(), "context": torch.ones(4096, 1).double()}


def test_on_a_gaussian_the_teachers_path_has_no_consistency_loss_but_that_of_its_heun_steps():
    losses = []
    for levels in (80, 160, 320):
        student, batch = gaussian(levels=levels, huber=10.0)  # quadratic
        losses.append(student.training_step(batch, seeded(1))["consistency"].item())
    assert losses[0] < 1e-7
    steps = [math.log2(a / b) for a, b in pairwise(losses)]
    assert all(5.5 < step < 6.5 for step in steps)  # squares of third order in a step
    wrong, batch = gaussian(1.02, levels=320, huber=10.0)
    assert wrong.training_step(batch, seeded(1))["consistency"].item() > 100 * losses[-1]


def test_on_a_gaussian_the_score_loss_is_least_at_the_teachers_path_and_not_where_it_asks_for_plans():
    def score(scale, until):
        student, batch = gaussian(scale, score_until=until)
        return student.training_step(batch, seeded(1))["score"].item()

    exact = score(1.0, "same")
    assert exact < min(score(0.98, "same"), score(1.02, "same"))
    assert score(0.9, "lowest") < score(1.0, "lowest")  # plans are drawn to the mean of the data


def test_on_a_gaussian_one_call_and_three_reach_the_data():
    for steps in (1, 3):
        student, _ = gaussian(steps=steps)
        plans = student.sample(normal(100_000, 2, 3).double(), torch.ones(1, 1), generator=seeded(4))
        assert plans.std().item() == pytest.approx(0.5, rel=0.01)


# ---- the losses ----


@pytest.mark.parametrize("until", ["same", "lowest"])
def test_the_losses_are_those_of_the_paper(until):
    student, batch = make(score_until=until, consistency_weight=2.0, score_weight=0.5, target_decay=0.95), make_batch()
    before, teacher, context = copy.deepcopy(student.target), make_teacher(), batch["context"]
    got = student.training_step(batch, seeded(5))
    for average, old, new in zip(student.target.parameters(), before.parameters(), student.f.parameters(), strict=True):
        torch.testing.assert_close(average, 0.95 * old + 0.05 * new)
    g = seeded(5)
    t, u, s = student._levels(32, g, torch.device("cpu"))
    x = batch["plans"] + t * torch.randn(32, 4, D, generator=g) * ~student.fixed
    below = heun_step(lambda x, sigma: teacher.denoise(x, sigma, context), x, t, u)
    said = student.jump(student.target, student.jump(student.f, x, t, s, context), s, 0.02, context)
    wanted = student.jump(student.target, student.jump(student.target, below, u, s, context), s, 0.02, context)
    free = 4 * D - O
    consistency = pseudo_huber(said - wanted, student.loss_weight, 0.00054 * math.sqrt(free)).mean() / math.sqrt(free)
    torch.testing.assert_close(got["consistency"], consistency, rtol=1e-4, atol=0)
    t = (80 ** (1 / 7) + 0.7 * torch.rand(32, 1, 1, generator=g) * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    x = batch["plans"] + t * torch.randn(32, 4, D, generator=g) * ~student.fixed
    said = student.f(x, t, context, t) if until == "same" else student.jump(student.f, x, t, 0.02, context)
    score = ((t**2 + 1) / t**2 * student.loss_weight * (said - batch["plans"]).square()).sum() / (32 * free)
    torch.testing.assert_close(got["score"], score, rtol=1e-4, atol=0)
    torch.testing.assert_close(got["loss"], 2 * consistency + 0.5 * score, rtol=1e-4, atol=0)


def test_levels_are_neighbours_and_the_third_is_at_or_below_them():
    student = make()
    grid = torch.tensor(student.config.grid(80))
    t, u, s = (e.flatten() for e in student._levels(50_000, seeded(), torch.device("cpu")))
    i, j, k = (torch.bucketize(-e, -grid) for e in (t, u, s))
    assert torch.equal(j, i + 1)
    assert (k >= j).all()
    assert set(k.tolist()) == set(range(1, 80))
    assert (torch.bincount(i, minlength=79) - 50_000 / 79).abs().max() < 130
    assert (k[i == 40] - 41).double().mean().item() == pytest.approx(38 / 2, abs=2.5)


def test_gradients_pass_through_the_second_jump_but_teach_f_alone():
    student = make(score_weight=0.0)
    student.training_step(make_batch(), seeded())["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.f.parameters())
    assert all(p.is_leaf and p.grad is None for p in student.target.parameters())
    assert any(p.grad.any() for p in student.f.network.until.parameters())


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("observed", [True, False])
def test_known_entries_come_back_bit_for_bit_and_are_never_noised(steps, observed):
    student, seen = make(observed, steps=steps), []
    fixed = student.fixed
    student.f.network.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, fixed]))
    prior = 3 * normal(32, 4, D)
    plans = student.sample(prior, normal(1, C), generator=seeded())
    assert torch.equal(plans[:, fixed], prior[:, fixed])
    assert len(seen) == student.nfe == steps
    student.training_step({"plans": prior, "context": normal(32, C)}, seeded())
    assert all(torch.equal(x, prior[:, fixed]) for x in seen)


def test_three_calls_go_back_to_the_27th_and_the_54th_of_80_levels():
    grid = SMALL.grid(80)
    assert SMALL.chain == []
    assert replace(SMALL, steps=3).chain == [grid[27], grid[54]]
    student, prior = make(steps=3), normal(16, 4, D)
    plans = student.sample(prior, normal(1, C), generator=seeded(1))
    assert torch.equal(plans, student.sample(prior, normal(1, C), generator=seeded(1)))
    assert not torch.equal(plans, student.sample(prior, normal(1, C), generator=seeded(2)))


def test_it_trains_where_the_rest_is_in_bfloat16(tmp_path):
    config = TrainConfig(5, 32, 1e-2, precision="bf16-mixed", accelerator="cpu")
    ema, _ = train(make(), make_batch(96), config, tmp_path, title="cp", identity={})
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in ema.parameters())


# ---- what it learns ----


class TwoModes(EDMPlanner):
    """The exact denoiser of data at -1 and 1, N(+-1, 0.2^2) each."""

    def denoise(self, x, sigma, context):
        side = torch.tanh(x / (0.04 + sigma**2))
        return side + 0.04 / (0.04 + sigma**2) * (x - side)


@pytest.mark.slow
def test_one_call_keeps_both_modes_of_its_teacher(tmp_path):
    torch.manual_seed(0)
    spec, size = spec_of(torch.zeros(1, 1, dtype=torch.bool), 1), {"width": 32, "blocks": 1}
    student = ConsistencyPolicy(ConsistencyPolicyConfig(levels=12, target_decay=0.95, **size), spec)
    teacher = TwoModes(EDMConfig(**size), spec)
    student.distil(teacher)
    side = torch.where(normal(2048, 1, 1) > 0, 1.0, -1.0)
    data = {"plans": side + 0.2 * normal(2048, 1, 1, seed=1), "context": torch.ones(2048, 1)}
    training = TrainConfig(400, 128, 4e-3, warmup=50, ema_decay=0.98, precision="32-true", accelerator="cpu")
    ema, _ = train(student, data, training, tmp_path, title="cp", identity={})
    prior = normal(2000, 1, 1, seed=4)
    plans, wanted = ema.sample(prior, torch.ones(1, 1)).flatten(), teacher.sample(prior, None).flatten()
    assert ((plans.abs() - 1).abs() < 0.5).float().mean() > 0.6  # none by the score loss of the authors' code
    assert ((plans > 0) == (wanted > 0)).float().mean() > 0.95


# ---- settings ----


def test_it_learns_from_the_edm_teacher_of_the_run_and_nothing_else_fits():
    assert (CP.teacher, CP.needs) == ("edm", "windows")
    student = ConsistencyPolicy(SMALL, spec_of(known(), C, O))
    with pytest.raises(ValueError, match="call distil"):
        student.training_step(make_batch(), seeded())
    for change in ({"width": 32}, {"blocks": 2}, {"sigma_data": 0.5}):
        with pytest.raises(ValueError, match=next(iter(change))):
            student.distil(make_teacher(**change))
    with pytest.raises(ValueError, match="fixed entries"):
        student.distil(make_teacher(observed=False))


def test_config_and_weights_survive_json_and_a_new_object():
    student = make(steps=3)
    config = ConsistencyPolicyConfig(**json.loads(json.dumps(asdict(student.config))))
    assert config == student.config
    again = ConsistencyPolicy(config, spec_of(known(), C, O))  # no teacher is needed to use it
    again.load_state_dict(student.state_dict())
    prior, context = normal(3, 4, D), normal(3, C, seed=1)
    found, wanted = (each.sample(prior, context, generator=seeded()) for each in (again, student))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"steps": 0}, "1 <= steps"), ({"levels": 1}, "levels"), ({"steps": 80}, "steps < levels"),
     ({"score_until": "ever"}, "there are same, lowest"), ({"target_decay": 1.0}, "target_decay"),
     ({"score_share": 0.0}, "score_share"), ({"huber": 0.0}, "huber"), ({"score_weight": -1.0}, "no negative weight"),
     ({"sigma_min": 90.0}, "sigma_min")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)
