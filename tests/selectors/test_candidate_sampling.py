"""Candidates' temperatures: in the given proportions, and what the penalty takes from the score of hot ones."""

from __future__ import annotations

import pytest
import torch

from onestride.selectors.candidate_sampling import CandidateSampling


@pytest.mark.parametrize(
    ("count", "found"), [(64, [16, 32, 16]), (8, [2, 4, 2]), (4, [1, 2, 1]), (3, [1, 1, 1]), (1, [0, 1, 0])]
)
def test_temperatures_come_in_their_shares(count, found):
    of = CandidateSampling().temperatures_of(count)
    assert [int((of == t).sum()) for t in torch.tensor([0.3, 0.5, 0.7])] == found
    assert torch.equal(of, of.sort().values)


def test_the_penalty_grows_above_what_is_free_of_it():
    sampling = CandidateSampling(
        (1.0, 0.2, 0.6, 0.4), (0.4, 0.2, 0.2, 0.2), temperature_penalty=5.0, penalty_free_below=0.4
    )
    torch.testing.assert_close(sampling.score_penalty(5), torch.tensor([3.0, 3.0, 0.0, 1.0, 0.0]))
    assert CandidateSampling().score_penalty(4) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (((0.3,), (0.5,)), r"temperatures \(0.3,\) need as many probabilities, adding up to 1, got \(0.5,\)"),
        (((0.3, 0.5), (1.0,)), "as many probabilities"),
        (((0.0, 1.0), (0.5, 0.5)), "must be above 0"),
        (((0.3, 1.0), (1.5, -0.5)), "at least 0"),
        (((0.3,), (1.0,), -1.0), "temperature_penalty at least 0; got .* and -1.0"),
        (((0.3,), (1.0,), float("inf")), "and inf"),
        (((0.3,), (1.0,), float("nan")), "and nan"),
        (
            ((0.7, 1.0), (0.5, 0.5), 1.0),
            r"penalty_free_below is 0.5, expected at least the lowest of the temperatures \(0.7, 1.0\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        CandidateSampling(*settings)
