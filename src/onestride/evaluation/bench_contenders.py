"""Who decides in a benchmark of decisions: trained or untrained policies, their engines, and what a decision takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from onestride import presets
from onestride.control.decision import Decider
from onestride.control.policy import Policy, make_generator
from onestride.data.minari import read_dataset
from onestride.data.normalize import Normalizer
from onestride.diffusion.guidance import GuidedPlanner
from onestride.engine.backends import Backend, preferred
from onestride.engine.cuda_graph import CudaGraphPlanner, rounded
from onestride.engine.engine import Engine
from onestride.engine.fold.critic import Batched
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import fold
from onestride.engine.teacher import OnnxPlanner, Unrolled
from onestride.presets import Preset
from onestride.selectors.iql import CriticSelector
from onestride.selectors.store import make_selector_model, wrap
from onestride.settings import BenchConfig
from onestride.tasks import TASKS
from onestride.tasks.task import Task

SEEN = 512  # observations, taken in turns


@dataclass
class Contender:
    """Something that decides, and what a decision of it takes."""

    decider: Decider
    nfe: int
    flop: int
    bytes: int
    call_flop: int  # of one call of the network, on all candidates


# ---------------------------------------------------------------- who decides


def trained(run: Path) -> dict[str, Policy]:
    """The run's teacher and its first student."""
    students = sorted(p.parent.name for p in run.glob("*-0/config.json"))
    if not students:
        raise ValueError(f"{run} has no student; make one with `onestride distill`")
    student = "dnk-0" if "dnk-0" in students else students[0]
    return {"teacher": Policy.from_pretrained(run / "teacher"), "student": Policy.from_pretrained(run / student)}


def seen(run: Path | None, task: Task) -> list[np.ndarray]:
    """What is decided about: states of the run's own data, evenly over all of it; else where its scenes begin."""
    if run is None or task.benchmark is None:
        return [np.asarray(task.first_observation(s)) for s in task.scenes(8, 7)]
    states = np.concatenate([e.observations[:-1] for e in read_dataset(run / "data")])
    return list(states[np.linspace(0, len(states) - 1, SEEN).round().astype(int)].astype(np.float64))


def untrained(preset: Preset, paper_teacher: bool = False) -> dict[str, Policy]:
    """Teacher and student of a preset's sizes with random weights: the arithmetic is the same."""
    task = TASKS[preset.task]()
    made = {
        "teacher": _untrained(task, preset, "teacher", preset.teacher),
        "student": _untrained(task, preset, "student", preset.student),
    }
    if paper_teacher and preset.selectors is not None:
        large = presets.load(f"{task.name.split('-')[0]}-full")
        made["teacher-unet"] = _untrained(task, large, "teacher", large.teacher)
    return made


def _untrained(task: Task, preset: Preset, kind: str, settings: Any) -> Policy:
    normalizer = Normalizer.empty(task.transition_dim, task.context_dim)
    generator, selector = make_generator(task, kind, asdict(settings)), None
    if (s := preset.selectors) is not None:
        name, model = ("returns", s.returns) if kind == "teacher" else ("iql", s.critic)
        selector = wrap(make_selector_model(name, asdict(model), task), normalizer, task)
        if isinstance(selector, CriticSelector):
            selector.rows, selector.sampling = s.judged_rows, s.sampling
        if kind == "teacher" and s.guidance:
            generator = GuidedPlanner(generator, selector.model, s.guidance)  # type: ignore[arg-type]
    return Policy(task, generator, normalizer, selector=selector)


