"""What a decision costs: teacher, student and engine in turns, beside the machine's own ceilings in the same run.

    teacher             as it is                    student       as it is
    teacher-optimised   its calls as one graph      engine        the student's decision as one graph, or program
                                                    engine-screened   8 bits find who may win, float32 decides
                                                    engine-int8       with large products in 8 bits
                                                    engine-onnx       by ONNX Runtime, where the engine is native

On a GPU teacher-optimised is the teacher's sampling as one CUDA graph, of a U-Net too, engine the decision as one;
engine-tf32 and engine-bf16 are that with coarser products. On request engine-compiled goes through torch.compile first,
and pairs@B is how many training pairs per second the teacher makes in blocks of B (pairs-captured@B: as one graph).

A row's name ends with the number of candidates: ``engine@64``. In every round each decides a few times, after a pause
and one decision that is not counted, so that a machine whose speed drifts slows all of them; the ceilings, matrix
products of the networks' size and a copy of memory, are measured in every round too. Ratios are of medians, but for
one of p99.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
from onestride.device import usable
from onestride.diffusion.guidance import GuidedPlanner
from onestride.engine.backends import PRECISIONS, Backend, preferred
from onestride.engine.cuda_graph import CudaGraphPlanner, needs_cuda, rounded
from onestride.engine.engine import Engine
from onestride.engine.native import NativeRunner
from onestride.engine.program import work_after_bounds, write_program
from onestride.engine.ranking import Batched
from onestride.engine.reduce import reduce
from onestride.engine.teacher import OnnxPlanner, Unrolled
from onestride.engine.trunk import ReduceError
from onestride.evaluation.ceilings import PAUSE, copying, copying_on, products, products_on
from onestride.evaluation.metrics import latency, summarize
from onestride.evaluation.result import result
from onestride.files import writable, write_json
from onestride.presets import BenchConfig, Preset
from onestride.progress import track
from onestride.selectors.iql import CriticSelector
from onestride.selectors.store import make_selector_model, wrap
from onestride.students.pairs import PairsConfig, make_block
from onestride.tasks import TASKS
from onestride.tasks.task import Task

WARM_UP = 5
SEEN = 512  # observations, taken in turns
BLOCKS = 5  # of pairs that count


@dataclass
class Contender:
    """Something that decides, and what a decision of it takes."""

    decider: Decider
    nfe: int
    flop: int
    bytes: int
    call_flop: int  # of one call of the network, on all candidates
    settled: float | None = None  # candidates whose scores a native engine computes to the end, on average


def bench(
    run: Path | None, preset: Preset, config: BenchConfig, command: str, out: Path | None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure, and write the record to ``out``. run: trained policies; None: untrained ones of the preset's sizes.

    Raises:
        FileExistsError: ``out`` is there already; OSError: it cannot be written.
        ValueError: there is no such device, or the run has no student.
    """
    if out is not None and out.exists():
        raise FileExistsError(f"{out} is there already; name another file, or remove it first")
    if out is not None:
        writable(out.parent)
    if (place := usable(device)).type != "cpu":
        needs_cuda(place)
    started, began = time.strftime("%Y-%m-%dT%H:%M:%S"), time.perf_counter()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    policies = untrained(preset, config.paper_teacher) if run is None else trained(run)
    task = next(iter(policies.values())).task
    observations = seen(run, task)
    contenders: dict[str, Contender] = {}
    for n in config.candidates:
        contenders |= {f"{name}@{n}": c for name, c in _contenders(policies, n, config, place, observations).items()}
    times, planning, ceilings = _measure(contenders, observations, config, place)
    made_by = {name.split("@")[0]: c.decider.chosen for name, c in contenders.items() if isinstance(c.decider, Engine)}
    rows = {name: _row(name, contenders, times, planning, ceilings) for name in contenders}
    if config.pairs is not None:
        rows |= _pairs(policies["teacher"], observations, preset.pairs, config.pairs, place)
    by = "by the fastest of torch, ONNX Runtime and decide.c"
    if place.type == "cuda":
        by = "by torch without TF32, in a row, on the GPU's own clock"
    beside = [name for name in ("engine-int8", "engine-tf32", "engine-bf16", "engine-compiled") if name in made_by]
    notes = [
        f"{'untrained networks of the preset' if run is None else 'trained policies'}, "
        f"{torch.get_num_threads()} thread(s) for every row and for the ceilings",
        "gflop and mb are of matrix products alone; guidance counts as two more passes of the return model",
        "candidates_settled: those that every critic is asked about; what the others save is in gflop and mb",
        f"share_of_ceiling is of float32 products with as many rows, {by}",
        ", ".join((f"engine is {made_by['engine']}", *(f"{name} {made_by[name]}" for name in beside))),
        "observations: " + ("where scenes begin" if len(observations) < SEEN else "states of the data, in turns"),
        "batch_forwards is a decision's arithmetic in calls of its own network on all candidates",
    ]
    if isinstance(policies["teacher"].generator, GuidedPlanner):
        notes.append("the teachers are guided by the return model")
    if place.type == "cuda":
        notes.append("teacher and student are as torch's defaults have them: products in float32, convolutions in TF32")
    if config.pairs is not None:
        notes.append(f"pairs are made in blocks of {config.pairs} as `onestride pairs` makes them, but none is written")
    about = {"run": None if run is None else str(run), "preset": preset.about, "task": task.name, "device": device}
    record = result(
        "bench",
        command,
        config=asdict(config) | about,
        seeds={"noise": 0},
        started=started,
        wall_s=time.perf_counter() - began,
        rows=rows,
        notes=notes,
    )
    record["machine"] |= {f"matmul_gflops_{n}": float(np.median(v)) for n, v in ceilings["matmul"].items()}
    record["machine"]["copy_gb_per_s"] = float(np.median(ceilings["copy"][0]))
    if out is not None:
        write_json(out, record)
    return record


