"""The subjects of a latency benchmark: trained or untrained policies, their engines, and the work of one decision."""

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

from onestride.data.minari import read_dataset
from onestride.engine.backends import Backend, preferred
from onestride.engine.cuda_graph import CudaGraphPlanner, rounded
from onestride.engine.engine import Engine
from onestride.engine.fold.critic import Batched
from onestride.engine.fold.parts import NoEngineError
from onestride.engine.fold.policy import FoldedPolicy, fold
from onestride.engine.openvino_runner import installed
from onestride.engine.teacher import OnnxPlanner, Unrolled
from onestride.methods.guided import GuidedPlanner
from onestride.networks.normalizer import Normalizer
from onestride.policy.policy import Policy
from onestride.policy.store import make_generator
from onestride.robot.decision import Decider
from onestride.runs import presets
from onestride.runs.settings import BenchConfig
from onestride.runs.stage import Preset
from onestride.selectors.store import make_selector, make_selector_model
from onestride.tasks import TASKS
from onestride.tasks.lockstep import make_environment
from onestride.tasks.task import Task

OBSERVATIONS = 512  # of the run's data, decided about in turns


@dataclass(frozen=True)
class Subject:
    """Something whose decisions are timed, and the work of one of them: matrix products and convolutions alone."""

    name: str  # "teacher", "student", "engine", ...
    candidates: int
    decider: Decider
    nfe: int
    flop: int
    bytes: int  # read and written
    call_flop: int  # of one call of the network on all candidates

    @property
    def row(self) -> str:
        """The row of the record: name and number of candidates, such as "engine@64"."""
        return f"{self.name}@{self.candidates}"


# ---------------------------------------------------------------- policies


def trained(run: Path) -> dict[str, Policy]:
    """Return the run's teacher and its first student.

    Raises:
        ValueError: there is no student.
    """
    students = sorted(p.parent.name for p in run.glob("*-0/config.json"))
    if not students:
        raise ValueError(f"{run} has no student; make one with `onestride train dnk`")
    student = "dnk-0" if "dnk-0" in students else students[0]
    return {"teacher": Policy.from_pretrained(run / "teacher"), "student": Policy.from_pretrained(run / student)}


def untrained(preset: Preset, paper_teacher: bool = False) -> dict[str, Policy]:
    """Return teacher and student of a preset's sizes with random weights: a decision's work is the same."""
    task = TASKS[preset.task]()
    made = {name: _untrained(task, preset, stage) for name, stage in (("teacher", "teacher"), ("student", "dnk"))}
    if paper_teacher and task.score is None:
        large = presets.load(f"{task.name.split('-')[0]}-full")
        made["teacher-unet"] = _untrained(task, large, "teacher")
    return made


def _untrained(task: Task, preset: Preset, name: str) -> Policy:
    normalizer = Normalizer.empty(task.control.transition_dim, task.context_dim)
    stage, selector = preset.stage(name), None
    generator = make_generator(task, stage.what, asdict(stage.config))
    if task.score is None and stage.selector is not None:
        ranking = preset.stage(stage.selector)
        model = make_selector_model(ranking.what, asdict(ranking.config), task)
        selector = make_selector(ranking.what, model, normalizer, task.control, ranking.options)
        if stage.guidance:
            generator = GuidedPlanner(generator, model, stage.guidance)
    return Policy(task, generator, normalizer, selector=selector)


def observations_of(run: Path | None, task: Task) -> list[np.ndarray]:
    """Return what is decided about: states spread evenly over the run's data, or else first observations of scenes."""
    if run is None or task.benchmark is None or task.control.n_obs_steps > 1:
        return [np.asarray(task.first_observation(s)) for s in task.scenes(8, 7)]
    states = np.concatenate([e.observations[:-1] for e in read_dataset(run / "data")])
    return list(states[np.linspace(0, len(states) - 1, OBSERVATIONS).round().astype(int)].astype(np.float64))


def stepping(task: Task) -> Callable[[np.ndarray], None] | None:
    """Return what makes a benchmark's environment take a step by a command; None: there is no such environment."""
    if task.benchmark is None:
        return None
    env = make_environment(task.benchmark.environment)
    env.reset(seed=0)

    def step(command: np.ndarray) -> None:
        _, _, terminated, truncated, _ = env.step(command.astype(np.float32))
        if terminated or truncated:
            env.reset()

    return step


