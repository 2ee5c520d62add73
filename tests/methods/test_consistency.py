"""Consistency students: the boundary, the curriculum and the loss by the numbers; what ct and cd reach on a toy."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from consistency_students import SMALL, A, C, D, O, make, make_batch, make_teacher, mask, moved, normal, seeded
from onestride.methods.consistency import (
    KINDS,
    ConsistencyConfig,
    ConsistencyStudent,
    curriculum,
    pseudo_huber,
)
from onestride.methods.edm import EDMConfig, EDMPlanner, heun_step
from plan_specs import spec_of

# ---- the boundary ----


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("levels", [{}, {"sigma_min": 0.02, "sigma_data": 0.5}, {"sigma_data": 0.7}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_lowest_level_the_output_is_the_input(method, levels, dtype):
    torch.manual_seed(0)
    student = ConsistencyStudent(replace(SMALL, method=method, **levels), spec_of(mask(4), C, O))
    student = moved(student).to(dtype)
    x, context = 3 * normal(8, 4, D, dtype=dtype), normal(8, C, dtype=dtype)
    sigma = student.config.sigma_min
    assert torch.equal(student.f(x, sigma, context), x)
    assert torch.equal(student.f(x, torch.full((8, 1, 1), sigma, dtype=dtype), context), x)
    assert not torch.equal(student.f(x, 2 * sigma, context), x)


def test_the_lowest_level_of_every_grid_is_the_boundary():
    for student in (make("ct", curriculum_steps=1), make("ct"), make("cd")):
        sigma, lower = student._neighbours(20_000, seeded(), torch.device("cpu"))
        assert lower.min() == torch.tensor(0.002)
        assert (sigma > lower).all()
        assert sigma.max().item() <= 80.001


# ---- fixed entries ----


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("horizon", [1, 4])
def test_fixed_entries_come_back_bit_for_bit_and_are_never_noised(method, horizon):
    student, fixed, seen = make(method, horizon), mask(horizon), []
    networks = [student.f]
    if student.target is not None:
        networks += [student.target, student._teacher.value.denoiser]
    for network in networks:
        network.network.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, fixed]))
    prior = 3 * normal(32, horizon, D)
    plans = student.sample(prior, normal(1, C), generator=seeded())
    assert len(seen) == student.nfe == 1
    assert plans.shape == prior.shape
    assert torch.equal(plans[:, fixed], prior[:, fixed])
    student.training_step({"plans": prior, "context": normal(32, C)}, seeded())
    assert len(seen) == 1 + (2 if method == "ct" else 4)
    assert all(torch.equal(x, prior[:, fixed]) for x in seen)


@pytest.mark.parametrize("method", KINDS)
def test_fixed_entries_weigh_nothing(method):
    student, outputs = make(method), []

    def keep(module, args, output):
        if output.requires_grad:
            output.retain_grad()
            outputs.append(output)

    student.f.network.register_forward_hook(keep)
    student.training_step(make_batch(), seeded())["loss"].backward()
    (output,) = outputs  # one side learns, the other is a target
    assert not output.grad[:, student.fixed].any()
    assert output.grad[:, ~student.fixed].any(0).all()


def test_the_first_actions_weight_leaves_the_mean_of_the_weights_alone():
    weight = make(first_action_weight=10.0).loss_weight
    assert weight[0, :O].tolist() == [0.0] * O
    assert (weight[0, O:] / weight[1, 0]).tolist() == pytest.approx([10.0] * A)
    assert weight[~mask(4)].mean().item() == pytest.approx(1)
    assert torch.equal(make().loss_weight, (~mask(4)).float())


# ---- the curriculum and its levels ----


def test_the_curriculum_doubles_at_even_distances_and_does_not_jump_at_its_second_step():
    config = replace(SMALL, curriculum_steps=8000)
    steps = torch.tensor([0, 1, 2, 999, 1000, 1999, 2000, 3000, 4000, 5000, 6000, 6999, 7000, 7999, 8000, 10**6])
    n = [10, 10, 10, 10, 20, 20, 40, 80, 160, 320, 640, 640, 1280, 1280, 1280, 1280]
    assert curriculum(steps, config).tolist() == n


@pytest.mark.parametrize(("s0", "s1", "total"), [(10, 1280, 5), (10, 1280, 1001), (2, 150, 997), (3, 3, 10)])
def test_any_curriculum_starts_at_s0_never_falls_and_ends_at_s1(s0, s1, total):
    n = curriculum(torch.arange(3 * total + 20), replace(SMALL, s0=s0, s1=s1, curriculum_steps=total)).tolist()
    assert (n[0], n[-1]) == (s0, s1)
    assert n == sorted(n)
    assert all(b in (a, min(2 * a, s1)) for a, b in pairwise(n))


def test_a_training_step_counts_and_the_count_is_kept_with_the_weights():
    student = make()
    for expected in (1, 2, 3):
        student.training_step(make_batch(), seeded())
        assert student.step.item() == expected
    again = make()
    again.load_state_dict(student.state_dict())
    assert again.step.item() == 3


@pytest.mark.parametrize("step", [0, 1250])
def test_levels_are_drawn_from_the_discretised_lognormal(step):
    """Against the table of Song & Dhariwal 2023, section 3.5, in float64."""
    student, count = make(curriculum_steps=10_000), 200_000
    student.step.fill_(step)
    n = 10 if step == 0 else 20
    grid = torch.tensor([(0.002 ** (1 / 7) + i / n * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7 for i in range(n + 1)])
    grid = grid.double()
    cdf = torch.erf((grid.log() + 1.1) / (2.0 * math.sqrt(2)))
    expected = cdf.diff() / cdf.diff().sum()
    sigma, lower = student._neighbours(count, seeded(), torch.device("cpu"))
    i = torch.searchsorted(grid, lower.flatten().double() * (1 + 1e-4)) - 1
    torch.testing.assert_close(lower.flatten().double(), grid[i], rtol=1e-5, atol=0)
    torch.testing.assert_close(sigma.flatten().double(), grid[i + 1], rtol=1e-5, atol=0)
    share = torch.bincount(i, minlength=n).double() / count
    assert ((share - expected).abs() < 5 * (expected / count).sqrt() + 1e-6).all()


def test_cd_draws_the_intervals_of_the_teachers_grid_evenly():
    student = make("cd")
    grid = torch.tensor(student.config.grid(18)[::-1])
    sigma, lower = student._neighbours(17_000, seeded(), torch.device("cpu"))
    i = torch.searchsorted(grid, lower.flatten() * (1 + 1e-4)) - 1
    torch.testing.assert_close(lower.flatten(), grid[i], rtol=1e-5, atol=0)
    torch.testing.assert_close(sigma.flatten(), grid[i + 1], rtol=1e-5, atol=0)
    assert (torch.bincount(i, minlength=17) - 1000).abs().max() < 160


# ---- the losses ----


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 100.0])
def test_pseudo_huber_is_its_definition_in_float64(size):
    error, weight = size * normal(50, 4, D), 1 + torch.rand(4, D, generator=seeded(4))
    c = 0.00054 * math.sqrt(4 * D)
    square = (weight.double() * error.double() ** 2).flatten(1).sum(1)
    expected = (square + c**2).sqrt() - c
    torch.testing.assert_close(pseudo_huber(error, weight, c).double(), expected, rtol=1e-5, atol=1e-17)


def test_no_error_has_no_gradient():
    error = torch.zeros(3, 4, D, requires_grad=True)
    pseudo_huber(error, torch.ones(4, D), 0.001).sum().backward()
    assert torch.equal(error.grad, torch.zeros_like(error))


def test_c_grows_with_the_free_entries_alone():
    assert make().c == pytest.approx(0.00054 * math.sqrt(4 * D - O))
    assert make(horizon=1).c == pytest.approx(0.00054 * math.sqrt(A))


def test_the_loss_of_ct_is_that_of_the_paper():
    student, batch = make(), make_batch()
    loss = student.training_step(batch, seeded(5))["loss"]
    student.step.zero_()
    g = seeded(5)
    sigma, lower = student._neighbours(32, g, torch.device("cpu"))
    eps = torch.randn(32, 4, D, generator=g) * ~student.fixed
    high = student.f(batch["plans"] + sigma * eps, sigma, batch["context"])
    low = student.f(batch["plans"] + lower * eps, lower, batch["context"])
    square = (high - low).double().square().flatten(1).sum(1)
    expected = ((square + student.c**2).sqrt() - student.c) / (sigma - lower).double().flatten()
    torch.testing.assert_close(loss.double(), expected.mean(), rtol=1e-4, atol=0)


def test_the_loss_of_cd_is_that_of_the_paper():
    student, batch = make("cd"), make_batch()
    teacher, before = make_teacher(), copy.deepcopy(student.target)
    with torch.no_grad():
        moved(student.f)
    loss = student.training_step(batch, seeded(5))["loss"]
    g = seeded(5)
    sigma, lower = student._neighbours(32, g, torch.device("cpu"))
    x = batch["plans"] + sigma * torch.randn(32, 4, D, generator=g) * ~student.fixed
    below = heun_step(lambda x, s: teacher.denoise(x, s, batch["context"]), x, sigma, lower)
    for average, old, new in zip(student.target.parameters(), before.parameters(), student.f.parameters(), strict=True):
        torch.testing.assert_close(average, 0.95 * old + 0.05 * new)
    error = student.f(x, sigma, batch["context"]) - student.target(below, lower, batch["context"])
    expected = error.square().sum() / (32 * 4 * D)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", KINDS)
def test_an_action_level_policy_without_context(method):
    student = ConsistencyStudent(replace(SMALL, method=method), spec_of(mask(1), 0, O))
    if method == "cd":
        student.distil(EDMPlanner(EDMConfig(width=16, blocks=1), spec_of(mask(1), 0, O)))
    plans = normal(8, 1, D)
    student.training_step({"plans": plans, "context": torch.zeros(8, 0)}, seeded())["loss"].backward()
    assert torch.equal(student.sample(plans, None), student.sample(plans, torch.zeros(1, 0)))


# ---- teacher and target ----


def test_the_student_starts_from_its_teacher_and_owns_no_part_of_it():
    teacher, student = make_teacher(), ConsistencyStudent(replace(SMALL, method="cd"), spec_of(mask(4), C, O))
    names = set(student.state_dict())
    student.distil(teacher)
    assert set(student.state_dict()) == names
    assert not any("teacher" in name for name in names)
    for network in (student.f, student.target):
        for a, b in zip(network.parameters(), teacher.denoiser.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()
    assert copy.deepcopy(student)._teacher.value is student._teacher.value
    assert all(p.requires_grad for p in teacher.parameters())  # the caller's is left alone
    before = {k: v.clone() for k, v in student._teacher.value.state_dict().items()}
    student.training_step(make_batch(), seeded())["loss"].backward()
    assert all(p.grad is None for p in (*student.target.parameters(), *student._teacher.value.parameters()))
    assert all(torch.equal(v, before[k]) for k, v in student._teacher.value.state_dict().items())


def test_ct_has_no_second_network():
    assert set(make().state_dict()) == {"step", *(name for name, _ in make().f.named_parameters(prefix="f"))}


def test_a_teacher_that_does_not_fit_is_refused():
    student = ConsistencyStudent(replace(SMALL, method="cd"), spec_of(mask(4), C, O))
    with pytest.raises(ValueError, match="call distil"):
        student.training_step(make_batch(), seeded())
    for change in ({"width": 32}, {"blocks": 2}, {"sigma_data": 0.5}):
        with pytest.raises(ValueError, match=next(iter(change))):
            student.distil(make_teacher(**change))
    with pytest.raises(ValueError, match="shapes"):
        student.distil(make_teacher(horizon=1))
    with pytest.raises(ValueError, match="no teacher"):
        make("ct").distil(make_teacher())


# ---- config ----


@pytest.mark.parametrize("method", KINDS)
def test_config_and_weights_survive_json_and_a_new_object(method):
    student = make(method, first_action_weight=3.0)
    config = ConsistencyConfig(**json.loads(json.dumps(asdict(student.config))))
    assert config == student.config
    again = ConsistencyStudent(config, spec_of(mask(4), C, O))  # no teacher is needed to use it
    again.load_state_dict(student.state_dict())
    prior, context = normal(3, 4, D), normal(3, C, seed=1)
    assert torch.equal(student.sample(prior, context), again.sample(prior, context))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"method": "ctm"}, "there are ct, cd"), ({"curriculum_steps": 0}, "curriculum_steps"), ({"s0": 0}, "s0"),
     ({"s0": 20, "s1": 10}, "s1"), ({"levels": 1}, "levels"), ({"p_std": 0.0}, "p_std"), ({"huber": 0.0}, "huber"),
     ({"target_decay": 1.0}, "target_decay"), ({"first_action_weight": 0.0}, "first_action_weight"),
     ({"sigma_min": 90.0}, "sigma_min"), ({"sigma_data": -1.0}, "sigma_data")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)
