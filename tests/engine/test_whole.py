"""A policy whose generator has no fold is written whole, and decides as it does itself."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.engine import Engine
from onestride.engine.export import export
from onestride.engine.fold.folds import FOLDS, generator_fold
from onestride.engine.fold.koopman import fold_koopman
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import FoldedPolicy
from onestride.engine.whole import WholePolicy, decision_module
from onestride.methods.koopman import KoopmanStudent
from onestride.policy.policy import Policy, unselected
from onestride.robot.decision import NoPlanError
from onestride.selectors.candidate_sampling import CandidateSampling

SEED = 4


class TwoCalls(nn.Module):
    """A generator that nobody has a fold for: two calls of a small network, the known entries put back."""

    nfe = 2

    def __init__(self, task) -> None:
        super().__init__()
        size = task.control.horizon * task.control.transition_dim
        self.net = nn.Sequential(nn.Linear(size, 32), nn.SiLU(), nn.Linear(32, size))
        self.context = nn.Linear(task.context_dim, size) if task.context_dim else None
        self.register_buffer("known", torch.from_numpy(task.plans.mask))

    def sample(self, prior, context, *, generator=None):
        x = prior
        for _ in range(self.nfe):
            step = self.net(x.flatten(1))
            if self.context is not None:
                step = step + self.context(context)
            x = torch.where(self.known, prior, x + F.silu(step).view_as(x))
        return x


def with_two_calls(policy):
    """The same policy with another generator."""
    torch.manual_seed(0)
    generator = TwoCalls(policy.task)
    return Policy(
        policy.task, generator, policy.normalizer, selector=policy.selector, candidates=policy.candidates,
        sampling=policy.sampling,
    )  # fmt: skip


def decide_alike(engine, policy, rows, atol=1e-5):
    policy.reset(SEED)
    for row in rows:
        wanted, found = policy.decide(row), engine.decide(row)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4, rtol=1e-5)
        np.testing.assert_allclose(found.action, wanted.action, atol=atol)
        if len(found.plan):
            np.testing.assert_allclose(found.plan, wanted.plan, atol=1e-4)


SLOW = {"marks": pytest.mark.slow}  # to write a graph takes seconds


@pytest.mark.parametrize(
    ("backend", "selector"),
    [("torch", "iql"), ("torch", "returns"), ("torch", "returns-unet"), ("onnx", "iql"),
     pytest.param("onnx", "returns", **SLOW), pytest.param("onnx", "returns-unet", **SLOW)],
)  # fmt: skip
def test_an_engine_of_it_decides_as_the_policy(make, observations, backend, selector):
    pytest.importorskip("onnxruntime")
    policy = with_two_calls(make(selector=selector))
    engine = Engine.from_policy(policy, backend, threads=1, draws=len(observations), seed=SEED, plan=True)
    assert engine.nfe == 2
    decide_alike(engine, policy, observations)


@pytest.mark.parametrize("backend", ["torch", pytest.param("onnx", **SLOW)])
def test_the_arms_context_and_geometry_too(make_arm_policy, arm_rows, backend):
    pytest.importorskip("onnxruntime")
    policy = with_two_calls(make_arm_policy("student"))
    engine = Engine.from_policy(policy, backend, threads=1, draws=6, seed=SEED, plan=True)
    decide_alike(engine, policy, arm_rows(6), atol=1e-6)


def test_temperatures_and_what_hot_candidates_must_be_worth_more(make, observations):
    policy = with_two_calls(
        make(sampling=CandidateSampling((0.3, 1.0), (0.5, 0.5), temperature_penalty=0.5), candidates=32)
    )
    assert policy.score_penalty is not None
    engine = Engine.from_policy(policy, "torch", draws=6, seed=SEED)
    decide_alike(engine, policy, observations)


@pytest.mark.parametrize("backend", ["torch", pytest.param("onnx", **SLOW)])
def test_a_teachers_steps_are_one_module(make, observations, backend):
    pytest.importorskip("onnxruntime")
    policy = make("teacher", selector="returns", solver="ddim")
    engine = Engine.from_policy(policy, backend, threads=1, draws=6, seed=SEED, plan=True)
    assert engine.nfe == 4
    decide_alike(engine, policy, observations)


def test_noise_within_the_steps_is_refused(make):
    with pytest.raises(NoEngineError, match=r"DiffusionPlanner draws noise within its steps.* run the policy itself"):
        Engine.from_policy(make("teacher", selector="returns", solver="ddpm"), "torch")


@pytest.mark.parametrize("backend", ["torch", pytest.param("onnx", **SLOW)])
def test_two_calls_of_regression_are_one_module(make, observations, backend):
    pytest.importorskip("onnxruntime")
    policy = make("mip", candidates=1)
    engine = Engine.from_policy(policy, backend, threads=1, draws=1, seed=SEED, plan=True)
    assert engine.nfe == 2
    decide_alike(engine, policy, observations)


def test_noise_after_the_first_call_is_refused(make):
    with pytest.raises(NoEngineError, match=r"ConsistencyPolicy draws noise within its steps"):
        Engine.from_policy(make("cp", steps=3), "torch")


class Drawing(TwoCalls):
    """Draws from torch's own generator, whatever it is given."""

    def sample(self, prior, context, *, generator=None):
        return super().sample(prior + 0.1 * torch.randn_like(prior), context)


