"""The losses of Koopman students, one entry at a time; fixed entries cost nothing and come back as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from koopman_students import A, C, D, H, L, O, double, moved, normal, seeded
from onestride.methods.koopman import OPERATORS, KoopmanConfig

TERMS = ("reconstruction", "latent", "prediction", "action", "spectral", "inverse")


# ---- the losses, eq. 13-19, one entry at a time ----


def naive_losses(student, batch):
    config, fixed = student.config, student.fixed
    count = len(batch["prior"])
    terms = dict.fromkeys(TERMS, 0.0)
    for i in range(count):
        prior, target = batch["prior"][i : i + 1], batch["target"][i : i + 1]
        context, w = batch["context"][i : i + 1], batch["weight"][i].item()
        z1 = student.encoder(prior, context)
        z_target = (student.target_encoder or student.encoder)(target, context)
        if config.operator == "dnk":
            gains = student.operator.gamma(z1)
            z0 = (student.operator.P.weight @ torch.diag(gains[0]) @ student.operator.Q.weight @ z1[0])[None]
            terms["spectral"] += sum(max(0.0, abs(g) - 1) for g in gains[0].tolist()) / L / count
        else:
            z0 = student.operator(z1)[0]
        plan, again = student.decoder(z0)[0], student.decoder(z_target)[0]
        terms["latent"] += (
            w * sum((a - b) ** 2 for a, b in zip(z0[0].tolist(), z_target[0].tolist(), strict=True)) / L / count
        )
        for h in range(H):
            for d in range(D):
                if fixed[h, d]:
                    continue  # weighs nothing, but counts in the mean
                wanted = target[0, h, d].item()
                terms["prediction"] += w * (plan[h, d].item() - wanted) ** 2 / (H * D) / count
                terms["reconstruction"] += w * (again[h, d].item() - wanted) ** 2 / (H * D) / count
                if d >= O:
                    w_a = 1.5 if h == 0 else 0.6
                    terms["action"] += w * w_a * (plan[h, d].item() - wanted) ** 2 / (H * A) / count
    if config.operator == "dnk":
        gap = student.operator.P.weight @ student.operator.Q.weight - torch.eye(L)
        terms["inverse"] = gap.square().sum().item() / L
    else:
        terms |= {k: v.item() for k, v in student.operator.regularizers(None).items()}
    return terms


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("operator", OPERATORS)
@torch.no_grad()
def test_losses_are_the_naive_ones(make, batch, operator, shared):
    student = moved(make(operator, shared_encoder=shared)).double()
    batch = double(batch)
    found = {k: v.item() for k, v in student.training_step(batch, seeded()).items()}
    wanted = naive_losses(student, batch)
    for term in found.keys() - {"loss"}:
        assert found[term] == pytest.approx(wanted[term], rel=1e-7), term
    terms = {"dnk": TERMS, "kdm": TERMS[:4], "kdm-f": TERMS, "mlp": ("prediction", "action")}[operator]
    assert found.keys() - {"loss"} == set(terms)
    weights = {"reconstruction": 0.8, "latent": 0.2, "prediction": 1.0, "action": 1.0, "spectral": 0.01, "inverse": 1.0}
    assert found["loss"] == pytest.approx(sum(weights[k] * wanted[k] for k in terms), rel=1e-7)
    assert min(wanted[k] for k in terms) > 1e-4  # every term took part


@torch.no_grad()
def test_a_sample_of_weight_two_counts_twice(make, batch):
    student = moved(make())
    heavy = batch | {"weight": torch.ones(32)}
    heavy["weight"][5] = 2.0
    twice = {k: torch.cat((v, v[5:6])) for k, v in (batch | {"weight": torch.ones(32)}).items()}
    a, b = student.training_step(heavy, seeded()), student.training_step(twice, seeded())
    for term in ("reconstruction", "latent", "prediction", "action"):
        torch.testing.assert_close(a[term] * 32, b[term] * 33)
    plain = student.training_step(batch | {"weight": torch.ones(32)}, seeded())
    assert torch.equal(a["inverse"], plain["inverse"])  # regularizers are not weighted
    assert torch.equal(a["spectral"], plain["spectral"])


@pytest.mark.parametrize("operator", OPERATORS)
@torch.no_grad()
def test_unweighted_pairs_all_count_once(make, batch, operator):
    even = moved(make(operator)).training_step(batch | {"weight": torch.ones(32)}, seeded())
    found = moved(make(operator, weighted=False)).training_step(batch, seeded())
    assert all(torch.equal(found[term], even[term]) for term in even)
    assert not torch.equal(found["loss"], moved(make(operator)).training_step(batch, seeded())["loss"])


def test_the_target_branch_of_the_latent_loss_gets_no_gradient(make, batch):
    alone = dict.fromkeys(TERMS, 0.0) | {"latent": 1.0}
    student = moved(make(**alone)).double()
    batch = double(batch)
    student.training_step(batch, seeded())["loss"].backward()
    found = {n: p.grad for n, p in student.named_parameters()}

    def gradients(stop):
        student.zero_grad()
        z0, _ = student.operator(student.encoder(batch["prior"], batch["context"]))
        z_target = student.encoder(batch["target"], batch["context"])
        z_target = z_target.detach() if stop else z_target
        ((z0 - z_target).square().mean(1) * batch["weight"]).mean().backward()
        return {n: p.grad for n, p in student.encoder.named_parameters()}

    for stop in (True, False):
        wanted = gradients(stop)
        same = [torch.allclose(found[f"encoder.{n}"], g, rtol=1e-9, atol=1e-12) for n, g in wanted.items()]
        assert all(same) if stop else not any(same)
    assert all(g is None or (g == 0).all() for n, g in found.items() if n.startswith("decoder."))


def test_a_target_encoder_of_its_own_learns_from_reconstruction_alone(make, batch):
    student = moved(make(shared_encoder=False))
    student.training_step(batch, seeded())["loss"].backward()
    assert all((p.grad != 0).any() for p in student.target_encoder.parameters())
    student = moved(make(shared_encoder=False, reconstruction=0.0))
    student.training_step(batch, seeded())["loss"].backward()
    assert all((p.grad == 0).all() for p in student.target_encoder.parameters())


def test_without_the_stop_gradient_both_codes_follow(make, batch):
    student = moved(make(shared_encoder=False, stop_gradient=False, reconstruction=0.0))
    student.training_step(batch, seeded())["loss"].backward()
    assert all((p.grad != 0).any() for p in student.target_encoder.parameters())
    same = moved(make(shared_encoder=False)).training_step(batch, seeded())["loss"]
    assert torch.equal(
        moved(make(shared_encoder=False, stop_gradient=False)).training_step(batch, seeded())["loss"], same
    )


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_an_encoder_of_so_many_hidden_layers(make, layers):
    encoder = make(encoder_layers=layers).encoder
    assert len([m for m in encoder.modules() if isinstance(m, nn.LayerNorm)]) == layers
    assert encoder(normal(7, H, D), normal(1, C)).shape == (7, L)
    with pytest.raises(ValueError, match="encoder_layers is 0"):
        make(encoder_layers=0)


def test_latent_noise_is_the_generators_and_on_both_latents(make, batch):
    student = moved(make(latent_noise=0.4))
    a, b, c = (student.training_step(batch, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(a["loss"], b["loss"])
    assert not torch.equal(a["loss"], c["loss"])
    assert not torch.equal(a["reconstruction"], c["reconstruction"])
    assert not torch.equal(a["prediction"], c["prediction"])
    quiet = make("kdm").double()  # where plan and target are the same, what is left is the noise of one: 0.4^2
    noisy = make("kdm", latent_noise=0.4).double()
    same = {k: v.repeat(100, *[1] * (v.dim() - 1)) for k, v in double(batch).items()}
    same |= {"prior": same["target"], "weight": torch.ones(3200, dtype=torch.float64)}
    assert quiet.training_step(same, seeded())["latent"] == 0
    assert noisy.training_step(same, seeded())["latent"].item() == pytest.approx(0.4**2, rel=0.05)
    assert make().config.latent_noise == 0


# ---- fixed entries (T-DNK-4) ----


@pytest.mark.parametrize("operator", OPERATORS)
@torch.no_grad()
def test_fixed_entries_come_back_bit_for_bit(make, fixed, operator):
    student = moved(make(operator))
    prior = 1e3 * normal(9, H, D)
    before = prior.clone()
    plans = student.sample(prior, normal(9, C, seed=1))
    assert torch.equal(plans[:, fixed], prior[:, fixed])
    assert torch.equal(prior, before)
    free = student.decoder(student.operator(student.encoder(prior, normal(9, C, seed=1)))[0])
    assert torch.equal(plans[:, ~fixed], free[:, ~fixed])
    assert plans.shape == prior.shape


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_gradient_reaches_the_decoder_through_fixed_entries(make, batch, fixed, operator):
    student, kept = moved(make(operator)), []

    def keep(module, given, out):
        out.retain_grad()
        kept.append(out)

    student.decoder.register_forward_hook(keep)
    student.training_step(batch, seeded())["loss"].backward()
    (out,) = kept
    assert len(out) == (32 if operator == "mlp" else 64)  # plans and reconstructions in one pass
    assert (out.grad[:, fixed] == 0).all()
    assert (out.grad[:, ~fixed] != 0).all()


def test_what_the_decoder_says_of_fixed_entries_costs_nothing(make, batch, fixed):
    student = moved(make())
    wrong = copy.deepcopy(student)
    with torch.no_grad():
        wrong.decoder[-2].bias.view(H, D)[fixed] += 100.0
    a, b = student.training_step(batch, seeded()), wrong.training_step(batch, seeded())
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_papers_weights_are_the_defaults():
    config = KoopmanConfig()
    assert [getattr(config, name) for name in TERMS] == [0.8, 0.2, 1.0, 1.0, 0.01, 1.0]
    assert (config.first_action_weight, config.later_action_weight, config.latent_dim) == (1.5, 0.6, 512)
