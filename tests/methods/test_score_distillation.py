"""OneDP's gradients against closed forms, what its two variants end at, and how it starts from its teacher."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from torch import nn

from onestride.files import CheckpointError
from onestride.methods.diffusion_planner import DP, DiffusionPlanner, TeacherConfig
from onestride.methods.edm import EDMConfig, EDMPlanner
from onestride.methods.score_distillation import (
    OneStepStudent,
    ScoreDistillation,
    ScoreDistillationConfig,
    index_of,
)
from onestride.methods.settings import changed, with_settings
from onestride.plans.spec import PlanSpec
from plan_specs import spec_of

SPEC = PlanSpec(horizon=2, state_dim=0, action_dim=2, context_dim=3, known=())
FREE = 4  # H D of it
DP_SMALL = replace(DP.config, width=16, blocks=1)
X0_SMALL = TeacherConfig(width=16, blocks=1, n_steps=30)
EDM_SMALL = EDMConfig(width=16, blocks=1, sigma_data=0.5)
TEACHERS = {
    "dp": (DP_SMALL, DiffusionPlanner),
    "diffuser": (X0_SMALL, DiffusionPlanner),
    "edm": (EDM_SMALL, EDMPlanner),
}
D = torch.float64


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def moved(module):
    """Away from the zeros that it starts with."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.1 * normal(*p.shape, seed=i))
    return module


def make(kind="dp", spec=SPEC, **settings):
    """A teacher, and the learner of its student."""
    torch.manual_seed(0)
    config, build = TEACHERS[kind]
    teacher = moved(build(config, spec))
    student = OneStepStudent(ScoreDistillationConfig(planner=kind, settings=asdict(config), **settings), spec)
    return teacher, ScoreDistillation(student, teacher)


class Normal(nn.Module):
    """A network that says what the denoiser of a normal law N(mean, covariance) does, at any index k (B,)."""

    def __init__(self, schedule, mean, covariance):
        super().__init__()
        self.schedule, self.mean, self.covariance = schedule, mean, covariance

    def forward(self, x, k, context=None):
        alpha, sigma = self.schedule.at(k, x)
        rows, alpha, sigma = x.flatten(1), alpha[:, 0], sigma[:, 0]
        noisy = alpha[:, :, None] ** 2 * self.covariance + sigma[:, :, None] ** 2 * torch.eye(FREE, dtype=D)
        score = -torch.linalg.solve(noisy, (rows - alpha * self.mean)[..., None])[..., 0]
        return (-sigma * score).view_as(x)


def designed():
    """Noise z and eps (M, 2, 2): first and second moments, also of both together, are exactly those of N(0, I)."""
    points = FREE**0.5 * torch.cat((torch.eye(FREE, dtype=D), -torch.eye(FREE, dtype=D)))
    z, eps = points.repeat_interleave(len(points), 0), points.repeat(len(points), 1)
    return z.view(-1, 2, 2), eps.view(-1, 2, 2)


