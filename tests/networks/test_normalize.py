"""The normaliser: z-scores, back again, and the same for a start as for the plan it begins."""

from __future__ import annotations

import pytest
import torch

from onestride.networks.normalizer import STD_FLOOR, Normalizer

H, D, C, O = 5, 6, 3, 4  # noqa: E741


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data():
    scale, shift = torch.tensor([1e-2, 1.0, 3.0, 50.0, 0.2, 7.0]), torch.tensor([0.0, -3.0, 100.0, 5.0, 0.1, -40.0])
    plans = torch.randn(200, H, D, generator=seeded()) * scale + shift
    return plans, torch.randn(200, C, generator=seeded(1)) * 9 - 4


@pytest.fixture
def normalizer(data):
    return Normalizer.fit(*data)


def test_columns_come_out_with_mean_0_and_deviation_1(normalizer, data):
    plans, context = normalizer.plans(data[0]).flatten(0, 1), normalizer.context(data[1])
    for x in (plans, context):
        torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(x.std(0), torch.ones(x.shape[1]), atol=5e-3, rtol=0)


def test_there_and_back(normalizer, data):
    torch.testing.assert_close(normalizer.unnormalize(normalizer.plans(data[0])), data[0], rtol=1e-5, atol=1e-4)
    x = torch.randn(7, H, D, generator=seeded(2))
    torch.testing.assert_close(normalizer.plans(normalizer.unnormalize(x)), x, rtol=1e-4, atol=1e-2)


def test_a_start_is_normalised_as_the_plan_it_begins(normalizer, data):
    plans = data[0]
    assert torch.equal(normalizer.start(plans[:, 0, :O]), normalizer.plans(plans)[:, 0, :O])


def test_a_constant_column_is_not_blown_up(data):
    plans, context = data
    plans[..., 2], context[:, 1] = 0.5, -2.0
    normalizer = Normalizer.fit(plans, context)
    assert normalizer.std[2] == normalizer.context_std[1] == torch.tensor(STD_FLOOR)
    assert normalizer.plans(plans)[..., 2].abs().max() < 1e-2
    assert normalizer.context(context)[:, 1].abs().max() < 1e-2
    torch.testing.assert_close(normalizer.unnormalize(normalizer.plans(plans)), plans, rtol=1e-5, atol=1e-4)


def test_one_window_is_all_constant_columns():
    normalizer = Normalizer.fit(torch.ones(1, H, D), torch.ones(1, C))
    assert torch.isfinite(normalizer.context(torch.ones(1, C))).all()


def test_it_travels_in_a_state_dict(normalizer, data):
    other = Normalizer.empty(D, C)
    assert torch.equal(other.plans(data[0]), data[0])  # the identity
    other.load_state_dict(normalizer.state_dict())
    assert torch.equal(other.plans(data[0]), normalizer.plans(data[0]))
    assert torch.equal(other.context(data[1]), normalizer.context(data[1]))


def test_a_column_that_never_varied_does_not_steer_when_it_is_off_by_a_hair():
    plans, context = torch.randn(50, 4, 3), torch.randn(50, 2)
    plans[..., 1], context[:, 0] = 7.0, -2.0
    normalizer = Normalizer.fit(plans, context)
    off, beside = plans.clone(), context.clone()
    off[..., 1] += 0.01
    beside[:, 0] += 0.01
    assert torch.equal(normalizer.plans(off), normalizer.plans(plans))
    assert torch.equal(normalizer.context(beside), normalizer.context(context))
    assert torch.equal(normalizer.start(off[:, 0, :2]), normalizer.plans(plans)[:, 0, :2])
    entries = torch.tensor([0, 1, 11])
    assert torch.equal(
        normalizer.entries(off.flatten(1)[:, entries], entries), normalizer.plans(plans).flatten(1)[:, entries]
    )
    assert (normalizer.plans(plans)[..., 1] == 0).all()
    torch.testing.assert_close(normalizer.unnormalize(normalizer.plans(plans)), plans)
