"""The noise levels against published numbers, and the promises the samplers rest on."""

from __future__ import annotations

import itertools

import pytest
import torch

from onestride.diffusion.schedule import Schedule


def test_cosine_has_the_levels_of_the_teacher_that_dnk_names():
    schedule = Schedule.cosine(20)
    assert schedule.n_steps == 20
    assert (schedule.alpha[0], schedule.sigma[0]) == (1.0, 0.0)
    assert schedule.alpha[20] == pytest.approx(0.0084, abs=5e-5)
    assert schedule.alpha[19] == pytest.approx(0.0818, abs=1e-4)
    assert schedule.alpha[1] == pytest.approx(0.99998, abs=5e-6)
    assert schedule.sigma[1] == pytest.approx(0.0064, abs=5e-5)


@pytest.mark.parametrize(
    ("k", "alpha", "sigma"), [(3, 0.9983, 0.0579), (66, 0.5054, 0.8629), (96, 0.0623, 0.9981), (100, 0.0005, 1.0)]
)
def test_squared_cosine_has_the_levels_of_diffusion_policy(k, alpha, sigma):
    schedule = Schedule.squared_cosine(100)
    assert schedule.alpha[k] == pytest.approx(alpha, abs=5e-5)
    assert schedule.sigma[k] == pytest.approx(sigma, abs=5e-5)


@pytest.mark.parametrize("make", [Schedule.cosine, Schedule.squared_cosine])
@pytest.mark.parametrize("n_steps", [2, 5, 20, 185, 186, 1000])
def test_levels_preserve_variance_and_grow_noisier(make, n_steps):
    schedule = make(n_steps)
    assert len(schedule.alpha) == n_steps + 1
    for a, s in zip(schedule.alpha, schedule.sigma, strict=True):
        assert a**2 + s**2 == pytest.approx(1.0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(schedule.alpha))
    assert schedule.alpha[-1] > 0


@pytest.mark.parametrize("steps", range(1, 21))
def test_grid_runs_strictly_from_noise_to_data(steps):
    grid = Schedule.cosine(20).grid(steps)
    gaps = [k - j for k, j in itertools.pairwise(grid)]
    assert (len(grid), grid[0], grid[-1]) == (steps + 1, 20, 0)
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1  # as even as integers allow


@pytest.mark.parametrize("steps", [-1, 0, 21])
def test_grid_says_which_numbers_of_steps_there_are(steps):
    with pytest.raises(ValueError, match=r"1 \.\.\. 20"):
        Schedule.cosine(20).grid(steps)


def test_at_gathers_each_rows_level_in_the_plans_dtype():
    schedule, k = Schedule.cosine(20), torch.tensor([0, 7, 20])
    for dtype in (torch.float32, torch.float64):
        alpha, sigma = schedule.at(k, torch.zeros(3, 4, 2, dtype=dtype))
        assert alpha.shape == sigma.shape == (3, 1, 1)
        assert alpha.dtype == sigma.dtype == dtype
        assert alpha.flatten().tolist() == torch.tensor([schedule.alpha[i] for i in k], dtype=dtype).tolist()
        assert sigma.flatten().tolist() == torch.tensor([schedule.sigma[i] for i in k], dtype=dtype).tolist()


def test_levels_first_gathered_in_inference_mode_serve_training_later():
    schedule, k = Schedule.cosine(11), torch.tensor([3, 5])  # 11: a schedule no other test has gathered from
    with torch.inference_mode():
        schedule.at(k, torch.zeros(2, 1, 1))
    x = torch.ones(2, 1, 1, requires_grad=True)
    alpha, _ = schedule.at(k, x)
    (alpha * x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == alpha.flatten().tolist()


@pytest.mark.parametrize(
    ("alpha", "sigma", "message"),
    [
        ((1.0, 0.5), (0.0, 0.8, 0.9), "expected N\\+1"),
        ((0.9, 0.5), (0.1, 0.8), "k = 0 must be data"),
        ((1.0, 0.0), (0.0, 1.0), "positive"),
        ((1.0, 0.5, 0.5), (0.0, 0.8, 0.8), "k = 2"),
    ],
)
def test_levels_that_no_solver_could_use_are_refused(alpha, sigma, message):
    with pytest.raises(ValueError, match=message):
        Schedule(alpha, sigma)