@pytest.mark.parametrize("t", [2, 30, 65, 95])
def test_between_normal_laws_the_gradient_is_the_closed_form_at_every_level(t):
    """T-ODP-1: G(z) = W z + b. The gradient vanishes where b is the teacher's mean and W W' its covariance alone."""
    _, learner = make()
    learner = learner.double()
    schedule, m = learner.deployed.planner.schedule, normal(FREE, seed=1, dtype=D)
    root, w = (0.3 * torch.eye(FREE, dtype=D) + 0.2 * normal(FREE, FREE, seed=s, dtype=D) for s in (2, 3))
    b, spread = normal(FREE, seed=4, dtype=D), root @ root.T
    learner._teacher[0].network = Normal(schedule, m, spread)
    z, eps = designed()
    alpha, sigma = schedule.alpha[t + 1], schedule.sigma[t + 1]

    def gradients(w, b):
        w, b = w.clone().requires_grad_(), b.clone().requires_grad_()
        learner.score.network = Normal(schedule, b.detach(), (w @ w.T).detach())
        made = (z.flatten(1) @ w.T + b).view_as(z)
        loss = learner.matching(made, torch.full((len(z),), t + 1), eps, None)["loss"]
        return torch.autograd.grad(FREE * loss, (w, b))  # the paper's sum over entries

    def noisy(covariance):
        return torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(FREE, dtype=D))

    of_w, of_b = gradients(w, b)
    weight = sigma**2 * alpha**2
    torch.testing.assert_close(of_b, weight * noisy(spread) @ (b - m), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(of_w, weight * (noisy(spread) - noisy(w @ w.T)) @ w, rtol=1e-9, atol=1e-12)
    assert of_b.abs().max() > 1e-5
    assert all(g.abs().max() < 1e-12 for g in gradients(root, m))


@pytest.mark.parametrize("t", [2, 65, 95])
def test_without_a_score_network_it_is_drawn_to_the_mean(t):
    """T-ODP-2: w alpha^2 (alpha^2 S + sigma^2)^-1 (a - m)."""
    _, learner = make(deterministic=True)
    learner = learner.double()
    schedule, m, a = learner.deployed.planner.schedule, normal(FREE, seed=1, dtype=D), normal(FREE, seed=2, dtype=D)
    spread = torch.diag(torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=D))
    learner._teacher[0].network = Normal(schedule, m, spread)
    eps = designed()[1]
    alpha, sigma = schedule.alpha[t + 1], schedule.sigma[t + 1]
    a = a.requires_grad_()
    loss = learner.matching(a.view(1, 2, 2).expand_as(eps), torch.full((len(eps),), t + 1), eps, None)["loss"]
    (found,) = torch.autograd.grad(FREE * loss, a)
    wanted = sigma**2 * alpha**2 / (alpha**2 * spread.diag() + sigma**2) * (a - m)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def quantiles(count):
    """Equally likely values of a standard normal."""
    return torch.special.ndtri((torch.arange(count, dtype=D) + 0.5) / count)


class Modes(nn.Module):
    """The denoiser of two modes at +-mu of standard deviation .05, at signal and noise levels (B, 1, 1)."""

    def __init__(self, mu, levels):
        super().__init__()
        self.mu, self.levels = mu, levels

    def forward(self, x, level, context=None):
        alpha, sigma = self.levels(level, x)
        v = (0.05 * alpha) ** 2 + sigma**2
        mean = self.mu * torch.tanh(alpha * self.mu * x / v)
        return mean + alpha * 0.05**2 / v * (x - alpha * mean)


@pytest.mark.parametrize(
    ("kind", "mu", "wanted"),
    [
        ("diffuser", 0.3, 0.0), ("diffuser", 0.4, 0.0), ("diffuser", 0.6, 0.22), ("diffuser", 1.0, 0.71),
        ("edm", 0.4, 0.13), ("edm", 0.6, 0.35), ("edm", 1.0, 0.78),
    ],
)  # fmt: skip
def test_onedp_d_ends_between_modes_that_are_near(kind, mu, wanted, monkeypatch):
    """T-ODP-3: where its gradient vanishes, with the exact score of two modes."""
    monkeypatch.setitem(TEACHERS, "diffuser", (replace(DP_SMALL, prediction="x0"), DiffusionPlanner))
    spec = PlanSpec(horizon=1, state_dim=0, action_dim=1, known=())
    _, learner = make(kind, spec, deterministic=True)
    learner, teacher = learner.double(), learner._teacher[0]
    if kind == "edm":
        teacher.denoiser = Modes(mu, lambda sigma, x: (torch.ones_like(sigma), sigma))
        levels = (EDM_SMALL.p_mean + EDM_SMALL.p_std * quantiles(100)).exp().view(-1, 1, 1)
    else:
        teacher.network = Modes(mu, teacher.schedule.at)
        levels = torch.arange(3, 97)
    eps = quantiles(200).repeat(len(levels)).view(-1, 1, 1)
    level = levels.repeat_interleave(200, 0)

    def gradient(a):
        a = torch.tensor(a, dtype=D, requires_grad=True)
        loss = learner.matching(a.expand_as(eps), level, eps, None)["loss"]
        return float(torch.autograd.grad(loss, a)[0])

    low, high = 0.005, mu + 0.1  # it descends: where the gradient is above 0, a falls
    if gradient(low) > 0:
        high = 0.0
    else:
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if gradient(middle) > 0 else (middle, high)
    assert high == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("kind", TEACHERS)
