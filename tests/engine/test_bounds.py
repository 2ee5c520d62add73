"""All critics but the first are asked about few candidates, and who wins is who would have won: to the last bit."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinds import wrap
from onestride.engine import building
from onestride.engine.native import NativeRunner, library
from onestride.engine.program import work_after_bounds, write_program
from onestride.engine.reduce import reduce
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.store import make_selector_model

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in building.COMPILERS), reason="needs a C compiler, which machines to learn on have"
)
SIZES = {"latent_dim": 32, "hidden": 48, "gain_hidden": 16}


def critics(policy, members, spread):
    """As many critics, each the first one with its last layer moved by so much."""
    q, rng = policy.selector.iql.q, torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameters in (q.weights, q.biases):
            for i, parameter in enumerate(parameters):
                parameters[i] = torch.nn.Parameter(parameter[:1].repeat(members, *[1] * (parameter.dim() - 1)))
        q.weights[2][1:] += spread * torch.randn(q.weights[2][1:].shape, generator=rng)
    return policy


def both(reduced, threads, precision="float32"):
    """As it is, and with every score computed."""
    return [NativeRunner(write_program(reduced, precision, bounds=bounds), threads) for bounds in (True, False)]


def same_decisions(bounded, whole, draws, rows=None):
    """How many candidates were settled in each."""
    count = []
    rows = np.random.default_rng(4).normal(size=(150, 17)) if rows is None else rows
    for i, row in enumerate(rows.astype(np.float32)):
        wanted, found = whole.run(row, i % draws), bounded.run(row, i % draws)
        assert (found.winner, found.score) == (wanted.winner, wanted.score)
        np.testing.assert_array_equal(found.action, wanted.action)
        if wanted.plan is not None:
            np.testing.assert_array_equal(found.plan, wanted.plan)
        assert found.score == found.scores.max()
        assert (found.scores >= np.minimum(wanted.scores, wanted.score)).all()  # what is given of the others are bounds
        count.append(bounded.settled)
        assert whole.settled == len(wanted.scores)
    return np.array(count)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("candidates", [1, 8, 17, 64, 131])
def test_the_winner_is_the_same_to_the_last_bit(make, candidates, members, precision):
    if precision == "int8" and not library().onestride_levels():
        pytest.skip("needs 8 bits")
    margin = CandidateSampling((0.3, 1.0), (0.3, 0.7), temperature_penalty=0.01)
    for judged, threads, plan in ((1, 1, False), (4, 2, True), (3, 4, False)):
        policy = critics(make(candidates=candidates, sampling=margin, **SIZES), members, 0.05)
        policy.selector.options = replace(policy.selector.options, scored_steps=judged)
        count = same_decisions(*both(reduce(policy, draws=5, plan=plan), threads, precision), 5)
        assert count.max() <= candidates
        if candidates <= 8 or members == 1:
            assert (count == candidates).all()
        elif candidates >= 64:
            assert 8 <= count.min() <= 16
            assert count.mean() < 0.6 * candidates


@pytest.mark.parametrize("spread", [0.0, 0.02, 10.0])
def test_critics_that_agree_leave_little_to_do_and_others_all_that_is_needed(make, spread):
    policy = critics(make(candidates=64, **SIZES), 2, spread)
    count = same_decisions(*both(reduce(policy, draws=3), 2), 3)
    if spread == 0:
        assert (count <= 16).all()
    if spread == 10:
        assert count.max() > 32


def test_critics_that_want_the_opposite(make):
    policy = critics(make(candidates=64, **SIZES), 2, 0)
    with torch.no_grad():
        policy.selector.iql.q.weights[2][1] *= -1
    count = same_decisions(*both(reduce(policy, draws=3), 2), 3)
    assert count.max() == 64


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_at_the_critics_own_size_too_and_with_any_number_of_threads(make, precision):
    """What compilers make of a loop depends on its size, and the last bit on that."""
    if precision == "int8" and not library().onestride_levels():
        pytest.skip("needs 8 bits")
    policy = make(candidates=64, **SIZES)
    torch.manual_seed(1)
    large = make_selector_model("iql", {"hidden": 256}, policy.task)
    with torch.no_grad():
        for parameter in large.parameters():  # biases too
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.selector = wrap(large, policy.selector.normalizer, policy.task)
    policy = critics(policy, 2, 0.05)
    reduced = reduce(policy, draws=3)
    bounded, whole = both(reduced, 1, precision)
    same_decisions(bounded, whole, 3)
    for threads in (2, 3, 5):
        for runner in both(reduced, threads, precision):
            same_decisions(runner, whole, 3)


def test_a_weight_that_is_no_number_makes_nothing_win(make):
    policy = make(candidates=20, **SIZES)
    with torch.no_grad():
        policy.generator.encoder.rest[-1].weight[3, 4] = torch.nan
    reduced = reduce(policy, draws=1)
    for precision in ("float32", "int8", "screened")[: 3 if library().onestride_levels() else 1]:
        assert NativeRunner(write_program(reduced, precision), 1).run(np.zeros(17, np.float32), 0).score == -np.inf


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_whoever_is_not_finite_never_wins_whichever_critic_says_so(make, value):
    policy = critics(make(candidates=64, **SIZES), 2, 0.01)
    reduced = reduce(policy, draws=1)
    row = np.zeros(17, np.float32)
    best = both(reduced, 1)[0].run(row, 0).winner
    reduced.bank[0, best, 3] = value
    bounded, whole = both(reduced, 2)
    found = bounded.run(row, 0)
    assert found.winner != best
    assert found.scores[best] == -np.inf
    assert (found.winner, found.score) == (whole.run(row, 0).winner, whole.run(row, 0).score)
    for member in (0, 1):
        policy = critics(make(candidates=64, **SIZES), 2, 0.01)
        with torch.no_grad():
            policy.selector.iql.q.weights[2][member, 0] = value
        bounded, whole = both(reduce(policy, draws=1), 2)
        for runner in (bounded, whole):
            assert runner.run(row, 0).score == -np.inf
        assert bounded.settled == (64 if member else 0)


def test_what_bounds_save_is_what_one_critic_takes(make):
    """Written out for three rows of state and action, and an action alone."""
    policy = critics(make(candidates=64, **SIZES), 2, 0)
    policy.selector.options = replace(policy.selector.options, scored_steps=4)
    reduced, width, dim = reduce(policy, draws=1), 16, 23
    flop, moved = work_after_bounds(write_program(reduced))
    assert flop == 2 * (6 * width + 3 * dim * width + 4 * (width * width + width))
    assert moved == 4 * ((6 + width) + 3 * (dim + width) + 4 * (2 * width + width + 1))
    assert work_after_bounds(write_program(reduced, bounds=False)) == (0, 0)
