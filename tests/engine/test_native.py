"""The program decides as the folded module does, on any vectors and threads, and nothing in it leads outside of it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinds import FOLDED
from native_engines import agree, native_of
from onestride.compiling import COMPILERS
from onestride.engine import native
from onestride.engine.engine import Engine
from onestride.engine.fold.policy import fold
from onestride.engine.native import NativeRunner, library
from onestride.engine.program import write_program
from onestride.latency.subjects import untrained
from onestride.methods.koopman import OPERATORS
from onestride.robot.decision import NoPlanError
from onestride.runs import presets
from onestride.selectors.candidate_sampling import CandidateSampling

pytestmark = pytest.mark.skipif(
    not any(shutil.which(c) for c in COMPILERS), reason="needs a C compiler, which machines to learn on have"
)


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("selector", ["iql", "returns"])
@pytest.mark.parametrize(("kind", "settings"), FOLDED, ids=lambda v: str(v))
def test_it_is_the_reduced_module(make, kind, settings, selector, plan):
    folded = fold(make(kind, selector=selector, **settings), draws=3, plan=plan)
    agree(native_of(folded, 1), folded)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_critic_may_judge_several_rows(make, rows):
    policy = make()
    policy.selector.options = replace(policy.selector.options, scored_steps=rows)
    folded = fold(policy, draws=3)
    agree(native_of(folded, 2), folded)


@pytest.mark.parametrize("candidates", [1, 5, 64])
def test_hot_candidates_need_a_margin(make, candidates):
    policy = make(sampling=CandidateSampling((0.3, 1.0), (0.3, 0.7), temperature_penalty=0.3), candidates=candidates)
    folded = fold(policy, draws=3)
    for threads in (1, 3):
        agree(native_of(folded, threads), folded)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_arm_its_frame_and_its_geometry(make_arm_policy, arm_rows, operator):
    folded = fold(make_arm_policy("student", operator=operator), draws=4, plan=True)
    agree(native_of(folded, 2), folded, rows=arm_rows(60), atol=1e-6)


@pytest.mark.parametrize("obstacles", ["none", "spheres", "boxes"])
@pytest.mark.parametrize("place", ["at the goal", "above it", "beside a wall"])
def test_the_arm_where_it_is_delicate(make_arm_policy, arm_rows, place, obstacles):
    rows = arm_rows(8)
    kinds = rows[:, 9::8]
    kinds[:] = {"none": 0, "spheres": 1, "boxes": 2}[obstacles]
    for extent in (13, 14, 15):
        rows[:, extent::8] = np.maximum(rows[:, extent::8], 0.02)
    if place == "at the goal":
        rows[:, :3] = rows[:, 6:9]
    elif place == "above it":
        rows[:, :3] = rows[:, 6:9] + np.array([0.0, 0.0, 0.1])
    else:
        rows[:, 1] = -0.34
    folded = fold(make_arm_policy("student"), draws=2)
    agree(native_of(folded, 1), folded, rows=rows, atol=1e-6)


@pytest.mark.parametrize("sizes", [(16, 24, 8), (64, 48, 33), (50, 97, 17)])
@pytest.mark.parametrize("candidates", [1, 5, 64, 67])
def test_any_sizes(make, sizes, candidates):
    latent, hidden, gains = sizes
    policy = make(candidates=candidates, latent_dim=latent, hidden=hidden, gain_hidden=gains)
    folded = fold(policy, draws=2, plan=True)
    agree(native_of(folded, 2), folded, count=10)


def test_threads_change_no_bit_and_never_meet_another_decision(make):
    folded = fold(make(candidates=64, latent_dim=64, hidden=64), draws=7)
    program = write_program(folded)
    one, more = NativeRunner(program, 1), [NativeRunner(program, n) for n in (2, 3, 4)]
    rows = np.random.default_rng(1).normal(size=(400, 17)).astype(np.float32)
    for i, row in enumerate(rows):
        wanted = one.run(row, i % 7)
        for runner in more:
            found = runner.run(row, i % 7)
            assert found.winner == wanted.winner
            np.testing.assert_array_equal(found.scores, wanted.scores)
            np.testing.assert_array_equal(found.action, wanted.action)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_who_asks_does_not_wait_for_threads_that_do_not_run(make, tmp_path):
    """In a forked process the helpers are not there at all, wherever they were when it was forked: many times."""
    folded = fold(make(candidates=64, latent_dim=64, hidden=64), draws=2)
    (tmp_path / "program.bin").write_bytes(write_program(folded))
    code = (
        "import os, signal, sys, numpy as np\n"
        "from onestride.engine.native import NativeRunner\n"
        f"program = open({str(tmp_path / 'program.bin')!r}, 'rb').read()\n"
        "row = np.full(17, 0.3, np.float32)\n"
        "for i in range(150):\n"
        "    runner = NativeRunner(program, 4)\n"
        "    for _ in range(1 + i % 4):\n"
        "        wanted = runner.run(row, 1).scores.copy()\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        same = all(np.array_equal(runner.run(row, 1).scores, wanted) for _ in range(20))\n"
        "        os._exit(7 if same else 8)\n"
        "    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != 7:\n"
        "        sys.exit(code)\n"
        "sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=100, check=False).returncode == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_ends_with_the_engine_it_was_given(make):
    runner = NativeRunner(write_program(fold(make(candidates=64), draws=1)), 3)
    wanted = runner.run(np.zeros(17, np.float32), 0).score
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        same = runner.run(np.zeros(17, np.float32), 0).score == wanted
        del runner
        os._exit(7 if same else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names vectors of x86")
@pytest.mark.parametrize("flags", [pytest.param("-mno-avx512f", marks=pytest.mark.slow), "-march=x86-64"])
def test_narrower_vectors_decide_the_same(make, make_arm_policy, arm_rows, flags, tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", flags)
    monkeypatch.setattr(native, "library", lambda: library.__wrapped__(tmp_path))
    folded = fold(make(candidates=19, latent_dim=50, hidden=97, gain_hidden=17), draws=2)
    runner = native_of(folded, 2)
    assert runner._library.onestride_lanes() == (8 if "avx512" in flags else 4)
    agree(runner, folded)
    folded = fold(make_arm_policy("student"), draws=2)
    agree(native_of(folded, 1), folded, rows=arm_rows(20), atol=1e-6)


def test_the_engine_decides_as_the_policy_does(make, observations):
    policy = make()
    engine = Engine.from_policy(policy, "native", threads=2, draws=3, seed=4, plan=True)
    assert engine.chosen == "native, 2 threads"
    for _ in range(2):
        policy.reset(4)
        for observation in observations[:3]:
            wanted, found = policy.decide(observation), engine.decide(observation)
            np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
            np.testing.assert_allclose(found.scores.max(), wanted.scores.max(), atol=1e-5)
            np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)


def test_any_draw_comes_round(make, observations):
    runner, row = NativeRunner(write_program(fold(make(), draws=3)), 1), observations[0].astype(np.float32)
    wanted = [runner.run(row, draw).scores.copy() for draw in range(3)]
    assert not np.array_equal(wanted[0], wanted[1])
    for draw in (-4, 3, 301, 2**31 - 1):
        np.testing.assert_array_equal(runner.run(row, draw).scores, wanted[draw % 3])


def test_a_candidate_that_is_not_finite_never_wins(make, observations):
    policy = make(candidates=8)
    folded = fold(policy, draws=1)
    clean = NativeRunner(write_program(folded), 1).run(observations[0].astype(np.float32), 0)
    best = clean.winner
    for value in (torch.nan, torch.inf):
        folded.noise_bank[0, best, 0] = value
        found = NativeRunner(write_program(folded), 1).run(observations[0].astype(np.float32), 0)
        assert found.winner != best
        assert found.scores[best] == -np.inf
    with torch.no_grad():
        policy.generator.decoder[6].bias[20] = torch.nan
    with pytest.raises(NoPlanError, match="none of 8 candidates"):
        Engine.from_policy(policy, "native", threads=1, draws=2).decide(observations[0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("member", [0, 1])
def test_a_critic_that_is_not_finite_makes_nothing_win(make, member, value):
    policy = make(candidates=20)
    with torch.no_grad():
        policy.selector.iql.q.weights[2][member, 0] = value
    folded = fold(policy, draws=1)
    for precision in ("float32", "int8")[: 2 if library().onestride_levels() else 1]:
        assert NativeRunner(write_program(folded, precision), 2).run(np.zeros(17, np.float32), 0).score == -np.inf


@pytest.mark.slow
@pytest.mark.parametrize("name", ["halfcheetah-small", "walker2d-small", "demo"])
def test_ten_thousand_observations_at_the_presets_sizes(name, arm_rows):
    """Beside the plain policy itself, with its own noise; in float32 another winner only where it sees a tie."""
    torch.manual_seed(0)
    policy = untrained(presets.load(name))["student"]
    with torch.no_grad():
        for parameter in policy.generator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    folded = fold(policy, draws=100, seed=5)
    runner = NativeRunner(write_program(folded), 2)
    dim = policy.control.observation_dim
    rows = arm_rows(10_000) if name == "demo" else np.random.default_rng(0).normal(size=(10_000, dim))
    same = 0
    for i, row in enumerate(rows.astype(np.float32)):
        if i % 100 == 0:
            policy.reset(5)
        wanted = policy.decide(row.astype(np.float64))
        found = runner.run(row, i % 100)
        if found.winner == int(wanted.scores.argmax()):
            same += 1
            np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
        else:
            assert wanted.scores.max() - wanted.scores[found.winner] <= 1e-4 * wanted.scores.std() + 1e-6
    assert same >= 9_990
