"""The solvers against diffusers, against closed forms on Gaussian data, and against their own contract."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from onestride.diffusion.samplers import SOLVERS, eps_from_x0, plan_steps, sample, x0_from_eps
from onestride.diffusion.schedule import Schedule

TEACHER = Schedule.cosine(20)
FREE = torch.zeros(1, 1, dtype=torch.bool)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def gaussian_denoiser(schedule, mean, variance):
    """E[x_0 | x_k] when the data is N(mean, variance) in every entry."""

    def denoise(x, k):
        a, s = schedule.alpha[k], schedule.sigma[k]
        return mean + a * variance * (x - a * mean) / (a**2 * variance + s**2)

    return denoise


def nonlinear_denoiser(x, k):
    """Smooth, mixes the entries, and depends on k: nothing a sampler could get right by luck."""
    d = x.shape[-1]
    mix = torch.linspace(-1, 1, d * d, dtype=x.dtype).view(d, d)
    return torch.tanh(x @ mix + 0.1 * k) + 0.3 * torch.sin(2 * x)


# ---- parity with diffusers, whose 0-based timestep t is our k - 1 ----


def diffusers_scheduler(solver):
    alpha_bar = torch.tensor(TEACHER.alpha, dtype=torch.float64)[1:] ** 2
    before = torch.tensor(TEACHER.alpha, dtype=torch.float64)[:-1] ** 2
    common = {
        "num_train_timesteps": TEACHER.n_steps,
        "trained_betas": (1 - alpha_bar / before).tolist(),
        "prediction_type": "sample",
    }
    if solver == "ddpm":
        scheduler = DDPMScheduler(**common, variance_type="fixed_small", clip_sample=False)
    elif solver == "ddim":
        scheduler = DDIMScheduler(**common, set_alpha_to_one=True, clip_sample=False, timestep_spacing="trailing")
    else:
        scheduler = DPMSolverMultistepScheduler(
            **common,
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            lower_order_final=True,
            final_sigmas_type="zero",
        )
    scheduler.alphas_cumprod = alpha_bar  # its own product is rounded to float32
    return scheduler


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with numpy 2
@pytest.mark.parametrize(
    ("solver", "steps"),
    # diffusers' DDIM takes evenly spaced indices only: 7 of 20 are not.
    [(solver, n) for solver in sorted(SOLVERS) for n in (20, 10, 7, 5, 2, 1) if (solver, n) != ("ddim", 7)],
)
def test_agrees_with_diffusers(solver, steps):
    dtype = torch.float32 if solver == "dpm++2m" else torch.float64  # its multistep scheduler works in float32
    prior = normal(6, 4, 3, dtype=dtype)
    scheduler = diffusers_scheduler(solver)
    if solver == "ddim":
        scheduler.set_timesteps(steps)
        kwargs = {"eta": 0.0}
    else:
        scheduler.set_timesteps(timesteps=[k - 1 for k in TEACHER.grid(steps)[:-1]])
        kwargs = {"generator": seeded(5)}
    assert [int(t) + 1 for t in scheduler.timesteps] == TEACHER.grid(steps)[:-1]
    expected = prior
    for t in scheduler.timesteps:
        expected = scheduler.step(nonlinear_denoiser(expected, int(t) + 1), t, expected, **kwargs).prev_sample

    got = sample(nonlinear_denoiser, prior, FREE.expand(4, 3), TEACHER, solver=solver, steps=steps, generator=seeded(5))

    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (got - prior).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("solver", "steps"), [("ddpm", 100), ("ddpm", 8), ("ddim", 100), ("ddim", 10), ("ddim", 7)])
@pytest.mark.parametrize("clip", [1.0, 0.5])
def test_diffusion_policys_sampling_agrees_with_diffusers(solver, steps, clip):
    """Squared-cosine schedule, noise predictions, clipped estimates, leading steps: as LeRobot sets its schedulers."""
    kind = DDPMScheduler if solver == "ddpm" else DDIMScheduler
    scheduler = kind(100, beta_schedule="squaredcos_cap_v2", clip_sample=True, clip_sample_range=clip)
    schedule = Schedule.squared_cosine(100)
    scheduler.alphas_cumprod = torch.tensor(schedule.alpha, dtype=torch.float64)[1:] ** 2
    scheduler.set_timesteps(steps)

    def noise_of(x, k):
        return torch.tanh(nonlinear_denoiser(x, k / 100)) + 0.5 * x

    prior = normal(6, 4, 3)
    generator, expected, kwargs = seeded(5), prior, {}
    if solver == "ddpm":
        kwargs["generator"] = generator
    for t in scheduler.timesteps:
        expected = scheduler.step(noise_of(expected, int(t) + 1), t, expected, **kwargs).prev_sample

    clipped = []

    def denoise(x, k):
        x0 = x0_from_eps(x, noise_of(x, k), schedule.alpha[k], schedule.sigma[k])
        clipped.append(bool((x0.abs() > clip).any()))
        return x0

    got = sample(denoise, prior, FREE.expand(4, 3), schedule, solver=solver, steps=steps, spacing="leading", clip=clip,
                 generator=seeded(5))  # fmt: skip
    assert len(clipped) == steps
    assert any(clipped)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


# ---- closed forms on Gaussian data ----


@pytest.mark.parametrize(
    ("variance", "published"), [(0.01, 0.0720), (0.1, 0.2826), (0.5, 0.6605), (1, 0.9382), (2, 1.3224), (4, 1.8497)]
)
def test_ddim_is_the_linear_map_of_the_closed_form(variance, published):
    """T-DNK-1: slope = prod (a_j a_k v + s_j s_k) / (a_k^2 v + s_k^2)."""
    a, s = TEACHER.alpha, TEACHER.sigma
    slope = math.prod(
        (a[k - 1] * a[k] * variance + s[k - 1] * s[k]) / (a[k] ** 2 * variance + s[k] ** 2) for k in range(1, 21)
    )
    denoise = gaussian_denoiser(TEACHER, 0.0, variance)
    x = normal(5, 4, 3)
    torch.testing.assert_close(sample(denoise, x, FREE.expand(4, 3), TEACHER), slope * x, atol=1e-12, rtol=1e-10)
    # Published for a sampler that stops at k = 1, whose noise of .0064 the last step here removes.
    assert slope == pytest.approx(published, abs=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_many_steps_reach_the_mean_and_spread_of_the_data(solver):
    schedule, mean, std, n = Schedule.squared_cosine(400), 0.7, 0.5, 40_000
    denoise = gaussian_denoiser(schedule, mean, std**2)
    x = sample(denoise, normal(n, 1, 1), FREE, schedule, solver=solver, generator=seeded(1))
    assert x.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(n))
    assert x.std().item() == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1.0), ("dpm++2m", 2.0)])
def test_error_falls_with_the_solvers_order(solver, order):
    """The probability-flow ODE of N(m, v) keeps (x_k - a_k m) / sqrt(a_k^2 v + s_k^2); compared at data."""
    mean, variance, x = 0.7, 0.25, normal(50, 1, 1)
    counts, errors = [40, 80, 160, 320], []
    for n in counts:
        half_log_snr = torch.linspace(8.0, -4.0, n, dtype=torch.float64)  # even steps; k = 1 has sigma = 3e-4
        alpha, sigma = (torch.sigmoid(sign * 2 * half_log_snr).sqrt().tolist() for sign in (1, -1))
        schedule = Schedule((1.0, *alpha), (0.0, *sigma))
        std = math.sqrt(alpha[-1] ** 2 * variance + sigma[-1] ** 2)  # of x_N
        exact = mean + math.sqrt(variance) * (x - alpha[-1] * mean) / std
        got = sample(gaussian_denoiser(schedule, mean, variance), x, FREE, schedule, solver=solver)
        errors.append((got - exact).square().mean().sqrt().item())
    log_n = torch.tensor(counts, dtype=torch.float64).log()
    log_e = torch.tensor(errors, dtype=torch.float64).log()
    slope = -((log_n - log_n.mean()) * (log_e - log_e.mean())).sum() / (log_n - log_n.mean()).square().sum()
    assert slope.item() == pytest.approx(order, abs=0.15), errors


def test_only_a_deterministic_solver_makes_pairs_that_can_be_learned():
    """T-DNK-2: how much of x_0 the stored noise explains, and whether the prior's scale reaches the plan."""
    noise, denoise = normal(20_000, 1, 1), gaussian_denoiser(TEACHER, 0.0, 1.0)
    r2, std = {}, {}
    for solver in ("ddim", "ddpm"):
        for scale in (0.3, 0.5, 0.7):
            x0 = sample(denoise, scale * noise, FREE, TEACHER, solver=solver, generator=seeded(2))
            r2[solver, scale] = torch.corrcoef(torch.stack([x0.flatten(), noise.flatten()]))[0, 1].item() ** 2
            std[solver, scale] = x0.std().item()
    assert min(r2["ddim", scale] for scale in (0.3, 0.5, 0.7)) > 0.99
    assert max(r2["ddpm", scale] for scale in (0.3, 0.5, 0.7)) < 0.01
    assert std["ddim", 0.7] / std["ddim", 0.3] == pytest.approx(7 / 3, rel=1e-6)
    assert std["ddpm", 0.7] / std["ddpm", 0.3] == pytest.approx(1.0, abs=0.01)
    assert std["ddpm", 0.5] == pytest.approx(0.896, abs=0.01)


