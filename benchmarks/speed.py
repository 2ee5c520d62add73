"""Speed of planner and training: ``onestride bench`` times the decisions.

python benchmarks/speed.py [--preset demo] [--out results/training/demo.json]
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro

import onestride.training.loop
from onestride.commands.base import mendable, typed
from onestride.evaluation.metrics import summarize
from onestride.evaluation.result import Experiment
from onestride.policy.policy import make_generator
from onestride.progress import track
from onestride.runs import presets
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.training.loop import train


@dataclass(frozen=True)
class Arguments:
    """What to time, and where to write it."""

    preset: str = "demo"
    out: Path | None = None
    rounds: int = 3


def main(arguments: Arguments) -> None:
    experiment = Experiment("speed", typed("benchmarks/speed.py"), arguments.out)
    task = TASKS[presets.load(arguments.preset).task]()
    rows = {
        name: {"windows_per_s": summarize(speeds, [0] * len(speeds))} for name, speeds in training(arguments).items()
    }
    if task.benchmark is None:
        speeds = [planner() for _ in range(arguments.rounds)]
        rows["planner"] = {"trajectories_per_s": summarize(speeds, [0] * len(speeds))}
    for name, row in rows.items():
        print(f"{name:28s}", "  ".join(f"{value['mean']:.0f} {metric}" for metric, value in row.items()))
    experiment.record(
        config={"preset": arguments.preset, "rounds": arguments.rounds},
        seeds={},
        rows=rows,
        notes=["student-memory-given-back: freed memory goes back to the system at once, as it does without asking"],
    )


def planner() -> float:
    demonstrations.chunk(0, 0)
    began = time.perf_counter()
    made = sum(len(demonstrations.chunk(0, i)[0]) for i in range(1, 4))
    return made / (time.perf_counter() - began)


def training(arguments: Arguments) -> dict[str, list[float]]:
    """Windows per second of teacher and student at the preset's sizes, in rounds that take turns.

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
    return speeds


def trained_per_second(preset_name: str, kind: str, keep: bool, steps: int = 60, rows: int = 8192) -> float:
    """Windows per second of one training, data held on the device."""
    preset = presets.load(preset_name)
    task = TASKS[preset.task]()
    plans, context = torch.randn(rows, task.horizon, task.transition_dim), torch.randn(rows, task.context_dim)
    data = {"plans": plans, "context": context}
    if kind == "student":
        data = {"prior": plans, "target": plans.flip(0), "context": context, "weight": torch.ones(rows)}
    if not keep:
        onestride.training.loop.keep_freed_memory = lambda: False
    config = replace(preset.teacher_training, steps=steps, checkpoint_every=1e9)
    generator = make_generator(task, kind, asdict(preset.teacher if kind == "teacher" else preset.student))
    _, happened = train(generator, data, config, Path("unused"), title=f"timing the {kind}", identity={})
    return steps * config.batch_size / happened["seconds"]


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
