"""Screened in 8 bits, decided in float32: the same winner and action, but where 8 bits see too little."""

from __future__ import annotations

import platform
import shutil

import numpy as np
import pytest
import torch

from onestride.engine import building, native
from onestride.engine.native import NativeRunner, library
from onestride.engine.program import write_program
from onestride.engine.reduce import reduce
from onestride.selectors.candidate_sampling import CandidateSampling

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in building.COMPILERS), reason="needs a C compiler, which machines to learn on have"
)
has_8_bits = pytest.mark.skipif("not library().onestride_levels()", reason="needs 8 bits")
SIZES = {"latent_dim": 64, "hidden": 64, "gain_hidden": 32}  # at which 8 bits are off


def pair(reduced, threads=1):
    """In float32, every score, and screened."""
    exact = NativeRunner(write_program(reduced, bounds=False), 1)
    return exact, NativeRunner(write_program(reduced, "screened"), threads, "native-screened")


def same(found, wanted):
    assert found.winner == wanted.winner
    np.testing.assert_allclose(found.score, wanted.score, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.action, wanted.action, atol=1e-6)
    if wanted.plan is not None:
        np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-5)
    assert found.score == found.scores.max()


@has_8_bits
@pytest.mark.parametrize("selector", ["iql", "returns", "margin"])
@pytest.mark.parametrize("candidates", [16, 64, 131])
def test_neither_winner_nor_action_change(make, selector, candidates):
    """Whoever wins is computed in float32; of others some keep the score of 8 bits, who could not have won."""
    kind = "iql" if selector == "margin" else selector
    sampling = (
        CandidateSampling((0.3, 0.6, 1.0), (0.25, 0.25, 0.5), 0.02, penalty_free_below=0.3)
        if selector == "margin"
        else None
    )
    policy = make(selector=kind, sampling=sampling, candidates=candidates, **SIZES)
    reduced, crude = reduce(policy, draws=5, plan=True), 0
    exact, one = pair(reduced)
    three = NativeRunner(write_program(reduced, "screened"), 3, "native-screened")
    for i, row in enumerate(np.random.default_rng(3).normal(size=(400, 17)).astype(np.float32)):
        wanted = exact.run(row, i % 5)
        found, again = one.run(row, i % 5), three.run(row, i % 5)
        same(found, wanted)
        same(again, found)
        np.testing.assert_allclose(again.scores, found.scores, rtol=1e-6, atol=1e-6)
        crude += int((found.scores != wanted.scores).sum())
    assert (crude > 0) == (candidates > 16)


@has_8_bits
def test_the_arm(make_arm_policy, arm_rows):
    reduced = reduce(make_arm_policy("student"), draws=3, plan=True)
    exact, screened = pair(reduced, threads=2)
    for i, row in enumerate(arm_rows(60).astype(np.float32)):
        same(screened.run(row, i % 3), exact.run(row, i % 3))


@has_8_bits
def test_where_8_bits_see_little_the_work_has_a_bound(make):
    """Scores that 8 bits can hardly tell apart: one of the best is decided for, in float32."""
    policy = make(candidates=64, **SIZES)
    with torch.no_grad():
        policy.generator.decoder[6].weight *= 1e-2
    exact, screened = pair(reduce(policy, draws=2))
    computed, others = [], 0
    for i, row in enumerate(np.random.default_rng(0).normal(size=(300, 17)).astype(np.float32)):
        wanted, found = exact.run(row, i % 2), screened.run(row, i % 2)
        others += found.winner != wanted.winner
        assert found.score == found.scores.max() == found.scores[found.winner]
        np.testing.assert_allclose(found.score, wanted.scores[found.winner], rtol=1e-6, atol=1e-6)
        assert wanted.score - found.score < 2 * 255 / library().onestride_levels() * wanted.scores.std()
        computed.append(int((found.scores == wanted.scores).sum()))
    assert 16 <= min(computed) < 32 <= max(computed) < 40  # a score of 8 bits may be exact
    assert 0 < others < 60 * 255 / library().onestride_levels()


@has_8_bits
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_candidates_that_are_not_finite_never_win(make, value):
    reduced = reduce(make(candidates=64, **SIZES), draws=1)
    row = np.zeros(17, np.float32)
    best = pair(reduced)[0].run(row, 0).winner
    reduced.bank[0, best, 3] = value
    exact, screened = pair(reduced)
    same(screened.run(row, 0), exact.run(row, 0))
    assert screened.run(row, 0).scores[best] == -np.inf
    reduced.bank[0, 8:, 3] = value
    exact, screened = pair(reduced)
    wanted, found = exact.run(row, 0), screened.run(row, 0)
    same(found, wanted)
    assert found.winner < 8
    reduced.bank[...] = value
    assert pair(reduced)[1].run(row, 0).score == -np.inf


def test_without_8_bits_everything_is_float32(make, tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "-mno-avx2" if platform.machine() == "x86_64" else "-march=armv8-a")
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    exact, screened = pair(reduce(make(candidates=64, **SIZES), draws=2), threads=2)
    for i, row in enumerate(np.random.default_rng(0).normal(size=(20, 17)).astype(np.float32)):
        np.testing.assert_array_equal(screened.run(row, i % 2).scores, exact.run(row, i % 2).scores)