# ---- the contract ----


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_fixed_entries_are_the_observation_at_every_call_and_in_the_result(solver):
    prior = normal(6, 4, 3, dtype=torch.float32)
    kept, seen = prior.clone(), []
    fixed = torch.zeros(4, 3, dtype=torch.bool)
    fixed[0, :2] = fixed[3, 1] = True

    def denoise(x, k):
        seen.append(k)
        assert torch.equal(x[:, fixed], kept[:, fixed])
        return nonlinear_denoiser(x, k)

    plans = sample(denoise, prior, fixed, TEACHER, solver=solver, generator=seeded())
    assert seen == list(range(20, 0, -1))
    assert torch.equal(plans[:, fixed], kept[:, fixed])
    assert torch.equal(prior, kept)
    assert (plans[:, ~fixed] != kept[:, ~fixed]).all()


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_the_last_step_returns_the_last_estimate(solver):
    estimates = []

    def denoise(x, k):
        estimates.append(nonlinear_denoiser(x, k))
        return estimates[-1]

    plans = sample(denoise, normal(3, 4, 3), FREE.expand(4, 3), TEACHER, solver=solver, generator=seeded())
    assert torch.equal(plans, estimates[-1])
    last = plan_steps(TEACHER, solver)[-1]
    assert (last.k, last.x, last.x0, last.previous, last.noise) == (1, 0.0, 1.0, 0.0, 0.0)


