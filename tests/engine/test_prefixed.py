"""A prefix in the engine: committed at a decision, as the policy commits it; one without it is as it was."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.engine.fold.parts import NoEngineError
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy, unselected
from onestride.policy.store import make_generator
from onestride.tasks import TASKS

SETTINGS = {"operator": "dnk", "latent_dim": 32, "hidden": 48, "gain_hidden": 16}
P = 3


@pytest.fixture
def policy():
    task = replace(TASKS["halfcheetah-v5"](), prefix=P)
    torch.manual_seed(0)
    generator = make_generator(task, "dnk", SETTINGS)
    scale = torch.linspace(0.5, 2.0, task.control.transition_dim)
    normalizer = Normalizer(scale - 1, scale, torch.zeros(0), torch.zeros(0))
    return Policy(task, generator, normalizer, selector=unselected, candidates=3)


def decide_alike(engine, policy):
    rng = np.random.default_rng(0)
    observation, plans = rng.normal(size=policy.control.observation_dim), []
    assert engine.longest_prefix == P
    for n in (None, 2, 0, 3, None):  # what was committed once is not the next time
        committed = None if n is None else rng.uniform(-1, 1, (n, policy.control.action_dim))
        policy.reset(5)
        engine.reset()
        mine, theirs = policy.decide(observation, committed=committed), engine.decide(observation, committed=committed)
        np.testing.assert_allclose(theirs.plan, mine.plan, atol=2e-5)
        if n:
            np.testing.assert_array_equal(theirs.action, committed[0])
        plans.append(mine.plan)
    np.testing.assert_array_equal(plans[0], plans[-1])
    assert np.abs(plans[1][P:] - plans[0][P:]).max() > 1e-3  # the rest goes on from it


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_an_engine_commits_as_its_policy_does(policy, backend):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    decide_alike(Engine.from_policy(policy, backend, threads=1, draws=4, seed=5, plan=True), policy)


@pytest.mark.slow
def test_an_exported_folder_commits_and_says_how_many(policy, tmp_path):
    pytest.importorskip("onnxruntime")
    export(policy, tmp_path / "out", form="onnx", draws=4, seed=5, checkpoint=None)
    decide_alike(Engine.from_folder(tmp_path / "out", threads=1), policy)
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path / "out", capture_output=True, check=True)


def test_the_native_engine_says_that_it_has_none(policy):
    with pytest.raises(NoEngineError):
        Engine.from_policy(policy, "native", threads=1, draws=4, seed=5)
    with pytest.raises(ValueError, match=r"expected \(3 or fewer, 6\)"):
        Engine.from_policy(policy, "torch", draws=4).decide(np.zeros(17), committed=np.zeros((P + 1, 6)))
