"""Koopman students: the algebra of the operators, the losses of eq. 13-19 one by one, known slopes (T-DNK-1)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from koopman_students import SMALL, C, D, H, L, moved, normal, seeded
from onestride.diffusion.samplers import sample
from onestride.diffusion.schedule import Schedule
from onestride.methods.koopman import (
    OPERATORS,
    FDKLayer,
    KoopmanConfig,
    KoopmanStudent,
    PlainLayer,
    StaticFactorizedLayer,
    StaticLayer,
)
from plan_specs import spec_of

# ---- what one number of a linear Gaussian teacher becomes (T-DNK-1) ----


def ddim_slope(variance, schedule):
    """x_0 = slope * x_N when the data is N(0, variance): the product of DDIM's steps."""
    slope = 1.0
    for i in range(1, schedule.n_steps + 1):
        a, s, b, t = schedule.alpha[i], schedule.sigma[i], schedule.alpha[i - 1], schedule.sigma[i - 1]
        slope *= (a * b * variance + s * t) / (a**2 * variance + s**2)
    return slope


def gaussian_targets(prior, variances, rotation, schedule):
    """What the exact DDIM teacher of N(0, R diag(v) R^T) makes of a prior (B, 1, 6)."""

    def denoise(x, k):
        a, s = schedule.alpha[k], schedule.sigma[k]
        gain = a * variances / (a**2 * variances + s**2)
        return ((x @ rotation) * gain) @ rotation.T

    return sample(denoise, prior, torch.zeros(1, 6, dtype=torch.bool), schedule)