def test_the_generator_decides_all_that_is_random():
    def run(solver, seed):
        generator = None if seed is None else seeded(seed)
        prior, fixed = normal(3, 4, 3), FREE.expand(4, 3)
        return sample(nonlinear_denoiser, prior, fixed, TEACHER, solver=solver, generator=generator)

    assert torch.equal(run("ddpm", 1), run("ddpm", 1))
    assert not torch.equal(run("ddpm", 1), run("ddpm", 2))
    for solver in ("ddim", "dpm++2m"):
        assert torch.equal(run(solver, None), run(solver, 2))


def test_gradients_reach_the_prior():
    prior = normal(3, 4, 3).requires_grad_()
    sample(nonlinear_denoiser, prior, FREE.expand(4, 3), TEACHER, steps=4).sum().backward()
    assert prior.grad is not None
    assert (prior.grad != 0).all()


def test_predictions_of_noise_and_data_convert_back_and_forth():
    x0, eps, k = normal(3, 4, 2), normal(3, 4, 2, seed=1), torch.tensor([1, 9, 20])
    alpha, sigma = TEACHER.at(k, x0)
    x = alpha * x0 + sigma * eps
    torch.testing.assert_close(x0_from_eps(x, eps, alpha, sigma), x0)
    torch.testing.assert_close(eps_from_x0(x, x0, alpha, sigma), eps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "euler"}, "ddpm, ddim, dpm\\+\\+2m"),
        ({"solver": "ddpm"}, "pass generator"),
        ({"steps": 21}, r"1 \.\.\. 20"),
        ({"fixed": torch.zeros(3, 4, dtype=torch.bool)}, "expected torch.bool \\(4, 3\\)"),
        ({"fixed": torch.zeros(4, 3)}, "torch.float32"),
        ({"denoise": lambda x, _: x[:1]}, "denoise returned \\(1, 4, 3\\)"),
    ],
)
def test_a_wrong_call_says_what_was_expected(change, message):
    call = {"denoise": nonlinear_denoiser, "prior": normal(2, 4, 3), "fixed": FREE.expand(4, 3), "schedule": TEACHER}
    with pytest.raises(ValueError, match=message):
        sample(**(call | change))