# ---------------------------------------------------------------- who decides


def trained(run: Path) -> dict[str, Policy]:
    """The run's teacher and its first student."""
    students = sorted(p.parent.name for p in run.glob("*-0/config.json"))
    if not students:
        raise ValueError(f"{run} has no student; make one with `onestride distill`")
    student = "dnk-0" if "dnk-0" in students else students[0]
    return {"teacher": Policy.from_pretrained(run / "teacher"), "student": Policy.from_pretrained(run / student)}


def seen(run: Path | None, task: Task) -> list[np.ndarray]:
    """What is decided about: states of the run's own data, evenly over all of it; else where its scenes begin.

    Where behaviours part, at the start of an episode, a screened decision takes longer than anywhere later.
    """
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


def _contenders(
    policies: dict[str, Policy], n: int, config: BenchConfig, device: torch.device, observations: Sequence[np.ndarray]
) -> dict[str, Contender]:
    """Every row at ``n`` candidates. What a decision takes is counted on the CPU, where the policies are."""
    made: dict[str, Contender] = {}
    observation = np.asarray(policies["student"].task.first_observation(policies["student"].task.scenes(1, 7)[0]))
    for name, policy in policies.items():
        policy = _with(policy, policy.generator, n)
        flop, moved, call = _work_of(policy, observation)
        there = _with(policy, policy.generator, n, device)
        made[name] = Contender(there, policy.generator.nfe, flop, moved, call)
        if device.type == "cuda" and name != "student":
            fast = _with(there, CudaGraphPlanner(there.generator), n)
            made[f"{name}-optimised"] = Contender(fast, fast.nfe, flop, moved, call)
        elif name == "teacher":
            try:
                fast = OnnxPlanner(policy.generator, n, policy.task.context_dim, torch.get_num_threads())
            except ReduceError:  # a U-Net stays as it is
                continue
            flop, moved, _ = _work_of(policy, observation, Unrolled(policy.generator))
            made["teacher-optimised"] = Contender(_with(policy, fast, n), fast.nfe, flop, moved, call)
    student, call = made["student"].decider, made["student"].call_flop
    assert isinstance(student, Policy)
    reduced = reduce(student, draws=config.draws)
    for name, backend in _backends(student, config).items():
        engine = Engine.from_policy(student, backend, threads=torch.get_num_threads(), draws=config.draws)
        module = rounded(reduced) if backend == "cuda-graph-bf16" else reduced
        flop, moved = _work(partial(module, torch.zeros(reduced.task.observation_dim), torch.tensor([0])))
        if backend.endswith("int8"):
            layers = [m for m in reduced.trunk.modules() if isinstance(m, nn.Linear)]
            layers += [m for m in reduced.scorer.modules() if isinstance(m, Batched)]
            moved -= 3 * sum(m.weight.numel() for m in layers)
        settled = None
        if isinstance(engine.runner, NativeRunner):
            settled = _settled(engine, engine.runner, observations)
            further = work_after_bounds(write_program(reduced, PRECISIONS.get(backend, "float32")))
            flop, moved = (int(all_ - (n - settled) * each) for all_, each in zip((flop, moved), further, strict=True))
        made[name] = Contender(engine, 1, flop, moved, call, settled)
    return made


