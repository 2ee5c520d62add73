"""Keyed drifting planners: what each form can learn (T-KDP-2, 3 and 4), known entries, settings, the fold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from onestride.engine.fold.folds import generator_fold
from onestride.engine.fold.keyed_drift import fold_keyed_drift
from onestride.methods import METHODS
from onestride.methods.keyed_drift import SEEN, KeyedDriftConfig, KeyedDriftPlanner
from onestride.plans.spec import Block, PlanSpec
from onestride.training.datasets import Resident
from onestride.training.neighbours import with_neighbours

SMALL = KeyedDriftConfig(width=64, blocks=2, first_action_weight=1.0)
GOAL = PlanSpec(horizon=4, state_dim=3, action_dim=2, context_dim=1, known=(Block(0, 0, 3), Block(-1, 0, 2)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def trained(config, spec, plans, steps, batch=32, rate=2e-3, folder=None):
    torch.manual_seed(0)
    planner = KeyedDriftPlanner(config, spec)
    data = Resident({"plans": plans, "context": torch.zeros(len(plans), 0)})
    count, reach = METHODS["kdp"]().neighbours(config)
    data = with_neighbours(data, spec, torch.arange(len(plans)), torch.arange(len(plans)), count, reach, folder)
    optimizer = torch.optim.AdamW(planner.parameters(), rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)  # a normalised drift never vanishes
    rng = seeded(1)
    for _ in range(steps):
        losses = planner.training_step(data.rows(torch.randint(len(plans), (batch,), generator=rng)), rng)
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(planner.parameters(), 2.0)
        optimizer.step()
        schedule.step()
    return planner


def drawn(planner, keys, each):
    """Samples (N, each, A) of keys (N, K)."""
    keys = keys.repeat_interleave(each, 0)
    prior = torch.cat((keys, normal(len(keys), 2, seed=5)), 1)[:, None]
    with torch.no_grad():
        return planner.sample(prior, None)[:, 0, keys.shape[1] :].unflatten(0, (-1, each))


# ---- T-KDP-3: two modes, and what the key says in between them ----


def two_modes(count, key_dim):
    """Keys, then -1 or 1, then half the first key: both with a deviation of 0.05."""
    rng = seeded(3)
    key, noise = torch.randn(count, key_dim, generator=rng), 0.05 * torch.randn(count, 2, generator=rng)
    side = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    return torch.cat((key, torch.stack((side, key[:, 0] / 2), 1) + noise), 1)[:, None]


def judged(planner, key_dim):
    """Share in a mode, share of the upper of those, deviation of the second number within a key."""
    keys = normal(100, key_dim, seed=4)
    made = drawn(planner, keys, 64)
    side = made[..., 0]
    inside = (side.abs() - 1).abs() < 0.15
    deviation = made[..., 1].std(1).mean()
    return float(inside.float().mean()), float((side[inside] > 0).float().mean()), float(deviation)


@pytest.mark.parametrize("key_dim", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_both_modes_are_kept_in_their_shares_and_between_them_there_is_nothing(key_dim, tmp_path):
    config = replace(SMALL, neighbours=15, samples=16, row_share=0.0)
    spec = PlanSpec(horizon=1, state_dim=key_dim, action_dim=2)
    planner = trained(config, spec, two_modes(2_000, key_dim), 500, folder=tmp_path)
    inside, upper, deviation = judged(planner, key_dim)
    assert inside > 0.85
    assert upper == pytest.approx(0.5, abs=0.1)
    if key_dim == 1:
        assert deviation < 1.5 * 0.05


@pytest.mark.slow
def test_the_papers_form_keeps_neither_modes_nor_spread(tmp_path):
    """Its drift does not know the sample: how samples differ stays what it was when nothing had been learnt."""
    spec = PlanSpec(horizon=1, state_dim=1, action_dim=2)
    config = replace(SMALL, form="paper", neighbours=0)
    inside, _, deviation = judged(trained(config, spec, two_modes(2_000, 1), 200, 128, folder=tmp_path), 1)
    assert inside < 0.5
    assert deviation > 3 * 0.05


# ---- T-KDP-4: what the self-mask does to the mean ----


def slope(config, folder):
    """Of the learnt mean on the true one: plans are a fixed linear map of a key of 8 numbers, and noise."""
    key = normal(4_000, 8, seed=7)
    mean = key @ normal(8, 2, seed=8) / 8**0.5
    plans = torch.cat((key, mean + 0.3 * normal(4_000, 2, seed=9)), 1)[:, None]
    spec = PlanSpec(horizon=1, state_dim=8, action_dim=2)
    planner = trained(config, spec, plans, 600, 64, 5e-3, folder)
    made, true = drawn(planner, key[:500], 16).mean(1), mean[:500]
    return float((made * true).sum() / true.square().sum())


@pytest.mark.slow
def test_the_papers_mask_makes_the_mean_too_large_and_independent_negatives_do_not(tmp_path):
    paper = replace(SMALL, form="paper", neighbours=0, width=32, normalise=False)
    assert slope(paper, tmp_path) > 1.5
    assert slope(replace(paper, negatives="independent"), tmp_path) == pytest.approx(1.0, abs=0.05)


# ---- the generator ----


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_known_entries_come_back_bit_for_bit_and_have_no_gradient(network):
    torch.manual_seed(0)
    config = replace(SMALL, network=network, unet_width=8, unet_multipliers=(1, 2))
    planner = KeyedDriftPlanner(config, GOAL)
    prior = normal(5, 4, 5).requires_grad_()
    made = planner.sample(prior, normal(5, 1, seed=1))
    assert torch.equal(made[:, planner.fixed], prior[:, planner.fixed])
    batch = {"plans": normal(6, 4, 5), "context": normal(6, 1, seed=1)}
    batch |= {"neighbours": normal(6, 3, 4, 5, seed=2), "neighbour_distance": torch.rand(6, 3, generator=seeded(3))}
    planner.training_step(batch, seeded(4))["loss"].backward()
    if network == "mlp":  # the last layer's rows are the plan's entries
        gradient = planner.network.output.weight.grad.abs().sum(1)
        assert (gradient[planner.fixed.flatten()] == 0).all()
        assert (gradient[~planner.fixed.flatten()] > 0).all()


@pytest.mark.parametrize("form", ["grouped", "paper"])
def test_the_loss_is_constant_by_design_and_the_drifts_size_is_what_shrinks(form):
    planner = KeyedDriftPlanner(replace(SMALL, form=form, row_share=0.0, temperatures=(0.2,)), GOAL)
    batch = {"plans": normal(64, 4, 5), "context": normal(64, 1, seed=1)}
    free = (~planner.fixed).float()
    losses = planner.training_step(batch, seeded())
    weighted = (planner.loss_weight * free).sum() / free.numel()
    assert losses["loss"].item() == pytest.approx(float(weighted), rel=0.15)
    sizes = [name for name in losses if name.startswith("drift.")]
    assert sizes == [f"drift.{'whole.' if form == 'grouped' else ''}0.2"]
    assert all(torch.isfinite(value) for value in losses.values())


def test_every_ablation_is_one_setting_and_trains():
    batch = {"plans": normal(8, 4, 5), "context": normal(8, 1, seed=1)}
    near = {"neighbours": normal(8, 3, 4, 5, seed=2), "neighbour_distance": torch.rand(8, 3, generator=seeded(3))}
    for form in ("grouped", "paper"):
        for changed in (
            {"keyed": False}, {"negatives": "kept"}, {"negatives": "independent"}, {"repulsion": "off"},
            {"repulsion": "literal"}, {"normalise": False}, {"temperatures": (0.05,)},
        ):  # fmt: skip
            torch.manual_seed(0)
            usual = KeyedDriftPlanner(replace(SMALL, form=form), GOAL)
            planner = KeyedDriftPlanner(replace(SMALL, form=form, **changed), GOAL)
            planner.load_state_dict(usual.state_dict())
            both = batch | (near if form == "grouped" and planner.config.keyed else {})
            grads = []
            for each in (usual, planner):
                each.zero_grad()
                loss = each.training_step(both, seeded(4))["loss"]
                loss.backward()
                grads.append(each.network.output.weight.grad.clone())
            assert torch.isfinite(grads[1]).all()
            assert not torch.allclose(*grads), f"{form} with {changed} is no other than without"


def test_the_fold_is_the_network_at_its_one_noise_index():
    torch.manual_seed(0)
    planner = KeyedDriftPlanner(SMALL, GOAL)
    with torch.no_grad():
        for p in planner.parameters():
            p.add_(0.2 * torch.randn_like(p))
    parts = fold_keyed_drift(planner)
    plans, context = normal(7, 4, 5), normal(7, 1, seed=1)
    x = torch.cat((plans.flatten(1), context), 1).double()
    h = parts.body.double()(x @ parts.first.weight.T + parts.first.bias)
    made = (h @ parts.last.weight.T + parts.last.bias).view(-1, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(made.float(), planner.network(plans, 0, context), rtol=1e-4, atol=1e-5)
    assert (
        generator_fold(KeyedDriftPlanner(replace(SMALL, network="unet", unet_width=8, unet_multipliers=(1, 2)), GOAL))
        is None
    )


@pytest.mark.parametrize(
    "wrong", [{"form": "own"}, {"samples": 1}, {"temperatures": ()}, {"temperatures": (0.0,)}, {"row_share": 2.0}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"config\.|temperatures|row_share"):
        KeyedDriftConfig(**wrong)


def test_a_start_that_the_data_never_saw_is_told_from_one_that_they_did():
    planner = KeyedDriftPlanner(SMALL, GOAL)
    prior, context = normal(2, 4, 5), normal(2, 1, seed=1)
    assert planner.unfamiliarity(prior, context) is None  # nothing is remembered yet
    keys = normal(SEEN, 6, seed=2)
    planner.remember(keys)
    prior.flatten(1)[0, planner.fixed.flatten()], context[0] = keys[7, :5], keys[7, 5:]
    prior.flatten(1)[1, planner.fixed.flatten()] = 30.0
    near, far = planner.unfamiliarity(prior, context).tolist()
    assert near == 0
    assert far > 20
    again = KeyedDriftPlanner(SMALL, GOAL)
    again.load_state_dict(planner.state_dict())  # it goes with the checkpoint
    assert torch.equal(again.unfamiliarity(prior, context), planner.unfamiliarity(prior, context))
