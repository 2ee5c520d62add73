"""The unrolled teacher makes the plans of the plain one, from the same noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.diffusion.samplers import noisy_steps
from onestride.engine.engine import Engine
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.teacher import OnnxPlanner, Unrolled
from onestride.methods.guided import GuidedPlanner
from onestride.policy.policy import Policy

SOLVERS = [
    {"solver": "ddim"},
    {"solver": "ddim", "prediction": "eps"},
    {"solver": "dpm++2m", "n_steps": 6, "sample_steps": 3},
    {"solver": "ddpm"},
]


def priors(policy, observation):
    start, prior = policy.encode(torch.from_numpy(observation).float()[None])
    return prior[0], policy.normalizer.context(start.context)


@torch.no_grad()
@pytest.mark.parametrize("settings", SOLVERS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_same_plans(make_arm_policy, make, observation, observations, settings):
    for policy, seen in ((make_arm_policy(**settings), observation), (make("teacher", **settings), observations[0])):
        planner = policy.generator.double()
        prior, context = (value.double() for value in priors(policy, seen))
        wanted = planner.sample(prior, context, generator=torch.Generator().manual_seed(5))
        count = noisy_steps(planner.schedule, planner.config.solver, planner.config.sample_steps)
        rng = torch.Generator().manual_seed(5)
        noise = torch.zeros(count, *prior.shape, dtype=torch.float64)
        for z in noise:
            z.copy_(torch.randn(z.shape, generator=rng, dtype=torch.float64))
        found = Unrolled(planner)(prior, context, noise)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        assert torch.equal(found[:, policy.fixed], prior[:, policy.fixed])


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_as_a_policys_generator(make, observations, solver):
    pytest.importorskip("onnxruntime")
    policy = make("teacher", solver=solver)
    planner = OnnxPlanner(policy.generator, policy.candidates, 0)
    assert planner.nfe == policy.generator.nfe
    fast = Policy(policy.task, planner, policy.normalizer, selector=policy.selector, candidates=policy.candidates)
    for seen in observations[:3]:
        wanted, found = policy.decide(seen), fast.decide(seen)
        np.testing.assert_allclose(found.plans, wanted.plans, rtol=1e-5, atol=1e-5)


def test_a_unet_is_refused(make):
    with pytest.raises(NoEngineError, match="this teacher is a TemporalUNet"):
        Unrolled(make("teacher", network="unet", unet_width=8, unet_multipliers=(1, 2)).generator)


@pytest.mark.parametrize("backend", ["auto", "native", "onnx", "torch"])
def test_a_guided_teacher_has_no_engine(make, backend):
    policy = make("teacher", selector="returns")
    policy.generator = GuidedPlanner(policy.generator, policy.selector.model, 2.0)
    with pytest.raises(NoEngineError, match=r"guided teacher differentiates .* run the policy itself"):
        Engine.from_policy(policy, backend)
    with pytest.raises(NoEngineError, match="run the policy itself"):
        Unrolled(policy.generator)