def test_it_starts_as_the_teachers_estimate_at_its_first_level(kind):
    """T-ODP-5."""
    teacher, learner = make(kind)
    prior, context = normal(5, 2, 2), normal(5, 3, seed=1)
    if kind == "edm":
        wanted = teacher.denoise(2.5 * prior, 2.5, context)
    else:
        k = {"dp": 66, "diffuser": 20}[kind]
        output, alpha, sigma = teacher.network(prior, k, context), teacher.schedule.alpha[k], teacher.schedule.sigma[k]
        wanted = (prior - sigma * output) / alpha if kind == "dp" else output
    assert torch.equal(learner.deployed.sample(prior, context), wanted)
    for_all = learner.deployed.sample(prior, context[:1])
    torch.testing.assert_close(for_all, learner.deployed.sample(prior, context[:1].expand(5, -1)))


def test_the_deterministic_one_is_told_zeros():
    teacher, learner = make(deterministic=True)
    context = normal(5, 3, seed=1)
    made = learner.deployed.sample(normal(5, 2, 2), context)
    torch.testing.assert_close(made, teacher.denoise(torch.zeros(5, 2, 2), 66, context))
    assert [group.phase for group in learner.groups()] == ["generator"]


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_known_entries_are_never_noised_and_have_no_gradient(kind, deterministic):
    known = torch.zeros(2, 2, dtype=torch.bool)
    known[0, 0] = True
    _, learner = make(kind, spec_of(known, 3), deterministic=deterministic)
    made, seen = normal(6, 2, 2).requires_grad_(), []
    theirs = learner._teacher[0]
    if not deterministic:
        moved(learner.score)  # it starts as the teacher, and what they say differs by nothing
    network = theirs.denoiser if kind == "edm" else theirs.network
    network.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    level = torch.full((6, 1, 1), 0.7) if kind == "edm" else torch.full((6,), 15)
    learner.matching(made, level, normal(6, 2, 2, seed=2), normal(6, 3))["loss"].backward()
    assert torch.equal(seen[0][:, known], made.detach()[:, known])
    assert not torch.equal(seen[0][:, ~known], made.detach()[:, ~known])
    assert (made.grad[:, known] == 0).all()
    assert (made.grad[:, ~known] != 0).all()
    prior = normal(6, 2, 2, seed=3)
    assert torch.equal(learner.deployed.sample(prior, normal(6, 3))[:, known], prior[:, known])