def contenders_of(
    policies: dict[str, Policy], n: int, config: BenchConfig, device: torch.device
) -> dict[str, Contender]:
    """Every row at ``n`` candidates. What a decision takes is counted on the CPU, where the policies are."""
    made: dict[str, Contender] = {}
    observation = np.asarray(policies["student"].task.first_observation(policies["student"].task.scenes(1, 7)[0]))
    for name, policy in policies.items():
        policy = with_parts(policy, policy.generator, n)
        flop, moved, call = work_of(policy, observation)
        there = with_parts(policy, policy.generator, n, device)
        made[name] = Contender(there, policy.generator.nfe, flop, moved, call)
        if device.type == "cuda" and name != "student":
            fast = with_parts(there, CudaGraphPlanner(there.generator), n)
            made[f"{name}-optimised"] = Contender(fast, fast.nfe, flop, moved, call)
        elif name == "teacher":
            try:
                fast = OnnxPlanner(policy.generator, n, policy.task.context_dim, torch.get_num_threads())
            except NoEngineError:  # a U-Net, or guided: it stays as it is
                continue
            flop, moved, _ = work_of(policy, observation, Unrolled(policy.generator))
            made["teacher-optimised"] = Contender(with_parts(policy, fast, n), fast.nfe, flop, moved, call)
    student, call = made["student"].decider, made["student"].call_flop
    assert isinstance(student, Policy)
    folded = fold(student, draws=config.draws)
    for name, backend in _backends(student, config).items():
        engine = Engine.from_policy(student, backend, threads=torch.get_num_threads(), draws=config.draws)
        module = rounded(folded) if backend == "cuda-graph-bf16" else folded
        flop, moved = work(partial(module, torch.zeros(folded.task.observation_dim), torch.tensor([0])))
        if backend.endswith("int8"):
            layers = [m for m in folded.body.modules() if isinstance(m, nn.Linear)]
            layers += [m for m in folded.scorer.modules() if isinstance(m, Batched)]
            moved -= 3 * sum(m.weight.numel() for m in layers)
        made[name] = Contender(engine, 1, flop, moved, call)
    return made


def _backends(student: Policy, config: BenchConfig) -> dict[str, Backend]:
    """The engines' rows."""
    made: dict[str, Backend]
    if student.device.type == "cuda":
        made = {"engine": "cuda-graph", "engine-tf32": "cuda-graph-tf32", "engine-bf16": "cuda-graph-bf16"}
    else:
        made = {"engine": preferred(student), "engine-int8": preferred(student, int8=True)}
        made |= {f"engine-{other}": other for other in ("onnx", "onnx-int8") if other not in made.values()}
    if config.compiled:
        made["engine-compiled"] = "compile"
    return made


def with_parts(policy: Policy, generator: Any, candidates: int, device: torch.device | None = None) -> Policy:
    """The policy with another generator and number of candidates; on another device it is a copy."""
    parts = generator, policy.normalizer, policy.selector
    generator, normalizer, selector = copy.deepcopy(parts) if device not in (None, policy.device) else parts
    return Policy(
        policy.task, generator, normalizer, selector=selector, candidates=candidates, sampling=policy.sampling,
        device=device or policy.device, config=policy.config,
    )  # fmt: skip


# ---------------------------------------------------------------- what it takes


class _Counter(TorchDispatchMode):
    """Operations of matrix products and convolutions, and the bytes they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.flop = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
        out = func(*args, **kwargs)
        if packet in flop_registry:
            self.flop += flop_registry[packet](*args, **kwargs, out_val=out)
            touched = [t for t in (*args, out) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in touched)
        return out


def work(call: Callable[[], object]) -> tuple[int, int]:
    """Operations and bytes of a call's products."""
    with torch.no_grad(), _Counter() as counter:
        call()
    return counter.flop, counter.bytes


def work_of(policy: Policy, observation: np.ndarray, unrolled: Unrolled | None = None) -> tuple[int, int, int]:
    """Operations and bytes of a plain decision, and operations of one call of its network.

    The counter cannot look into a gradient: guidance counts as two passes of the return model per step, one forward
    and one back to the input. unrolled: counted in place of the planner's own sampling.
    """
    guided = policy.generator if isinstance(policy.generator, GuidedPlanner) else None
    planner = guided.planner if guided else policy.generator
    plain = with_parts(policy, planner, policy.candidates)
    flop, moved = work(lambda: plain.decide(observation))
    prior = torch.zeros(policy.candidates, policy.task.horizon, policy.task.transition_dim)
    context = torch.zeros(1, policy.task.context_dim)
    rng = torch.Generator()
    sampling = work(lambda: planner.sample(prior, context, generator=rng))
    if unrolled is not None:
        noise = torch.zeros(planner.nfe, *prior.shape)
        fewer = work(lambda: unrolled(prior, context, noise))
        flop, moved = flop - sampling[0] + fewer[0], moved - sampling[1] + fewer[1]
    elif guided:
        more = work(lambda: guided.returns(prior, 1, context if policy.task.context_dim else None))
        flop, moved = flop + 2 * guided.nfe * more[0], moved + 2 * guided.nfe * more[1]
    return flop, moved, sampling[0] // planner.nfe
