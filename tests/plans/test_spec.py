"""Plans' shapes, and where their known entries are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.plans.given import make_prior, mask_of, order_of
from onestride.plans.spec import Block, PlanSpec

SIZES = {"horizon": 4, "state_dim": 2, "action_dim": 1, "context_dim": 3}


def test_by_default_the_first_rows_observation_is_known():
    spec = PlanSpec(**SIZES)
    assert spec.starts_with_observation
    assert spec.known_entries.tolist() == [0, 1]
    assert spec.row_dim == 3
    assert order_of(spec) is None


@pytest.mark.parametrize(
    ("known", "entries"),
    [
        ((), []),
        ((Block(-1, 0, 2),), [9, 10]),
        ((Block(0, 0, 2), Block(-1, 0, 1)), [0, 1, 9]),
        ((Block(1, 2, 3), Block(0, 0, 3)), [0, 1, 2, 5]),  # actions that are committed; the order of naming is nothing
    ],
)
def test_anything_may_be_known(known, entries):
    spec = PlanSpec(**SIZES, known=known)
    assert spec.known_entries.tolist() == entries
    assert sorted([*spec.known_entries, *spec.free_entries]) == list(range(12))
    assert np.flatnonzero(spec.mask).tolist() == entries
    order = order_of(spec)
    assert order is not None
    plan = torch.randn(5, 12)
    parts = torch.cat((plan[:, spec.known_entries], plan[:, spec.free_entries]), 1)
    assert torch.equal(parts[:, order], plan)


@pytest.mark.parametrize(
    "known", [(Block(4, 0, 1),), (Block(0, 0, 4),), (Block(-5, 0, 1),), (Block(3, 0, 2), Block(-1, 1, 2))]
)
def test_entries_outside_of_the_plan_or_named_twice_are_refused(known):
    with pytest.raises(ValueError, match="lie outside of a plan of 4 rows and 3 columns, or are named twice"):
        PlanSpec(**SIZES, known=known)


def test_a_plan_without_rows_or_columns_is_refused():
    for sizes in ({"horizon": 0}, {"state_dim": 0, "action_dim": 0}, {"context_dim": -1}):
        with pytest.raises(ValueError, match="at least one row and one column"):
            PlanSpec(**SIZES | sizes)


def test_a_prior_is_scaled_noise_with_what_is_known_put_in():
    spec = PlanSpec(**SIZES, known=(Block(0, 0, 2), Block(-1, 0, 2)))
    noise, values = torch.randn(6, 4, 3), torch.randn(6, 4)
    prior = make_prior(noise, torch.full((6,), 0.5), values, torch.from_numpy(spec.known_entries))
    assert torch.equal(prior[:, mask_of(spec)], values)
    assert torch.equal(prior[:, ~mask_of(spec)], 0.5 * noise[:, ~mask_of(spec)])