def with_parts(policy: Policy, generator: Any, candidates: int, device: torch.device | None = None) -> Policy:
    """Return the policy with another generator and number of candidates; on another device it is a copy."""
    parts = generator, policy.normalizer, policy.selector
    generator, normalizer, selector = copy.deepcopy(parts) if device not in (None, policy.device) else parts
    return Policy(
        policy.task, generator, normalizer, selector=selector, candidates=candidates, sampling=policy.sampling,
        device=device or policy.device, config=policy.config,
    )  # fmt: skip


# ---------------------------------------------------------------- subjects


def subjects_of(policies: dict[str, Policy], n: int, config: BenchConfig, device: torch.device) -> list[Subject]:
    """Return every subject at ``n`` candidates. The work of a decision is counted on the CPU, where policies are."""
    made: list[Subject] = []
    task = policies["student"].task
    observation = np.asarray(task.first_observation(task.scenes(1, 7)[0]))
    student, call = policies["student"], 0
    for name, policy in policies.items():
        policy = with_parts(policy, policy.generator, n)
        flop, moved, call_flop = work_of(policy, observation)
        there = with_parts(policy, policy.generator, n, device)
        made.append(Subject(name, n, there, policy.generator.nfe, flop, moved, call_flop))
        if name == "student":
            student, call = there, call_flop
        elif device.type == "cuda":
            fast = with_parts(there, CudaGraphPlanner(there.generator), n)
            made.append(Subject(f"{name}-optimised", n, fast, fast.nfe, flop, moved, call_flop))
        elif name == "teacher":
            try:
                planner = OnnxPlanner(policy.generator, n, policy.task.context_dim, torch.get_num_threads())
            except NoEngineError:  # a U-Net stays as it is
                continue
            flop, moved, _ = work_of(policy, observation, Unrolled(policy.generator))
            fast = with_parts(policy, planner, n)
            made.append(Subject("teacher-optimised", n, fast, fast.nfe, flop, moved, call_flop))
    folded = fold(student, draws=config.draws)
    for name, backend in _backends(student, config).items():
        engine = Engine.from_policy(student, backend, threads=torch.get_num_threads(), draws=config.draws)
        made.append(Subject(name, n, engine, 1, *_engine_work(folded, backend), call))
    return made


def _backends(student: Policy, config: BenchConfig) -> dict[str, Backend]:
    """Return the engines to time: name -> backend."""
    made: dict[str, Backend]
    if student.device.type == "cuda":
        made = {"engine": "cuda-graph", "engine-tf32": "cuda-graph-tf32", "engine-bf16": "cuda-graph-bf16"}
    else:
        made = {"engine": preferred(student), "engine-int8": preferred(student, int8=True)}
        others: tuple[Backend, ...] = ("onnx", "onnx-int8", *(("openvino",) if installed() else ()))
        made |= {f"engine-{other}": other for other in others if other not in made.values()}
    if config.compiled:
        made["engine-compiled"] = "compile"
    return made


def _engine_work(folded: FoldedPolicy, backend: Backend) -> tuple[int, int]:
    """Return operations and bytes of an engine's decision."""
    module = rounded(folded) if backend == "cuda-graph-bf16" else folded
    flop, moved = work(partial(module, torch.zeros(folded.control.observation_dim), torch.tensor([0])))
    if backend.endswith("int8"):  # of a weight one byte is read instead of four
        layers = [m for m in folded.body.modules() if isinstance(m, nn.Linear)]
        layers += [m for m in folded.scorer.modules() if isinstance(m, Batched)]
        moved -= 3 * sum(m.weight.numel() for m in layers)
    return flop, moved


# ---------------------------------------------------------------- work


class _Counter(TorchDispatchMode):
    """Count the operations of matrix products and convolutions, and the bytes they read and write."""

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
    """Return operations and bytes of a call's matrix products and convolutions."""
    with torch.no_grad(), _Counter() as counter:
        call()
    return counter.flop, counter.bytes


def work_of(policy: Policy, observation: np.ndarray, unrolled: Unrolled | None = None) -> tuple[int, int, int]:
    """Return operations and bytes of a decision, and operations of one call of its network.

    The counter cannot look into a gradient: guidance counts as two passes of the return model per step, one forward
    and one back to the input.

    Args:
        unrolled: counted in place of the planner's own sampling.
    """
    guided = policy.generator if isinstance(policy.generator, GuidedPlanner) else None
    planner = guided.planner if guided else policy.generator
    plain = with_parts(policy, planner, policy.candidates)
    flop, moved = work(lambda: plain.decide(observation))
    prior = torch.zeros(policy.candidates, policy.control.horizon, policy.control.transition_dim)
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