def test_noise_from_torchs_own_generator_is_refused_and_left_as_it_was(make):
    policy = make()
    policy.generator = Drawing(policy.task)
    before = torch.get_rng_state()
    with pytest.raises(NoEngineError, match="Drawing draws noise within its steps"):
        decision_module(policy, draws=1, seed=0, plan=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("backend", "why"),
    [("native", "TwoCalls has no fold, which a native program needs; run it by ONNX Runtime"),
     ("native-int8", "has no fold"), ("onnx-int8", "8 bits are for the products of a folded policy")],
)  # fmt: skip
def test_backends_that_need_a_fold_say_so(make, backend, why):
    pytest.importorskip("onnxruntime")
    with pytest.raises(NoEngineError, match=why):
        Engine.from_policy(with_two_calls(make()), backend, threads=1, draws=1)


@pytest.mark.slow
def test_auto_takes_what_there_is(make, observations):
    pytest.importorskip("onnxruntime")
    policy = with_two_calls(make())
    engine = Engine.from_policy(policy, threads=1, draws=6, seed=SEED)
    assert engine.chosen.startswith(("onnx", "torch"))
    decide_alike(engine, policy, observations)


@pytest.mark.slow
def test_a_folder_of_it_starts_without_torch_and_decides_as_the_policy(make, observations, tmp_path):
    pytest.importorskip("onnxruntime")
    policy = with_two_calls(make())
    policy.config = {"kind": "two-calls"}
    agreement = export(policy, tmp_path / "e", draws=3, seed=SEED, checkpoint=None)
    assert agreement.whole
    code = (
        "import sys, json; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from onestride import Engine\n"
        f"engine = Engine.from_folder({str(tmp_path / 'e')!r}, threads=1)\n"
        f"made = [engine.decide(np.array(row)) for row in {observations[:3].tolist()}]\n"
        "print(json.dumps([engine.nfe, [d.action.tolist() for d in made], [d.plan.tolist() for d in made]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    nfe, actions, plans = json.loads(done.stdout)
    assert nfe == 2
    policy.reset(SEED)
    for row, action, plan in zip(observations[:3], actions, plans, strict=True):
        wanted = policy.decide(row)
        np.testing.assert_allclose(action, wanted.action, atol=1e-5)
        np.testing.assert_allclose(plan, wanted.plan, atol=1e-4)


def test_a_candidate_that_is_not_finite_never_wins(make, observations):
    policy = with_two_calls(make())
    engine = Engine.from_policy(policy, "torch", draws=1)
    best = int(engine.decide(observations[0]).scores.argmax())
    bank = engine.runner.module.noise_bank
    bank[0, best] = torch.inf
    scores = engine.decide(observations[0]).scores
    assert scores[best] == -np.inf
    assert scores.argmax() != best
    bank[...] = torch.nan
    with pytest.raises(NoPlanError):
        engine.decide(observations[0])


def test_the_policy_is_left_as_it_was(make, observations):
    policy = with_two_calls(make())
    policy.reset(SEED)
    wanted = policy.decide(observations[0])
    module = decision_module(policy, draws=2, seed=0, plan=False).double()
    assert isinstance(module, WholePolicy)
    policy.reset(SEED)
    np.testing.assert_array_equal(policy.decide(observations[0]).scores, wanted.scores)


def test_nothing_that_ranks_is_refused(make):
    with pytest.raises(NoEngineError, match="give the policy a selector"):
        decision_module(with_two_calls(make(selector=None)), draws=1, seed=0, plan=False)
    assert decision_module(with_two_calls(make(selector=unselected)), draws=1, seed=0, plan=False).candidates == 16


class Heir(KoopmanStudent):
    """Folds as what it inherits from."""


def test_a_fold_is_found_by_the_generators_class_and_its_parents(make, monkeypatch):
    policy = make()
    heir = Heir(policy.generator.config, policy.task.plans)
    assert generator_fold(heir) is fold_koopman
    assert generator_fold(TwoCalls(policy.task)) is None
    monkeypatch.setitem(FOLDS, TwoCalls, lambda generator: fold_koopman(policy.generator))
    assert isinstance(decision_module(with_two_calls(policy), draws=1, seed=0, plan=False), FoldedPolicy)