@pytest.mark.slow
@pytest.mark.parametrize("rotated", [pytest.param(False, marks=pytest.mark.slow), True])
def test_fdk_finds_the_slopes_of_the_teacher(rotated):
    schedule = Schedule.cosine(20)
    variances = torch.tensor([0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
    rotation = torch.linalg.qr(normal(6, 6, seed=5))[0] if rotated else torch.eye(6)
    truth = torch.tensor([ddim_slope(v, schedule) for v in variances.tolist()])

    # Identity in place of encoder and decoder, so that the operator alone can learn. The spectral loss, which pulls
    # gains above 1 down on purpose, is left out: here they are the truth.
    torch.manual_seed(0)
    student = KoopmanStudent(
        replace(SMALL, gain_hidden=32, spectral=0.0), spec_of(torch.zeros(1, 6, dtype=torch.bool), 0, 4)
    )
    student.encoder = Identity()
    student.decoder = nn.Unflatten(1, (1, 6))
    optimizer = torch.optim.Adam(student.operator.parameters(), 3e-2)
    steps = 1500
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = seeded(7)
    stored = torch.randn(100 * 256, 1, 6, generator=generator)
    made = gaussian_targets(stored, variances, rotation, schedule)
    for i in range(steps):
        rows = slice(256 * (i % 100), 256 * (i % 100 + 1))
        prior, target = stored[rows], made[rows]
        batch = {"prior": prior, "target": target, "context": None, "weight": torch.ones(256)}
        optimizer.zero_grad()
        student.training_step(batch, generator)["loss"].backward()
        optimizer.step()
        annealed.step()

    with torch.no_grad():
        prior = normal(4000, 1, 6, seed=8)
        gains = student.operator(prior.flatten(1))[1]
        assert (gains.mean(0).sort().values - truth).abs().max() < 0.01
        assert gains.std(0).max() < 0.01  # the same for every state: the map is linear
        error = student.sample(prior, None) - gaussian_targets(prior, variances, rotation, schedule)
        assert error.square().mean().sqrt() < 0.01
        assert student.operator.regularizers(gains)["inverse"] < 1e-4


class Identity(nn.Module):
    def forward(self, plans, context):
        return plans.flatten(1)


def test_the_slopes_are_those_of_the_sheet():
    """Table of T-DNK-1, CleanDiffuser's 20 steps, to what that schedule's last, empty step leaves of it."""
    table = {0.01: 0.0720, 0.1: 0.2826, 0.5: 0.6605, 1.0: 0.9382, 2.0: 1.3224, 4.0: 1.8497}
    for variance, slope in table.items():
        assert ddim_slope(variance, Schedule.cosine(20)) == pytest.approx(slope, rel=5e-3)


# ---- the operators ----


def test_fdk_is_the_explicit_product():
    layer = moved(FDKLayer(L, 8)).double()
    z = normal(20, L, dtype=torch.float64)
    z0, gains = layer(z)
    for i in range(20):
        k = layer.P.weight @ torch.diag(layer.gamma(z[i])) @ layer.Q.weight
        torch.testing.assert_close(z0[i], k @ z[i])
    torch.testing.assert_close(gains, layer.gamma(z))
    assert gains.std(0).min() > 1e-3  # they depend on the state


def test_kdm_is_the_same_affine_map_everywhere():
    layer = moved(StaticLayer(L)).double()
    z = normal(20, L, dtype=torch.float64)
    z0, gains = layer(z)
    assert gains is None
    torch.testing.assert_close(z0, z @ layer.A.weight.T + layer.A.bias)
    torch.testing.assert_close(layer(z.mean(0, keepdim=True))[0], z0.mean(0, keepdim=True))


@pytest.mark.parametrize(("layer", "exact"), [(lambda: FDKLayer(64, 16), False), (lambda: StaticLayer(64), True)])
def test_dnk_and_kdm_start_as_the_identity(layer, exact):
    z = normal(50, 64)
    z0, gains = layer()(z)
    torch.testing.assert_close(z0, z, rtol=0, atol=0 if exact else 1e-5)
    if gains is not None:
        assert (gains == 1).all()


def test_kdm_f_real_arithmetic_is_complex_arithmetic():
    layer = moved(StaticFactorizedLayer(L)).double()
    z = normal(20, L, dtype=torch.float64)
    p = torch.complex(layer.P[:L], layer.P[L:])
    p = torch.stack([row / torch.linalg.vector_norm(row) for row in p])
    eigenvalues = torch.exp(-torch.exp(layer.nu)) * torch.exp(1j * torch.exp(layer.theta))
    back = torch.complex(*layer.P_inv)
    expected = torch.stack([(back @ (eigenvalues * (p @ row.to(p.dtype)))).real for row in z])
    torch.testing.assert_close(layer(z)[0], expected)


def test_kdm_f_rows_are_unit_and_eigenvalues_inside_the_circle():
    for layer in (StaticFactorizedLayer(L), moved(StaticFactorizedLayer(L), by=2.0)):
        rows = torch.complex(*layer._rows())
        torch.testing.assert_close(torch.linalg.vector_norm(rows, dim=1), torch.ones(L))
        assert (torch.complex(*layer._spectrum()).abs() < 1).all()
    start = torch.complex(*StaticFactorizedLayer(L)._rows())
    torch.testing.assert_close(start @ start.conj().T, torch.eye(L, dtype=torch.complex64), atol=1e-5, rtol=0)


def test_kdm_f_cannot_amplify_what_its_inverse_gives_back():
    layer = StaticFactorizedLayer(L)
    with torch.no_grad():
        back = torch.linalg.inv(torch.complex(*layer._rows()))
        layer.P_inv.copy_(torch.stack((back.real, back.imag)))
    assert layer.regularizers(None)["inverse"] < 1e-10
    z = normal(50, L)
    assert (layer(z)[0].norm(dim=1) < z.norm(dim=1)).all()


def test_kdm_f_regularizers_are_the_naive_ones():
    layer = moved(StaticFactorizedLayer(L)).double()
    p, back = torch.complex(*layer._rows()), torch.complex(*layer.P_inv)
    wanted = 0.0
    for product in (back @ p, p @ back):
        gap = product - torch.eye(L)
        wanted += (gap.real.square().sum() + gap.imag.square().sum()) / (2 * L * L)
    found = layer.regularizers(None)
    torch.testing.assert_close(found["inverse"], wanted)
    eigenvalues, uniform = torch.complex(*layer._spectrum()), torch.complex(*layer.uniform)
    torch.testing.assert_close(found["spectral"], (eigenvalues - uniform).abs().mean())
    assert (uniform.abs() <= 1).all()


def test_what_kdm_f_draws_once_travels_with_it(make):
    student = make("kdm-f")
    assert "operator.uniform" in student.state_dict()
    assert "operator.uniform" not in dict(student.named_parameters())


@pytest.mark.parametrize("gain", [-1.0, -0.3, 0.0, 0.99, 1.0])
def test_gains_within_one_cost_nothing(gain):
    assert FDKLayer(L, 8).regularizers(torch.full((7, L), gain))["spectral"] == 0


@pytest.mark.parametrize("gain", [1.001, -1.001, 3.0, -7.0])
def test_one_gain_beyond_one_costs_its_excess(gain):
    gains = torch.full((7, L), 0.5)
    gains[3, 2] = gain
    spectral = FDKLayer(L, 8).regularizers(gains)["spectral"]
    assert spectral.item() == pytest.approx((abs(gain) - 1) / (7 * L), rel=1e-4)
    assert spectral > 0


def test_the_inverse_loss_is_the_frobenius_norm_per_row():
    layer = FDKLayer(L, 8)
    assert layer.regularizers(torch.ones(1, L))["inverse"] < 1e-10
    moved(layer)
    total = 0.0
    for i in range(L):
        for j in range(L):
            product = sum(layer.P.weight[i, k].item() * layer.Q.weight[k, j].item() for k in range(L))
            total += (product - (i == j)) ** 2
    assert layer.regularizers(torch.ones(1, L))["inverse"].item() == pytest.approx(total / L, rel=1e-4)


def test_the_control_has_the_fdk_layers_products_and_nothing_of_its_structure(make):
    z, layer = normal(7, L), moved(PlainLayer(L))
    first, _, second = layer.net
    wanted = nn.functional.silu(z @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(layer(z)[0], wanted)
    assert layer(z)[1] is None
    assert layer.regularizers(None) == {}
    assert sum(p.numel() for p in layer.parameters() if p.dim() == 2) == 2 * L * L  # as P and Q
    assert not {"gamma", "P", "Q", "A"} & {n.split(".")[0] for n, _ in make("mlp").operator.named_parameters()}


def test_the_control_learns_from_the_plans_alone(make, batch):
    """No encoding of the target: what it learns from a pair does not go through a latent space."""
    student, seen = moved(make("mlp")), []
    student.encoder.register_forward_hook(lambda m, given, out: seen.append(given[0]))
    losses = student.training_step(batch, seeded())
    assert losses.keys() == {"loss", "prediction", "action"}
    (given,) = seen
    assert torch.equal(given, batch["prior"])
    loud = moved(make("mlp", latent=1e3, reconstruction=1e3, spectral=1e3, inverse=1e3))
    assert torch.equal(loud.training_step(batch, seeded())["loss"], losses["loss"])


# ---- the student as a whole ----


@pytest.mark.parametrize("operator", OPERATORS)
def test_one_step_lowers_the_loss(make, batch, operator):
    student = moved(make(operator), by=0.05)
    before = student.training_step(batch, seeded())["loss"]
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    with torch.no_grad():
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in student.parameters()))
        for p in student.parameters():
            p -= 0.01 / norm * p.grad
        after = student.training_step(batch, seeded())["loss"]
    # A step of length 0.01 down the slope: what it gains is the slope, nearly.
    assert (before - after).item() == pytest.approx(0.01 * norm, rel=0.5)


@pytest.mark.parametrize("operator", OPERATORS)
@torch.no_grad()
def test_one_context_serves_all_candidates(make, operator):
    student = moved(make(operator))
    prior, context = normal(9, H, D), normal(1, C, seed=1)
    one = student.sample(prior, context)
    torch.testing.assert_close(one, student.sample(prior, context.expand(9, C)), rtol=1e-5, atol=1e-5)
    assert (one - student.sample(prior, context + 1)).abs().max() > 1e-2


@torch.no_grad()
def test_rows_do_not_mix(make):
    student = moved(make())
    prior, context = normal(5, H, D), normal(5, C, seed=1)
    together = student.sample(prior, context)
    for i in range(5):
        alone = student.sample(prior[i : i + 1], context[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_it_is_one_network_call(make):
    student, calls = make(), []
    for part in (student.encoder, student.operator, student.decoder):
        part.register_forward_hook(lambda m, given, out: calls.append(m))
    student.sample(normal(3, H, D), normal(3, C))
    assert calls == [student.encoder, student.operator, student.decoder]
    assert student.nfe == 1


@pytest.mark.parametrize("operator", ["koopman", "", "DNK"])
def test_an_unknown_operator_is_refused(operator):
    with pytest.raises(ValueError, match=rf"student\.operator is '{operator}'; there are dnk, kdm, kdm-f, mlp$"):
        KoopmanConfig(operator=operator)
