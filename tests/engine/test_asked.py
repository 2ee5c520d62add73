"""Conditions in the engine: asked for between decisions, as the policy asks; asked for nothing, they are not there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from asked_policy import SETTINGS, asked_policy, asked_task
from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.engine.folder import load_contract
from onestride.methods.koopman import KoopmanConfig, KoopmanStudent
from onestride.policy.policy import Policy, unselected

ASKED = ({}, {"return": 1.0}, {"place": (0.2, 0.9)}, {"return": -0.5, "place": (1.0, 0.0)})


@pytest.fixture(scope="module")
def task():
    return asked_task()


@pytest.fixture
def policy():
    """A student of random weights whose plans may be asked for."""
    return asked_policy(candidates=3)


@pytest.fixture
def observation(task):
    return np.random.default_rng(0).normal(size=task.control.observation_dim)


def engine_of(policy, backend):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    return Engine.from_policy(policy, backend, threads=1, draws=4, seed=5)


@pytest.mark.parametrize("backend", ["native", "onnx", "torch"])
def test_an_engine_asks_as_its_policy_does(policy, observation, backend):
    engine, actions = engine_of(policy, backend), []
    for asked in ASKED:
        policy.ask(**asked)
        engine.ask(**asked)
        policy.reset(5)
        engine.reset()
        actions.append(policy.decide(observation).action)
        np.testing.assert_allclose(engine.decide(observation).action, actions[-1], atol=2e-5)
    assert len({tuple(action.round(4)) for action in actions}) == len(ASKED)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "onnx", "torch"])
def test_what_the_policy_asked_for_is_asked_for_at_first(policy, observation, backend):
    policy.ask(**{"return": 0.25})
    engine = engine_of(policy, backend)
    policy.reset(5)
    np.testing.assert_allclose(engine.decide(observation).action, policy.decide(observation).action, atol=2e-5)


@pytest.mark.parametrize("backend", [None, "native", "torch"])
def test_asked_for_nothing_it_is_the_planner_without_conditions_bit_for_bit(policy, task, observation, backend):
    plain = replace(task, conditions=())
    student = KoopmanStudent(KoopmanConfig(**SETTINGS), plain.plans)
    student.load_state_dict(
        {k: v for k, v in policy.generator.planner.state_dict().items() if not k.startswith("encoder.context")}
    )
    without = Policy(plain, student, policy.normalizer, selector=unselected, candidates=3)
    deciders = [each if backend is None else engine_of(each, backend) for each in (policy, without)]
    for decider in deciders:
        decider.reset(0)
    mine, theirs = (decider.decide(observation) for decider in deciders)
    np.testing.assert_array_equal(mine.action, theirs.action)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "onnx"])
def test_an_exported_folder_is_asked_and_says_for_what(policy, observation, tmp_path, form):
    pytest.importorskip("onnxruntime")
    policy.ask(**{"return": 1.0})
    export(policy, tmp_path / "out", form=form, draws=4, seed=5, checkpoint=None)
    said = load_contract(tmp_path / "out")["inputs"]["asked"]
    assert said["names"] == ["return", "place"]
    assert (said["sizes"], said["shape"], said["usual"]) == ([1, 2], [3], [1.0, None, None])
    engine = Engine.from_folder(tmp_path / "out", threads=1)
    for asked in ({"return": 1.0}, {"return": -1.0, "place": (0.5, 0.5)}):
        policy.ask(**asked)
        policy.reset(5)
        if asked != {"return": 1.0}:
            engine.ask(**asked)
        engine.reset()
        np.testing.assert_allclose(engine.decide(observation).action, policy.decide(observation).action, atol=2e-5)
    with pytest.raises(ValueError, match=r"condition 'return' is 2, expected -1 to 1"):
        engine.ask(**{"return": 2.0})
    with pytest.raises(ValueError, match=r"condition 'mass' of 1 numbers was not learnt; learnt: return \(1\)"):
        engine.ask(mass=7.0)


@pytest.mark.slow
@pytest.mark.parametrize("form", [pytest.param("native", marks=pytest.mark.slow), "onnx"])
def test_the_examples_beside_it_ask_as_the_policy_does(policy, task, tmp_path, form):
    """The program that is written decides what the policy does at an episode's first observation."""
    pytest.importorskip("onnxruntime")
    policy.ask(**{"return": -1.0})
    export(policy, tmp_path / "out", form=form, draws=4, seed=5, checkpoint=None)
    ran = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )  # fmt: skip
    first = np.array([float(x) for x in ran.stdout.partition("[")[2].partition("]")[0].split()])
    policy.reset(5)
    observed = np.array([float(f"{x:.6g}") for x in task.first_observation(task.scenes(1, 0)[0])])
    np.testing.assert_allclose(first, policy.decide(observed).action, atol=1e-4)
