"""``onestride bench``: what one decision costs, of teacher, student and engine in turns, beside the machine's peaks.

    teacher             as it is                    student       as it is
    teacher-optimised   its calls as one graph      engine        the student's decision as one graph, or program
                                                    engine-int8   with large products in 8 bits
                                                    engine-onnx   by ONNX Runtime, where the engine is native
                                                    engine-openvino   by OpenVINO, where it is installed

On a GPU teacher-optimised is the teacher's sampling as one CUDA graph, of a U-Net too, engine the decision as one;
engine-tf32 and engine-bf16 are that with coarser products. On request engine-compiled goes through torch.compile first,
and pairs@B is how many training pairs per second the teacher makes in blocks of B (pairs-captured@B: as one graph).

A row's name ends with the number of candidates: ``engine@64``. In every round each subject decides a few times, after a
pause and one decision that counts for itself (``after_pause_ms_p50``: in a control loop every decision is such a one,
with caches cold and cores asleep). A machine whose speed drifts thus slows all of them. The peaks are measured in every
round too. Ratios are of medians, but for one of p99.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestride.device import resolve_device
from onestride.engine.cuda_graph import CudaGraphPlanner, needs_cuda
from onestride.engine.engine import Engine
from onestride.evaluation.metrics import PAUSE, latency, summarize
from onestride.evaluation.result import Experiment
from onestride.evaluation.variant import Variant
from onestride.latency.roofline import copy_peak, product_peak
from onestride.latency.subjects import (
    OBSERVATIONS,
    Subject,
    observations_of,
    stepping,
    subjects_of,
    trained,
    untrained,
    with_parts,
)
from onestride.methods.guided import GuidedPlanner
from onestride.methods.settings import solver
from onestride.policy.policy import Policy
from onestride.progress import track
from onestride.runs.pairs import make_block
from onestride.runs.settings import BenchConfig, PairsConfig
from onestride.runs.stage import Preset
from onestride.tasks.task import Task

WARM_UP = 5
BLOCKS = 5  # of pairs that count


#: What is measured once or several times per round: (row, what) -> times [s]; of the machine's peaks (rows or None,
#: "product" or "copy") -> [GFLOP/s] or [GB/s].
Samples = dict[tuple[str | int | None, str], list[float]]


def bench(
    run: Path | None,
    preset: Preset,
    config: BenchConfig,
    command: str,
    out: Path | None,
    device: str = "cpu",
    show: Callable[[dict[str, Any]], object] | None = None,
    *,
    policies: dict[str, Policy] | None = None,
    variants: Mapping[str, Variant] | None = None,
) -> dict[str, Any]:
    """Measure, ``show`` the record and write it to ``out``.

    Args:
        run: of trained policies; None: untrained ones of the preset's sizes.
        policies: in their place, "teacher" and "student" among them.
        variants: what subjects are, for the rows of the record; others are left out of it.

    Raises:
        FileExistsError: ``out`` is there already; OSError: it cannot be written.
        ValueError: there is no such device, or the run has no student.
    """
    experiment = Experiment("bench", command, out)
    if (place := resolve_device(device)).type != "cpu":
        needs_cuda(place)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if policies is None:
        policies = untrained(preset, config.paper_teacher) if run is None else trained(run)
    task = policies["student"].task
    if task.control.cameras:
        raise ValueError(f"the bench counts no encoders of cameras, which '{task.name}' has: see `onestride evaluate`")
    observations = observations_of(run, task)
    subjects = {s.row: s for n in config.candidates for s in subjects_of(policies, n, config, place)}
    if variants is not None:
        subjects = {row: s for row, s in subjects.items() if s.name in variants}
    samples = _measure(subjects, observations, task, config, place)
    rows = {row: _metrics(subject, samples) for row, subject in subjects.items()}
    if variants is not None:
        for row, subject in subjects.items():
            rows[row]["variant"] = replace(variants[subject.name], candidates=subject.candidates).fields()
    if config.pairs is not None:
        rows |= _pairs(policies["teacher"], observations, preset.stage("pairs").config, config.pairs, place)
    about = {"run": None if run is None else str(run), "preset": preset.about, "task": task.name, "device": device}
    ceilings = {f"matmul_gflops_{n}": float(np.median(samples[n, "product"])) for n in config.candidates}
    ceilings["copy_gb_per_s"] = float(np.median(samples[None, "copy"]))
    notes = _notes(run, config, policies, subjects, len(observations), place)
    return experiment.record(
        config=asdict(config) | about, seeds={"noise": 0}, rows=rows, notes=notes, ceilings=ceilings, show=show
    )


def _notes(
    run: Path | None, config: BenchConfig, policies: dict[str, Policy], subjects: dict[str, Subject], observations: int,
    place: torch.device,
) -> list[str]:  # fmt: skip
    made_by = {s.name: s.decider.chosen for s in subjects.values() if isinstance(s.decider, Engine)}
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
        "observations: " + ("where scenes begin" if observations < OBSERVATIONS else "states of the data, in turns"),
        "batch_forwards is a decision's arithmetic in calls of its own network on all candidates, batch_equivalent in "
        "such calls on one candidate",
        "end to end: from the observation to the next one, a decision and a step of the simulated robot",
    ]
    if isinstance(policies["teacher"].generator, GuidedPlanner):
        notes.append("the teachers are guided by the return model")
    if place.type == "cuda":
        notes.append("teacher and student are as torch's defaults have them: products in float32, convolutions in TF32")
    if config.pairs is not None:
        notes.append(f"pairs are made in blocks of {config.pairs} as `onestride pairs` makes them, but none is written")
    return notes


# ---------------------------------------------------------------- measuring


def _measure(
    subjects: dict[str, Subject], observations: Sequence[np.ndarray], task: Task, config: BenchConfig,
    device: torch.device,
) -> Samples:  # fmt: skip
    """Time all subjects and the machine's peaks in turns."""
    samples: Samples = defaultdict(list)
    step = stepping(task)
    product = product_peak(device, config.candidates)
    with track("bench", config.rounds) as bar:
        for subject in subjects.values():
            for _ in range(WARM_UP):
                subject.decider.decide(observations[0])
        for i in range(config.rounds):
            for row, subject in subjects.items():
                decide = subject.decider.decide
                time.sleep(PAUSE)
                began = time.perf_counter()
                decide(observations[i % len(observations)])
                samples[row, "after pause"].append(time.perf_counter() - began)
                for j in range(config.burst):
                    observation = observations[(config.burst * i + j) % len(observations)]
                    began = time.perf_counter()
                    decision = decide(observation)
                    samples[row, "decision"].append(time.perf_counter() - began)
                    samples[row, "planning"].append(decision.timings["generate"])
                if step is not None:
                    began = time.perf_counter()
                    step(decide(observations[i % len(observations)]).action)
                    samples[row, "end to end"].append(time.perf_counter() - began)
            time.sleep(PAUSE)
            for n in config.candidates:
                samples[n, "product"].append(product(n))
            samples[None, "copy"].append(copy_peak(device))
            bar.update(i + 1)
    return samples