def _settled(engine: Engine, runner: NativeRunner, observations: Sequence[np.ndarray]) -> float:
    """Candidates that a decision about these computes to the end, on average."""
    count = []
    for observation in observations:
        engine.decide(observation)
        count.append(runner.settled)
    engine.reset()
    return float(np.mean(count))


def _backends(student: Policy, config: BenchConfig) -> dict[str, Backend]:
    """The engines' rows."""
    made: dict[str, Backend]
    if student.device.type == "cuda":
        made = {"engine": "cuda-graph", "engine-tf32": "cuda-graph-tf32", "engine-bf16": "cuda-graph-bf16"}
    else:
        made = {"engine": preferred(student), "engine-int8": preferred(student, int8=True)}
        if made["engine-int8"] == "native-int8":
            made["engine-screened"] = "native-screened"
        made |= {f"engine-{other}": other for other in ("onnx", "onnx-int8") if other not in made.values()}
    if config.compiled:
        made["engine-compiled"] = "compile"
    return made


def _with(policy: Policy, generator: Any, candidates: int, device: torch.device | None = None) -> Policy:
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


def _work(call: Callable[[], object]) -> tuple[int, int]:
    """Operations and bytes of a call's products."""
    with torch.no_grad(), _Counter() as counter:
        call()
    return counter.flop, counter.bytes


def _work_of(policy: Policy, observation: np.ndarray, unrolled: Unrolled | None = None) -> tuple[int, int, int]:
    """Operations and bytes of a plain decision, and operations of one call of its network.

    The counter cannot look into a gradient: guidance counts as two passes of the return model per step, one forward
    and one back to the input. unrolled: counted in place of the planner's own sampling.
    """
    guided = policy.generator if isinstance(policy.generator, GuidedPlanner) else None
    planner = guided.planner if guided else policy.generator
    plain = _with(policy, planner, policy.candidates)
    flop, moved = _work(lambda: plain.decide(observation))
    prior = torch.zeros(policy.candidates, policy.task.horizon, policy.task.transition_dim)
    context = torch.zeros(1, policy.task.context_dim)
    rng = torch.Generator()
    sampling = _work(lambda: planner.sample(prior, context, generator=rng))
    if unrolled is not None:
        noise = torch.zeros(planner.nfe, *prior.shape)
        fewer = _work(lambda: unrolled(prior, context, noise))
        flop, moved = flop - sampling[0] + fewer[0], moved - sampling[1] + fewer[1]
    elif guided:
        more = _work(lambda: guided.returns(prior, 1, context if policy.task.context_dim else None))
        flop, moved = flop + 2 * guided.nfe * more[0], moved + 2 * guided.nfe * more[1]
    return flop, moved, sampling[0] // planner.nfe


# ---------------------------------------------------------------- measuring


