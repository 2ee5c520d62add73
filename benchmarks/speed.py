"""Speed of planner and training: ``onestride bench`` times the decisions.

python benchmarks/speed.py [--preset demo] [--out results/bench/speed-training.json]
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from onestride import presets
from onestride.checkpoint import versions, write_json
from onestride.control.policy import make_generator
from onestride.evaluation.result import machine
from onestride.presets import Preset
from onestride.tasks import TASKS
from onestride.tasks.kinova import demonstrations
from onestride.tasks.task import Task
from onestride.training import TrainConfig, train


@dataclass(frozen=True)
class Arguments:
    """What to time, and where to write it."""

    preset: str = "demo"
    out: Path | None = None


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
        "training_windows_per_s": training(preset, task),
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


def training(preset: Preset, task: Task, steps: int = 60, rows: int = 8192) -> dict[str, float]:
    """Windows per second of teacher and student at the preset's sizes, data held on the device."""
    plans, context = torch.randn(rows, task.horizon, task.transition_dim), torch.randn(rows, task.context_dim)
    data = {
        "teacher": {"plans": plans, "context": context},
        "student": {"prior": plans, "target": plans.flip(0), "context": context, "weight": torch.ones(rows)},
    }
    config = TrainConfig(steps=steps, batch_size=preset.teacher_training.batch_size, checkpoint_every=1e9)
    speeds = {}
    for kind, settings in (("teacher", preset.teacher), ("student", preset.student)):
        generator = make_generator(task, kind, asdict(settings))
        _, happened = train(generator, data[kind], config, Path("unused"), title=f"timing the {kind}", identity={})
        speeds[kind] = steps * config.batch_size / happened["seconds"]
    return speeds


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
