"""What the time that decisions take does to a robot: trials in simulated time, where each takes as long as one says.

python -m onestride.studies decision_delay exported/arm [--scenes 100] [--out results/latency/NAME.json]

Scenes are those of evaluations, and the outcome depends on no machine's speed. Rows: asynchronous inference, where the
loop goes on (``SimulatedLatency`` for an ``AsyncPolicy``), or synchronous inference, where the robot holds the last
command until the decision is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.engine.engine import Engine
from onestride.evaluation.metrics import single, summarize
from onestride.progress import track
from onestride.reports.captions import DEVIATION
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.robot.clock import ChargedClock
from onestride.robot.decision import Decider
from onestride.tasks import TASKS
from onestride.tasks.task import Task

COLUMNS = (
    Column("success", "arrived", digits=0, kind="percent", spread=False),
    Column("time_s", "time", "s"),
    Column("collided", "collided", digits=0, kind="percent", spread=False),
    Column("stopped", "stopped", digits=0, kind="percent", spread=False),
    Column("timeout", "time limit", digits=0, kind="percent", spread=False),
    Column("late", "late ticks", digits=0, kind="percent"),
)


@dataclass(frozen=True)
class Delay:
    """Decisions take ``usual`` [s], some of them ``slow`` [s]: the share ``often``, at random."""

    usual: float
    slow: float = 0.0
    often: float = 0.0

    def __str__(self) -> str:
        ms = f"{1e3 * self.usual:g} ms"
        return f"{ms}, {1e3 * self.slow:g} ms every {1 / self.often:g}th" if self.often else ms

    def costs(self, seed: int) -> Iterator[float]:
        """Yield one decision's after another's."""
        if not self.often:
            yield from repeat(self.usual)
        rng = np.random.default_rng(seed)
        while True:
            yield self.slow if rng.random() < self.often else self.usual


DELAYS = (*map(Delay, (0.005, 0.025, 0.045, 0.06, 0.07, 0.095)), Delay(0.005, 0.08, 0.25), Delay(0.005, 0.15, 0.1))


def measure(folder: tyro.conf.Positional[Path], scenes: int = 100) -> dict[str, Any]:
    """Return the record of an exported engine in so many scenes of its task, whose robot is simulated."""
    if scenes < 1:
        raise ValueError(f"scenes is {scenes}, expected at least 1")
    engine = Engine.from_folder(folder, threads=1)
    task = TASKS[engine.control.name]()
    rows: dict[str, Any] = {}
    with track("driving", 2 * len(DELAYS) * scenes) as bar:
        for delay in DELAYS:
            for beside in (True, False):
                logs = []
                for number, scene in enumerate(task.scenes(scenes, 0)):
                    engine.reset(number)
                    logs.append(trial(engine, task, scene, number, delay, beside))
                    bar.update(len(rows) * scenes + number + 1)
                rows[f"{delay}, {'beside' if beside else 'within'}"] = summary(logs)
    config = {"task": task.name, "scenes": scenes, "engine": engine.chosen, "control_dt_s": task.control.control_dt}
    notes = ["simulated time; beside: beside the loop, within: within the tick; late: ticks without a decision"]
    return {"config": config, "seeds": {"scenes": 0}, "rows": rows, "notes": notes}


class Charged(ChargedClock):
    """Simulated time in which decisions take what ``costs`` says instead of what they took."""

    def __init__(self, costs: Iterator[float]) -> None:
        super().__init__()
        self.costs = costs

    def charge(self, seconds: float) -> None:
        del seconds
        super().charge(next(self.costs))


def trial(decider: Decider, task: Task, scene: Any, seed: int, delay: Delay, beside: bool) -> EpisodeLog:
    """Drive one scene."""
    costs = delay.costs(seed)
    clock = ChargedClock() if beside else Charged(costs)
    robot = task.environment(scene, clock)
    policy = SimulatedLatency(decider, clock, costs) if beside else decider
    return run_episode(robot, clock, policy, task.control, timeout=30.0)


def summary(logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """Return one row of results."""
    ends = [log.outcome.split(":")[0] for log in logs]
    times = [log.duration if log.success else None for log in logs]
    shares = {"success": "arrived", "collided": "collision", "stopped": "stopped", "timeout": "timeout"}
    seeds = [0] * len(logs)
    row = {name: summarize([float(end == outcome) for end in ends], seeds) for name, outcome in shares.items()}
    late = sum(log.overruns for log in logs) / max(sum(log.ticks for log in logs), 1)
    return row | {"time_s": summarize(times, seeds), "late": single(late)}


def table(record: dict[str, Any]) -> Table:
    """Return a line per delay, beside the loop and within its tick."""
    scenes = record["config"]["scenes"]
    said = f"{scenes} scenes each; {DEVIATION} over the scenes in which the arm arrived."
    return Table(COLUMNS, record["rows"], (said,))


def tables(results: Path) -> dict[str, Table]:
    """Return a table for every committed task."""
    return {f"latency-{name}": table(record) for name, record in records(results / "latency").items()}
