"""What is captured as a CUDA graph may touch nothing on the host: shown without a GPU.

On the meta device tensors have shapes and types and no numbers. There a number read from the device, or a branch on
one, raises, and here any tensor of the host too: what breaks a capture. (Fake tensors on "cuda" would do as well, but
that a torch without CUDA aborts at their gradients, which guidance takes.)
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onestride.diffusion import schedule
from onestride.diffusion.samplers import SOLVERS
from onestride.engine.cuda_graph import lifted, pack, rounded
from onestride.engine.fold.policy import fold
from onestride.methods.guided import GuidedPlanner
from onestride.methods.koopman import OPERATORS
from onestride.policy.store import make_generator
from onestride.selectors.candidate_sampling import CandidateSampling
from onestride.selectors.store import make_selector_model
from onestride.tasks import TASKS

CHEETAH, ARM = TASKS["halfcheetah-v5"](), TASKS["kinova"]()
HOT = CandidateSampling((0.3, 1.0), (0.5, 0.5), temperature_penalty=1.0)
UNET = {"network": "unet", "unet_width": 8, "unet_multipliers": (1, 2)}


class OnlyOnDevice(TorchDispatchMode):
    """Raises where an operation sees, or makes, a tensor that is not on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, made)):
            if isinstance(value, Tensor) and value.device.type != "meta":
                raise RuntimeError(f"{func} with a tensor on {value.device}")
        return made


@contextmanager
def captured(module: nn.Module):
    """A copy on the device, to be run as a capture would run it."""
    there = copy.deepcopy(module).requires_grad_(False).to("meta")
    with OnlyOnDevice(), torch.no_grad():
        yield there


def zeros(*shape) -> Tensor:
    return torch.zeros(shape, device="meta")


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x + torch.zeros(3),
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.tensor([1.0, 2.0, 3.0]).to(x),
        lambda x: x * float(x.sum()),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x.cpu(),
    ],
)
def test_what_touches_the_host_is_seen(work):
    with captured(nn.Identity()):
        x = zeros(3)
        with pytest.raises(RuntimeError, match=r"on cpu|meta tensor"):
            work(x)
        assert torch.where(x - x == 0, x, -torch.inf).device.type == "meta"


# ---- folded decisions ----


def decides(policy, plan=False, coarse=False):
    """What the runner captures of a policy: on the host it is the decision, bit for bit; on the device it runs."""
    folded = fold(policy, draws=2, plan=plan)
    folded = rounded(folded) if coarse else folded
    task = folded.task
    observation = task.first_observation(task.scenes(1, 7)[0])
    given = torch.cat((torch.from_numpy(observation).float(), torch.ones(1)))
    wanted = pack(folded)(given)
    assert torch.equal(lifted(folded, "cpu")(given), wanted)
    with captured(lifted(folded, "meta")) as decide:
        answer = decide(zeros(*given.shape))
        assert (answer.shape, answer.dtype) == (wanted.shape, torch.float32)


@pytest.mark.parametrize("plan", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("sampling", [None, HOT], ids=["", "hot"])
def test_a_decision_ranked_by_the_critic(make, plan, rows, sampling):
    policy = make(sampling=sampling)
    policy.selector.options = replace(policy.selector.options, scored_steps=rows)
    decides(make(selector=policy.selector), plan)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.parametrize("selector", ["returns", "returns-unet"])
def test_a_decision_ranked_by_the_return_model(make, plan, selector):
    decides(make(selector=selector), plan)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operators_decision(make, operator):
    decides(make(operator=operator))


@pytest.mark.slow
def test_a_consistency_students_decision(make):
    decides(make("consistency"))


@pytest.mark.slow
@pytest.mark.parametrize("plan", [False, True])
def test_the_arms_decision_with_its_constants(make_arm_policy, plan):
    """The frame's and the geometry's constants lie on the host, and are part of what is captured."""
    policy = make_arm_policy("student")
    with captured(fold(policy, draws=2)) as plain, pytest.raises(RuntimeError, match="on cpu"):
        plain(zeros(ARM.control.observation_dim), zeros(1).long())
    decides(policy, plan)


@pytest.mark.slow
@pytest.mark.parametrize("selector", ["iql", "returns", "returns-unet"])
def test_a_decision_with_products_in_bfloat16(make, selector):
    decides(make(selector=selector), coarse=True)


# ---- the teacher's sampling ----


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("guide", [None, {"width": 16, "blocks": 1}, UNET], ids=["", "guided", "guided-unet"])
@pytest.mark.parametrize(
    "network", [{"width": 16, "blocks": 1}, pytest.param(UNET, marks=pytest.mark.slow)], ids=["mlp", "unet"]
)
def test_a_teachers_whole_sampling(solver, prediction, guide, network):
    settings = network | {"n_steps": 4, "solver": solver, "prediction": prediction}
    planner = make_generator(CHEETAH, "diffuser", settings)
    if guide is not None:
        planner = GuidedPlanner(planner, make_selector_model("returns", guide | {"n_steps": 4}, CHEETAH), 0.5)
    with captured(planner) as there:
        assert there.sample(zeros(6, 4, 23), zeros(1, 0), generator=torch.Generator()).shape == (6, 4, 23)


def test_an_arm_teachers_whole_sampling():
    with captured(make_generator(ARM, "diffuser", {"width": 16, "blocks": 1, "n_steps": 4})) as there:
        assert there.sample(zeros(6, 32, 9), zeros(6, ARM.context_dim)).shape == (6, 32, 9)


# ---- training, which is not captured, but stays on one device ----


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_student_trains_on_the_device(operator):
    sizes = {"latent_dim": 16, "hidden": 16, "gain_hidden": 8, "operator": operator}
    trains(make_generator(CHEETAH, "dnk", sizes), "prior", "target", weight=())


@pytest.mark.slow
@pytest.mark.parametrize("network", [{"width": 16, "blocks": 1}, UNET], ids=["mlp", "unet"])
def test_a_teacher_trains_on_the_device(network, monkeypatch):
    monkeypatch.setattr(schedule, "_table", lambda s, device, dtype: zeros(len(s.alpha), 2))  # else copied there once
    trains(make_generator(CHEETAH, "diffuser", network | {"n_steps": 4}), "plans")
    trains(make_selector_model("returns", network | {"n_steps": 4}, CHEETAH), "plans", value=())


def trains(method, *plans, **others):
    """One step of training touches nothing on the host either: it would wait for the device."""
    method = method.to("meta")
    batch = {name: zeros(6, 4, 23) for name in plans} | {name: zeros(6, *shape) for name, shape in others.items()}
    with OnlyOnDevice():
        method.training_step(batch | {"context": zeros(6, 0)}, torch.Generator())["loss"].backward()
    assert any(p.grad is not None for p in method.parameters())