def _measure(
    contenders: dict[str, Contender], observations: Sequence[np.ndarray], config: BenchConfig, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, dict[int, list[float]]]]:
    """Decisions [s] and their planning [s] by row; ceilings by kind and rows: products [GFLOP/s], copies [GB/s]."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    planning: dict[str, list[float]] = {name: [] for name in contenders}
    matmul: dict[int, list[float]] = {n: [] for n in config.candidates}
    copies: list[float] = []
    on_gpu = device.type == "cuda"
    copies_of = copying_on(device) if on_gpu else copying
    product = products_on(device, config.candidates) if on_gpu else products(config.candidates)
    with track("bench", config.rounds) as bar:
        for contender in contenders.values():
            for _ in range(WARM_UP):
                contender.decider.decide(observations[0])
        for i in range(config.rounds):
            for name, contender in contenders.items():
                time.sleep(PAUSE)
                contender.decider.decide(observations[i % len(observations)])
                for j in range(config.burst):
                    observation = observations[(config.burst * i + j) % len(observations)]
                    began = time.perf_counter()
                    decision = contender.decider.decide(observation)
                    times[name].append(time.perf_counter() - began)
                    planning[name].append(decision.timings["generate"])
            time.sleep(PAUSE)
            for n in config.candidates:
                matmul[n].append(product(n))
            copies.append(copies_of())
            bar.update(i + 1)
    return times, planning, {"matmul": matmul, "copy": {0: copies}}


def _row(
    name: str,
    contenders: dict[str, Contender],
    times: dict[str, list[float]],
    planning: dict[str, list[float]],
    ceilings: dict[str, dict[int, list[float]]],
) -> dict[str, Any]:
    contender, n = contenders[name], int(name.split("@")[1])
    median = float(np.median(times[name]))
    ceiling = float(np.median(ceilings["matmul"][n]))
    numbers: dict[str, float | None] = {
        **{k: v for k, v in latency(times[name]).items() if k != "decision_ms_mean"},
        "planning_ms_p50": 1e3 * float(np.median(planning[name])),
        "decisions_per_s": 1 / median,
        "nfe": contender.nfe,
        **({} if contender.settled is None else {"candidates_settled": contender.settled}),
        "batch_forwards": contender.flop / contender.call_flop,
        "gflop": contender.flop / 1e9,
        "mb": contender.bytes / 1e6,
        "gflop_per_s": contender.flop / median / 1e9,
        "share_of_ceiling": contender.flop / median / 1e9 / ceiling,
        "speed_up_over_teacher": float(np.median(times[f"teacher@{n}"])) / median,
        "speed_up_over_student": float(np.median(times[f"student@{n}"])) / median,
        "speed_up_over_student_p99": float(np.quantile(times[f"student@{n}"], 0.99) / np.quantile(times[name], 0.99)),
    }
    mean = summarize([1e3 * t for t in times[name]], [0] * len(times[name]))
    return {"decision_ms_mean": mean, **{k: summarize([v], [0]) for k, v in numbers.items()}}


def _pairs(
    teacher: Policy, observations: Sequence[np.ndarray], config: PairsConfig, size: int, device: torch.device
) -> dict[str, Any]:
    """Rows of pairs per second, in blocks of ``size``: of the teacher as it is, on a GPU also as one graph."""
    teacher = _with(teacher, teacher.generator, teacher.candidates, device)
    makers = {"pairs": teacher}
    if device.type == "cuda":
        makers["pairs-captured"] = _with(teacher, CudaGraphPlanner(teacher.generator), teacher.candidates)
    begin = torch.from_numpy(np.stack(observations)).float()
    config = replace(config, count=(BLOCKS + 1) * size)
    more = torch.Generator(device)
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for block in range(BLOCKS + 1):  # the first is not counted
        for name, maker in makers.items():
            began = time.perf_counter()
            make_block(maker, begin, config, block, more, size)
            if block:
                rates[name].append(size / (time.perf_counter() - began))
    return {f"{name}@{size}": {"pairs_per_s": summarize(rate, [0] * len(rate))} for name, rate in rates.items()}
