"""The engine decides as the policy does, refuses what the policy refuses, and keeps its memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onestride.engine import runners
from onestride.engine.backends import BACKENDS
from onestride.engine.engine import Engine
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.native import library
from onestride.engine.runners import OnnxRunner, fastest, thread_counts
from onestride.robot.control_spec import ObservationError
from onestride.robot.decision import Decision, NoPlanError

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("backend", ["onnx", "torch", "auto"])
def test_it_decides_as_the_policy_does_and_comes_round(make, observations, backend):
    policy = make()
    engine = Engine.from_policy(policy, backend, threads=1, draws=3, seed=4)
    for _ in range(2):
        policy.reset(4)
        for observation in observations[:3]:
            wanted, found = policy.decide(observation), engine.decide(observation)
            assert isinstance(found, Decision)
            assert found.action.dtype == np.float64
            np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
            assert set(found.timings) == set(wanted.timings)
    assert "torch" in engine.chosen if backend in ("torch", "auto") else engine.chosen == "onnx, 1 thread"


@pytest.mark.slow
def test_the_arm_and_its_refusals(make_arm_policy, observation):
    policy = make_arm_policy("student")
    engine = Engine.from_policy(policy, "onnx", threads=1, draws=2, plan=True)
    policy.reset(0)
    wanted, found = policy.decide(observation), engine.decide(observation)
    np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
    np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)
    assert found.plans.shape == (1, 32, 9)
    far = observation.copy()
    far[6] = 2.0
    with pytest.raises(ObservationError, match="outside the workspace"):
        engine.decide(far)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_observation_is_refused_before_the_graph_sees_it(make, observations, bad):
    engine = Engine.from_policy(make(), "torch", draws=2)
    seen = []
    engine.runner.run = lambda *given: seen.append(given)
    with pytest.raises(ObservationError, match="shape"):
        engine.decide(observations[0][:-1])
    observations[0][5] = bad
    with pytest.raises(ObservationError, match=r"observation\[5\]"):
        engine.decide(observations[0])
    assert seen == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_no_finite_candidate_is_an_error(make, observations, backend):
    policy = make()
    with torch.no_grad():
        policy.generator.decoder[6].bias[20] = torch.nan
    with pytest.raises(NoPlanError, match="none of 16 candidates"):
        Engine.from_policy(policy, backend, threads=1, draws=2).decide(observations[0])


@pytest.mark.slow
def test_what_was_given_back_stays(make, observations):
    engine = Engine.from_policy(make(), "onnx", threads=1, draws=4)
    first = engine.decide(observations[0])
    action, scores = first.action.copy(), first.scores.copy()
    engine.decide(observations[1])
    np.testing.assert_array_equal(first.action, action)
    np.testing.assert_array_equal(first.scores, scores)
    engine.reset()
    np.testing.assert_array_equal(engine.decide(observations[0]).action, action)


@pytest.mark.slow
def test_buffers_are_made_once(make, observations):
    runner = Engine.from_policy(make(), "onnx", threads=1, draws=4).runner
    assert isinstance(runner, OnnxRunner)
    one = runner.run(observations[0].astype(np.float32), 0)
    two = runner.run(observations[1].astype(np.float32), 1)
    assert one.action is two.action
    assert one.scores is two.scores


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell where threads may run")
@pytest.mark.parametrize("backend", ["native", "onnx"])
def test_a_decision_of_two_threads_is_bound_to_no_core(make, observations, backend):
    """On a core that other work wants, a thread that may not leave it waits for the scheduler."""
    here = Path("/proc/self/task")
    before = {thread.name for thread in here.iterdir()}
    two, one = (Engine.from_policy(make(), backend, threads=n, draws=2, seed=1) for n in (2, 1))
    np.testing.assert_allclose(two.decide(observations[0]).scores, one.decide(observations[0]).scores, atol=1e-5)
    started = {thread.name for thread in here.iterdir()} - before
    assert started
    for thread in (0, *map(int, started)):
        assert os.sched_getaffinity(thread) == os.sched_getaffinity(0)


class Fake:
    """A runner whose decisions take so many milliseconds each, on a clock that only it and pauses move."""

    checks = True

    def __init__(self, name, durations, clock):
        self.name, self.durations, self.clock = name, iter(durations), clock

    def run(self, observation, draw):
        self.clock.now += 1e-3 * next(self.durations)


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(runners, "time", SimpleNamespace(sleep=lambda s: None, perf_counter=lambda: made.now))
    return made


COUNT = 3 + runners.ROWS * runners.IN_A_ROW


@pytest.mark.parametrize("first", range(COUNT - 5))
def test_the_fastest_survives_one_slow_moment(point, clock, first):
    """Five decisions in a row of the better one are a hundred times as slow, wherever they fall."""
    hit = [200.0 if first <= i < first + 5 else 1.0 for i in range(COUNT)]
    quick, slow = Fake("quick", hit, clock), Fake("slow", [2.0] * COUNT, clock)
    assert fastest([slow, quick], point.control) == (
        quick,
        "quick: 1.00 ms at the start, the slowest of 4 decisions (others: slow 2.00)",
    )


def test_the_fastest_is_not_one_that_is_slow_again_and_again(point, clock):
    often = Fake("often", [9.0 if i % 3 == 0 else 1.0 for i in range(COUNT)], clock)
    steady = Fake("steady", [2.0] * COUNT, clock)
    assert fastest([often, steady], point.control)[0] is steady
    assert fastest([steady], point.control) == (steady, "steady")


@pytest.mark.slow
def test_choices_that_are_none(make):
    with pytest.raises(ValueError, match="there are auto, native"):
        Engine.from_policy(make(), "tensorrt")
    with pytest.raises(ValueError, match="threads is 0"):
        Engine.from_policy(make(), "onnx", threads=0)
    with pytest.raises(NoEngineError, match="give the policy a selector"):
        Engine.from_policy(make(selector=None))
    assert thread_counts(3) == [3]
    assert thread_counts(None)[0] == 1
    assert "cuda-graph" in BACKENDS


def test_without_the_extra_torch_runs_and_onnx_says_what_to_install(make, observations, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "onestride\[export\]"'):
        Engine.from_policy(make(), "onnx")
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr("onestride.engine.native.library", library.__wrapped__)
    assert Engine.from_policy(make(), "auto").chosen == "torch"


@pytest.mark.slow
def test_the_compiled_module_says_the_same(make, observations):
    policy = make()
    engine = Engine.from_policy(policy, "compile", draws=2, seed=1)
    policy.reset(1)
    np.testing.assert_allclose(engine.decide(observations[0]).action, policy.decide(observations[0]).action, atol=1e-5)


def test_two_threads_that_decide_by_one_engine_are_told(make, observations):
    """Its buffers are one thread's: the other's answer would be lost, or sent to the wrong robot."""
    engine = Engine.from_policy(make(), "torch", draws=1)
    begun, go_on, wanted = threading.Event(), threading.Event(), engine.decide(observations[0]).action
    run = engine.runner.run

    def slow(observation, draw):
        begun.set()
        go_on.wait(10)
        return run(observation, draw)

    engine.runner.run = slow
    answers = []
    thread = threading.Thread(target=lambda: answers.append(engine.decide(observations[0]).action))
    thread.start()
    begun.wait(10)
    with pytest.raises(RuntimeError, match="two threads decide by one engine"):
        engine.decide(observations[1])
    go_on.set()
    thread.join(10)
    np.testing.assert_array_equal(answers[0], wanted)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("kind", [str, object, complex, bool])
def test_observations_that_are_no_numbers_are_refused_by_all_alike(make, observations, backend, kind):
    policy = make()
    for decider in (policy, Engine.from_policy(policy, backend, threads=1)):
        with pytest.raises(ObservationError, match="expected of float or integer numbers"):
            decider.decide(observations[0].astype(kind))


def test_many_observations_or_none(make, observations):
    policy = make()
    engine = Engine.from_policy(policy, "torch")
    assert engine.act(observations[:0]).shape == (0, policy.control.action_dim)
    assert engine.act(observations[:2]).shape == (2, policy.control.action_dim)
    for wrong in (observations[:0], observations[0]):
        with pytest.raises(ValueError, match="B at least 1"):
            policy.act(wrong)
