"""What a decision costs: teacher, student and engine in turns, beside the machine's own ceilings in the same run.

    teacher             as it is                    student       as it is
    teacher-optimised   its calls as one graph      engine        the student's decision as one graph, or program
                                                    engine-int8       with large products in 8 bits
                                                    engine-onnx       by ONNX Runtime, where the engine is native

On a CPU a guided teacher and a U-Net have no row teacher-optimised. On a GPU it is the teacher's sampling as one CUDA
graph, of these too, engine the decision as one; engine-tf32 and engine-bf16 are that with coarser products. On request
engine-compiled goes through torch.compile first, and pairs@B is how many training pairs per second the teacher makes in
blocks of B (pairs-captured@B: as one graph).

A row's name ends with the number of candidates: ``engine@64``. In every round each decides a few times, after a pause
and one decision that counts for itself (``after_pause_ms_p50``: in a control loop every decision is such a one, with
caches cold and cores asleep), so that a machine whose speed drifts slows all of them; the ceilings, matrix
products of the networks' size and a copy of memory, are measured in every round too. Ratios are of medians, but for
one of p99.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.control.policy import Policy
from onestride.device import usable
from onestride.diffusion.guidance import GuidedPlanner
from onestride.engine.cuda_graph import CudaGraphPlanner, needs_cuda
from onestride.engine.engine import Engine
from onestride.evaluation.bench_contenders import SEEN, Contender, contenders_of, seen, trained, untrained, with_parts
from onestride.evaluation.ceilings import PAUSE, copying, copying_on, products, products_on
from onestride.evaluation.metrics import latency, summarize
from onestride.evaluation.result import Experiment
from onestride.presets import Preset
from onestride.progress import track
from onestride.settings import BenchConfig
from onestride.students.pairs import PairsConfig, make_block

WARM_UP = 5
BLOCKS = 5  # of pairs that count


def bench(
    run: Path | None,
    preset: Preset,
    config: BenchConfig,
    command: str,
    out: Path | None,
    device: str = "cpu",
    show: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Measure, ``show`` the record and write it to ``out``. run: trained policies; None: untrained ones of the preset's
    sizes.

    Raises:
        FileExistsError: ``out`` is there already; OSError: it cannot be written.
        ValueError: there is no such device, or the run has no student.
    """
    experiment = Experiment("bench", command, out)
    if (place := usable(device)).type != "cpu":
        needs_cuda(place)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    policies = untrained(preset, config.paper_teacher) if run is None else trained(run)
    task = next(iter(policies.values())).task
    observations = seen(run, task)
    contenders: dict[str, Contender] = {}
    for n in config.candidates:
        contenders |= {f"{name}@{n}": c for name, c in contenders_of(policies, n, config, place).items()}
    times, first, planning, ceilings = _measure(contenders, observations, config, place)
    made_by = {name.split("@")[0]: c.decider.chosen for name, c in contenders.items() if isinstance(c.decider, Engine)}
    rows = {name: _row(name, contenders, times, first, planning, ceilings) for name in contenders}
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
    measured = {f"matmul_gflops_{n}": float(np.median(v)) for n, v in ceilings["matmul"].items()}
    measured["copy_gb_per_s"] = float(np.median(ceilings["copy"][0]))
    return experiment.record(
        config=asdict(config) | about, seeds={"noise": 0}, rows=rows, notes=notes, ceilings=measured, show=show
    )


# ---------------------------------------------------------------- measuring


def _measure(
    contenders: dict[str, Contender], observations: Sequence[np.ndarray], config: BenchConfig, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[float]], dict[str, dict[int, list[float]]]]:
    """Decisions [s], those directly after a pause, and planning [s] by row; ceilings by kind and rows: products
    [GFLOP/s], copies [GB/s]."""
    times, first, planning = ({name: [] for name in contenders} for _ in range(3))
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
                began = time.perf_counter()
                contender.decider.decide(observations[i % len(observations)])
                first[name].append(time.perf_counter() - began)
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
    return times, first, planning, {"matmul": matmul, "copy": {0: copies}}


def _row(
    name: str,
    contenders: dict[str, Contender],
    times: dict[str, list[float]],
    first: dict[str, list[float]],
    planning: dict[str, list[float]],
    ceilings: dict[str, dict[int, list[float]]],
) -> dict[str, Any]:
    contender, n = contenders[name], int(name.split("@")[1])
    median = float(np.median(times[name]))
    ceiling = float(np.median(ceilings["matmul"][n]))
    numbers: dict[str, float | None] = {
        **{k: v for k, v in latency(times[name]).items() if k != "decision_ms_mean"},
        "after_pause_ms_p50": 1e3 * float(np.median(first[name])),
        "planning_ms_p50": 1e3 * float(np.median(planning[name])),
        "decisions_per_s": 1 / median,
        "nfe": contender.nfe,
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
    teacher = with_parts(teacher, teacher.generator, teacher.candidates, device)
    makers = {"pairs": teacher}
    if device.type == "cuda":
        makers["pairs-captured"] = with_parts(teacher, CudaGraphPlanner(teacher.generator), teacher.candidates)
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