def _metrics(subject: Subject, samples: Samples) -> dict[str, Any]:
    """Return a subject's row of the record."""
    row, n = subject.row, subject.candidates
    times, teacher, student = (samples[of, "decision"] for of in (row, f"teacher@{n}", f"student@{n}"))
    median = float(np.median(times))
    rate = subject.flop / median / 1e9
    numbers: dict[str, float | None] = {
        **{k: v for k, v in latency(times).items() if k != "decision_ms_mean"},
        "after_pause_ms_p50": 1e3 * float(np.median(samples[row, "after pause"])),
        "planning_ms_p50": 1e3 * float(np.median(samples[row, "planning"])),
        "decisions_per_s": 1 / median,
        "nfe": subject.nfe,
        "batch_forwards": subject.flop / subject.call_flop,
        "batch_equivalent": n * subject.flop / subject.call_flop,
        "gflop": subject.flop / 1e9,
        "mb": subject.bytes / 1e6,
        "gflop_per_s": rate,
        "share_of_ceiling": rate / float(np.median(samples[n, "product"])),
        "speed_up_over_teacher": float(np.median(teacher)) / median,
        "speed_up_over_student": float(np.median(student)) / median,
        "speed_up_over_student_p99": float(np.quantile(student, 0.99) / np.quantile(times, 0.99)),
    }
    if steps := samples[row, "end to end"]:
        numbers["end_to_end_ms_p50"] = 1e3 * float(np.median(steps))
    mean = summarize([1e3 * t for t in times], [0] * len(times))
    return {"decision_ms_mean": mean, **{k: summarize([v], [0]) for k, v in numbers.items()}}


def _pairs(
    teacher: Policy, observations: Sequence[np.ndarray], config: PairsConfig, size: int, device: torch.device
) -> dict[str, Any]:
    """Return rows of pairs per second, in blocks of ``size``: by the teacher, on a GPU also as one graph."""
    teacher = with_parts(teacher, teacher.generator, teacher.candidates, device)
    teacher = teacher.with_settings(solver(config.solver))
    makers = {"pairs": teacher}
    if device.type == "cuda":
        makers["pairs-captured"] = with_parts(teacher, CudaGraphPlanner(teacher.generator), teacher.candidates)
    observed = torch.from_numpy(np.stack(observations)).float()
    config = replace(config, count=(BLOCKS + 1) * size)
    rng = torch.Generator(device)
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for block in range(BLOCKS + 1):  # the first is not counted
        for name, maker in makers.items():
            began = time.perf_counter()
            make_block(maker, observed, config, block, rng, size)
            if block:
                rates[name].append(size / (time.perf_counter() - began))
    return {f"{name}@{size}": {"pairs_per_s": summarize(rate, [0] * len(rate))} for name, rate in rates.items()}
