"""Speed of planner and training: ``onestride bench`` times the decisions.

python benchmarks/speed.py [--preset demo] [--out results/training/demo.json]
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
import tyro

import onestride.training
from onestride import presets
from onestride.control.policy import make_generator
from onestride.evaluation.result import machine
from onestride.files import versions, write_json
from onestride.progress import track
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.training import train


@dataclass(frozen=True)
class Arguments:
    """What to time, and where to write it."""

    preset: str = "demo"
    out: Path | None = None
    rounds: int = 3


def main(arguments: Arguments) -> None:
    preset = presets.load(arguments.preset)
    task = TASKS[preset.task]()
    report = {
        "schema": 1,
        "experiment": "bench",
        "command": "benchmarks/speed.py",
        "config": {name: None if value is None else str(value) for name, value in asdict(arguments).items()},
        "versions": versions(),
        "machine": machine(),
        "training_windows_per_s": training(arguments),
        **({"planner_trajectories_per_s": planner()} if task.benchmark is None else {}),
    }
    if "planner_trajectories_per_s" in report:
        print(f"planner    {report['planner_trajectories_per_s']:.0f} trajectories/s")
    for name, value in report["training_windows_per_s"].items():
        print(f"training   {name}: {value:.0f} windows/s")
    if arguments.out is not None:
        write_json(arguments.out, report)


def planner() -> float:
    demonstrations.chunk(0, 0)
    began = time.perf_counter()
    made = sum(len(demonstrations.chunk(0, i)[0]) for i in range(1, 4))
    return made / (time.perf_counter() - began)


def training(arguments: Arguments) -> dict[str, float]:
    """Windows per second of teacher and student at the preset's sizes: the median of rounds in turns.

    Every measurement has a process of its own, since how memory is kept is a process's for good.
    """
    rows = {"teacher": ("teacher", True), "student": ("student", True), "student-memory-given-back": ("student", False)}
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    processes = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with processes, track("timing", arguments.rounds * len(rows)) as bar:
        for i in range(arguments.rounds):
            for j, (name, (kind, keep)) in enumerate(rows.items()):
                speeds[name].append(processes.submit(trained_per_second, arguments.preset, kind, keep).result())
                bar.update(i * len(rows) + j + 1, name)
    return {name: median(values) for name, values in speeds.items()}


def trained_per_second(preset_name: str, kind: str, keep: bool, steps: int = 60, rows: int = 8192) -> float:
    """Windows per second of one training, data held on the device."""
    preset = presets.load(preset_name)
    task = TASKS[preset.task]()
    plans, context = torch.randn(rows, task.horizon, task.transition_dim), torch.randn(rows, task.context_dim)
    data = {"plans": plans, "context": context}
    if kind == "student":
        data = {"prior": plans, "target": plans.flip(0), "context": context, "weight": torch.ones(rows)}
    if not keep:
        onestride.training.keep_freed_memory = lambda: False
    config = replace(preset.teacher_training, steps=steps, checkpoint_every=1e9)
    generator = make_generator(task, kind, asdict(preset.teacher if kind == "teacher" else preset.student))
    _, happened = train(generator, data, config, Path("unused"), title=f"timing the {kind}", identity={})
    return steps * config.batch_size / happened["seconds"]


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
