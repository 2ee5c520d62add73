"""Success by how long decisions take, with asynchronous and with synchronous inference, in simulated time.

python benchmarks/latency.py exported/arm [--scenes 100] [--out results/latency/NAME.json]

Scenes are those of evaluations. The outcome depends on no machine's speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from onestride.commands.base import mendable, typed
from onestride.engine.engine import Engine
from onestride.evaluation.latencies import COLUMNS, Latency, summary, trial
from onestride.evaluation.result import Experiment
from onestride.progress import track
from onestride.tasks import TASKS

LATENCIES = (
    Latency(0.005), Latency(0.025), Latency(0.045), Latency(0.06), Latency(0.07), Latency(0.095),
    Latency(0.005, 0.08, 0.25), Latency(0.005, 0.15, 0.1),
)  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    """An exported folder of a task with a simulated robot."""

    folder: tyro.conf.Positional[Path]
    scenes: int = 100
    out: Path | None = None


def main(arguments: Arguments) -> None:
    if arguments.scenes < 1:
        raise ValueError(f"scenes is {arguments.scenes}, expected at least 1")
    engine = Engine.from_folder(arguments.folder, threads=1)
    task = TASKS[engine.task.name]()
    experiment = Experiment(f"latency-{task.name}", typed("benchmarks/latency.py"), arguments.out)
    scenes = task.scenes(arguments.scenes, 0)
    rows = {}
    with track("driving", 2 * len(LATENCIES) * len(scenes)) as bar:
        for latency in LATENCIES:
            for asynchronous in (True, False):
                logs = []
                for number, scene in enumerate(scenes):
                    engine.reset(number)
                    logs.append(trial(engine, task, scene, number, latency, asynchronous))
                    bar.update(len(rows) * len(scenes) + number + 1)
                rows[f"{latency}, {'beside' if asynchronous else 'within'}"] = summary(logs)
    for name, row in rows.items():
        print(f"{name:40s}", "  ".join(f"{c.heading} {c.cell(row)}" for c in COLUMNS))
    experiment.record(
        config={
            "task": task.name,
            "scenes": arguments.scenes,
            "engine": engine.chosen,
            "control_dt_s": task.control_dt,
        },
        seeds={"scenes": 0},
        rows=rows,
        notes=["simulated time; beside: asynchronous inference, within: synchronous; late: ticks without a decision"],
    )


if __name__ == "__main__":
    with mendable():
        main(tyro.cli(Arguments, description=__doc__))
