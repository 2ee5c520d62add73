"""Success by how long decisions take, beside the loop and within its tick, in simulated time.

python benchmarks/latency.py exported/arm [--scenes 100] [--out results/latency/NAME.json]

Scenes are those of evaluations. The outcome depends on no machine's speed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from onestride.engine.engine import Engine
from onestride.evaluation.latencies import COLUMNS, Latency, summary, trial
from onestride.evaluation.result import result
from onestride.files import CheckpointError, writable, write_json
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
    if arguments.out is not None and arguments.out.exists():
        raise SystemExit(f"{arguments.out} is there already; name another file, or remove it first")
    if arguments.out is not None:
        writable(arguments.out.parent)
    if arguments.scenes < 1:
        raise SystemExit(f"scenes is {arguments.scenes}, expected at least 1")
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        engine = Engine.from_folder(arguments.folder, threads=1)
    except CheckpointError as error:
        raise SystemExit(str(error)) from None
    task = TASKS[engine.task.name]()
    scenes = task.scenes(arguments.scenes, 0)
    rows = {}
    with track("driving", 2 * len(LATENCIES) * len(scenes)) as bar:
        for latency in LATENCIES:
            for beside in (True, False):
                logs = []
                for number, scene in enumerate(scenes):
                    engine.reset(number)
                    logs.append(trial(engine, task, scene, number, latency, beside))
                    bar.update(len(rows) * len(scenes) + number + 1)
                rows[f"{latency}, {'beside' if beside else 'within'}"] = summary(logs)
    for name, row in rows.items():
        print(f"{name:40s}", "  ".join(f"{c.heading} {c.cell(row)}" for c in COLUMNS))
    if arguments.out is not None:
        report = result(
            f"latency-{task.name}",
            "benchmarks/latency.py",
            config={"scenes": arguments.scenes, "engine": engine.chosen, "control_dt_s": task.control_dt},
            seeds={"scenes": 0},
            started=started,
            wall_s=time.monotonic() - began,
            rows=rows,
            notes=["simulated time; beside: beside the loop, within: within the tick; late: ticks without a decision"],
        )
        write_json(arguments.out, report)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