@pytest.mark.parametrize("kind", TEACHERS)
def test_phases_step_their_own_network_and_leave_the_teacher(kind):
    teacher, learner = make(kind)
    before = {name: value.clone() for name, value in learner._teacher[0].state_dict().items()}
    moved(learner.score)  # it starts as the teacher, and what they say differs by nothing
    score, generator = learner.groups()
    assert (score.betas, generator.betas) == ((0.0, 0.999), (0.0, 0.999))
    assert not any("_teacher" in name for name in learner.state_dict())
    batch, rng = {"plans": normal(32, 2, 2), "context": normal(32, 3)}, torch.Generator().manual_seed(0)
    for mine, other in ((score, generator), (generator, score)):
        learner.zero_grad()
        said = learner.loss(mine.phase, batch, rng)
        assert all(torch.isfinite(value) for value in said.values())
        said["loss"].backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in mine.parameters)
        assert all(p.grad is None for p in other.parameters)
    assert all(torch.equal(value, before[name]) for name, value in learner._teacher[0].state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def distilled(teacher_steps, steps, batch):
    """Plans of a student (4000,) and of its teacher, of data with modes at +-.7 of standard deviation .05."""
    spec, rng = PlanSpec(horizon=1, state_dim=0, action_dim=1, known=()), torch.Generator().manual_seed(0)
    config, none = replace(DP_SMALL, width=64, blocks=2, solver="ddim"), torch.zeros(batch, 0)
    torch.manual_seed(0)
    teacher = DiffusionPlanner(config, spec)

    def descend(parameters, rate, betas, steps, loss):
        optimizer = torch.optim.Adam(parameters, rate, betas)
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (1 - i / steps)
            optimizer.zero_grad()
            loss()["loss"].backward()
            optimizer.step()
            yield

    def denoising():
        data = 0.7 * torch.randn(batch, 1, 1, generator=rng).sign() + 0.05 * torch.randn(batch, 1, 1, generator=rng)
        return teacher.training_step({"plans": data, "context": none}, rng)

    list(descend(teacher.parameters(), 3e-3, (0.9, 0.999), teacher_steps, denoising))
    settings = ScoreDistillationConfig(
        planner="dp", settings=asdict(config), learning_rate=1e-3, score_learning_rate=3e-3
    )
    learner = ScoreDistillation(OneStepStudent(settings, spec), teacher)
    rows = {"plans": torch.zeros(batch, 1, 1), "context": none}
    phases = [
        descend(
            group.parameters, group.learning_rate, group.betas, steps, partial(learner.loss, group.phase, rows, rng)
        )
        for group in learner.groups()
    ]
    for _ in zip(*phases, strict=True):
        pass
    noise = torch.randn(4_000, 1, 1, generator=rng)
    with torch.no_grad():
        return learner.deployed.sample(noise, None).flatten(), with_settings(teacher, changed(sample_steps=50)).sample(
            noise, None
        ).flatten()


def in_mode(plans):
    return float(((plans.abs() - 0.7).abs() < 0.15).float().mean())


def test_onedp_s_keeps_two_modes():
    """T-ODP-4 in short."""
    mine, theirs = distilled(300, 200, 128)
    assert float(mine.std()) == pytest.approx(float(theirs.std()), abs=0.1)
    assert float((mine > 0).float().mean()) == pytest.approx(float((theirs > 0).float().mean()), abs=0.1)
    assert in_mode(mine) > 0.5


@pytest.mark.slow
def test_onedp_s_keeps_two_modes_as_published():
    """T-ODP-4."""
    mine, _ = distilled(2_000, 2_000, 512)
    assert float(mine.std()) == pytest.approx(0.69, abs=0.02)
    assert float((mine > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert in_mode(mine) >= 0.85


def test_levels_are_places_in_a_table_of_100():
    assert [index_of(t, 100) for t in (0, 2, 65, 95, 99)] == [1, 3, 66, 96, 100]
    assert [index_of(t, 30) for t in (0, 2, 65, 95, 99)] == [1, 1, 20, 29, 30]
    _, learner = make("diffuser")
    drawn = learner._levels(2_000, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert drawn.unique().tolist() == list(range(1, 30))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"t_init": 100}, "table of 100"), ({"t_first": 96}, "t_first <= t_last"), ({"t_first": -1}, "table of 100"),
        ({"sigma_init": 0.0}, "above 0"), ({"learning_rate": -1.0}, "above 0"),
        ({"planner": "bc"}, "'teacher' is a checkpoint of method 'bc', which has no score"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        ScoreDistillationConfig(**settings)


def test_another_teacher_than_the_students_is_refused():
    student = OneStepStudent(ScoreDistillationConfig(planner="dp", settings=asdict(DP_SMALL)), SPEC)
    for config in (replace(DP_SMALL, prediction="x0"), replace(DP_SMALL, width=24)):
        with pytest.raises(ValueError, match="make them alike"):
            ScoreDistillation(student, DiffusionPlanner(config, SPEC))
    with pytest.raises(ValueError, match="make them alike"):
        ScoreDistillation(student, EDMPlanner(EDM_SMALL, SPEC))
    longer = PlanSpec(horizon=4, state_dim=0, action_dim=2, context_dim=3, known=())
    with pytest.raises(ValueError, match="other shapes"):
        ScoreDistillation(student, DiffusionPlanner(DP_SMALL, longer))
    with pytest.raises(CheckpointError, match="settings this version does not know: wings"):
        OneStepStudent(ScoreDistillationConfig(planner="dp", settings={"wings": 2}), SPEC)
