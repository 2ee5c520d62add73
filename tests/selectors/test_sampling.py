"""Candidates' temperatures: in the shares that are said, and what a margin takes from the score of hot ones."""

from __future__ import annotations

import pytest
import torch

from onestride.selectors.sampling import Sampling


@pytest.mark.parametrize(
    ("count", "found"), [(64, [16, 32, 16]), (8, [2, 4, 2]), (4, [1, 2, 1]), (3, [1, 1, 1]), (1, [0, 1, 0])]
)
def test_temperatures_come_in_their_shares(count, found):
    of = Sampling().of(count)
    assert [int((of == t).sum()) for t in torch.tensor([0.3, 0.5, 0.7])] == found
    assert torch.equal(of, of.sort().values)


def test_a_margin_grows_above_what_is_cool():
    sampling = Sampling((1.0, 0.2, 0.6, 0.4), (0.4, 0.2, 0.2, 0.2), margin=5.0, cool=0.4)
    torch.testing.assert_close(sampling.handicap(5), torch.tensor([3.0, 3.0, 0.0, 1.0, 0.0]))
    assert Sampling().handicap(4) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (((0.3,), (0.5,)), r"temperatures \(0.3,\) need as many shares, adding up to 1, got \(0.5,\)"),
        (((0.3, 0.5), (1.0,)), "as many shares"),
        (((0.0, 1.0), (0.5, 0.5)), "must be above 0"),
        (((0.3, 1.0), (1.5, -0.5)), "at least 0"),
        (((0.3,), (1.0,), -1.0), "margin at least 0; got .* and -1.0"),
        (((0.3,), (1.0,), float("inf")), "and inf"),
        (((0.3,), (1.0,), float("nan")), "and nan"),
        (((0.7, 1.0), (0.5, 0.5), 1.0), r"cool is 0.5: nobody is, of temperatures \(0.7, 1.0\)"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Sampling(*settings)
