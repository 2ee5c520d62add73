"""CUDA graphs say what their modules say. All but the refusals need a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onestride.engine.cuda_graph import CudaGraphPlanner, CudaGraphRunner, tf32
from onestride.engine.engine import Engine
from onestride.engine.fold.policy import fold
from onestride.methods.guided import GuidedPlanner
from onestride.policy.policy import Policy
from onestride.runs.pairs import load_pairs, make_pairs
from onestride.runs.settings import PairsConfig

# What an autograd thread says at its first product, where guidance takes a gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")


def on_gpu(policy, generator=None):
    return Policy(
        policy.task, generator or policy.generator, policy.normalizer, selector=policy.selector,
        candidates=policy.candidates, device="cuda",
    )  # fmt: skip


def test_without_a_gpu_it_says_so(make):
    with pytest.raises(ValueError, match="needs a CUDA device, got cpu"):
        CudaGraphRunner(fold(make(), draws=1), "cpu")
    with pytest.raises(ValueError, match="needs a CUDA device, got cpu"):
        CudaGraphPlanner(make("teacher").generator).sample(torch.zeros(2, 4, 23), None)
    for backend in ("cuda-graph", "cuda-graph-tf32", "cuda-graph-bf16"):
        with pytest.raises(ValueError, match="needs a CUDA device, got cpu"):
            Engine.from_policy(make(), backend, draws=1)


def test_tf32_is_allowed_for_so_long_and_no_longer():
    def allowed():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    for wanted in (True, False):
        with tf32(wanted):
            assert allowed() == (wanted, wanted)
        assert allowed() == before


@pytest.mark.gpu
@pytest.mark.parametrize("selector", ["iql", "returns", "returns-unet"])
def test_a_decision_is_the_modules(make, observations, selector):
    folded = fold(make(selector=selector), draws=3, plan=True)
    wanted = [folded(torch.from_numpy(o).float(), torch.tensor([i % 3])) for i, o in enumerate(observations)]
    runner = CudaGraphRunner(folded, "cuda")
    for i, (o, choice) in enumerate(zip(observations, wanted, strict=True)):
        answer = runner.run(o.astype(np.float32), i % 3)
        assert answer.winner == choice.winner
        np.testing.assert_allclose(answer.action, choice.action, atol=1e-5)
        np.testing.assert_allclose(answer.plan, choice.plan, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("products", ["tf32", "bfloat16"])
def test_coarser_products_are_near(make, observations, products):
    folded = fold(make(), draws=1)
    row = observations[0].astype(np.float32)
    wanted = folded(torch.from_numpy(row), torch.tensor([0]))
    answer = CudaGraphRunner(folded, "cuda", products=products).run(row, 0)
    np.testing.assert_allclose(answer.scores, wanted.scores, atol=0.2 * float(wanted.scores.std()))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda-graph", "cuda-graph-tf32", "cuda-graph-bf16", "compile"])
def test_every_backend_decides_on_the_gpu(make, observations, backend):
    policy = make()
    folded = fold(policy, draws=2)
    engine = Engine.from_policy(on_gpu(policy), backend, draws=2)
    for i, o in enumerate(observations[:2]):
        wanted = folded(torch.from_numpy(o).float(), torch.tensor([i]))
        coarse = backend in ("cuda-graph-tf32", "cuda-graph-bf16")
        tolerance = (0.2 if coarse else 1e-3) * float(wanted.scores.std())
        decision = engine.decide(o)
        np.testing.assert_allclose(decision.scores, wanted.scores, atol=tolerance)
        if not coarse:
            np.testing.assert_allclose(decision.action, wanted.action, atol=1e-4)


@pytest.mark.gpu
def test_an_arms_engine_is_compiled_with_its_constants(make_arm_policy, observation):
    policy = make_arm_policy("student")
    policy.reset(0)
    wanted = policy.decide(observation).action
    engine = Engine.from_policy(on_gpu(policy), "compile", draws=2)
    assert engine.chosen == "compile, cuda-graph"
    np.testing.assert_allclose(engine.decide(observation).action, wanted, atol=1e-4)


@pytest.mark.gpu
def test_the_engine_and_the_arms_geometry_on_the_gpu(make_arm_policy, observation):
    policy = make_arm_policy("student")
    policy.reset(0)
    wanted = policy.decide(observation).action
    engine = Engine.from_policy(on_gpu(policy), "cuda-graph", draws=2)
    np.testing.assert_allclose(engine.decide(observation).action, wanted, atol=1e-5)
    assert Engine.from_policy(on_gpu(policy), "auto", draws=2).chosen.startswith(("cuda-graph", "torch"))


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_a_teachers_plans_are_its_own(make, observations, solver, guidance):
    policy = make("teacher", selector="returns", solver=solver)
    planner = policy.generator
    if guidance:
        planner = GuidedPlanner(planner, policy.selector.model, guidance)
    plain, fast = on_gpu(policy, planner), on_gpu(policy, CudaGraphPlanner(planner))
    plain.reset(1)
    fast.reset(1)
    for o in observations[:3]:  # the noise goes on from decision to decision
        np.testing.assert_allclose(fast.decide(o).plans, plain.decide(o).plans, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="another generator"):
        fast.generator.sample(torch.zeros(16, 4, 23, device="cuda"), torch.zeros(1, 0, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_pairs_of_a_captured_teacher_are_the_plain_ones(make, observations, tmp_path, solver, guidance):
    policy = make("teacher", selector="returns")
    planner = GuidedPlanner(policy.generator, policy.selector.model, guidance) if guidance else policy.generator

    def pairs(name, generator):
        starts, config = torch.from_numpy(observations).float(), PairsConfig(count=2500, shards=3, solver=solver)
        make_pairs(on_gpu(policy, generator), starts, config, tmp_path / name, {})
        return load_pairs(tmp_path / name)

    def agree(found, wanted):
        for key in ("prior", "target", "context"):
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-4)

    plain = pairs("plain", planner)
    agree(pairs("captured", CudaGraphPlanner(planner)), plain)
    (tmp_path / "captured" / "pairs-00001-of-00003.safetensors").unlink()  # as if it had been killed there
    agree(pairs("captured", CudaGraphPlanner(planner)), plain)
