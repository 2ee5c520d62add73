"""What the time that decisions take does to a robot: trials in simulated time, where each takes as long as one says.

beside: asynchronous inference (``SimulatedLatency`` for an ``AsyncPolicy``). within: synchronous inference; the robot
holds the last command until the decision is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.evaluation.metrics import single, summarize
from onestride.evaluation.report import Column, markdown
from onestride.robot.clock import ChargedClock
from onestride.robot.decision import Decider
from onestride.tasks.task import Task

COLUMNS = (
    Column("success", "arrived", digits=0, percent=True, yes_or_no=True),
    Column("time_s", "time [s]"),
    Column("collided", "collided", digits=0, percent=True, yes_or_no=True),
    Column("stopped", "stopped", digits=0, percent=True, yes_or_no=True),
    Column("timeout", "time limit", digits=0, percent=True, yes_or_no=True),
    Column("late", "late ticks", digits=0, percent=True),
)


@dataclass(frozen=True)
class Latency:
    """Decisions take ``usual`` [s], some of them ``slow`` [s]: the share ``often``, at random."""

    usual: float
    slow: float = 0.0
    often: float = 0.0

    def __str__(self) -> str:
        ms = f"{1e3 * self.usual:g} ms"
        return f"{ms}, {1e3 * self.slow:g} ms every {1 / self.often:g}th" if self.often else ms

    def costs(self, seed: int) -> Iterator[float]:
        """One decision's after another's."""
        if not self.often:
            yield from repeat(self.usual)
        rng = np.random.default_rng(seed)
        while True:
            yield self.slow if rng.random() < self.often else self.usual


class Charged(ChargedClock):
    """Simulated time in which decisions take what ``costs`` says instead of what they took."""

    def __init__(self, costs: Iterator[float]) -> None:
        super().__init__()
        self.costs = costs

    def charge(self, seconds: float) -> None:
        del seconds
        super().charge(next(self.costs))


def trial(decider: Decider, task: Task, scene: Any, seed: int, latency: Latency, asynchronous: bool) -> EpisodeLog:
    """One scene."""
    costs = latency.costs(seed)
    clock = ChargedClock() if asynchronous else Charged(costs)
    robot = task.environment(scene, clock)
    return run_episode(
        robot, clock, SimulatedLatency(decider, clock, costs) if asynchronous else decider, task, timeout=30.0
    )


def summary(logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """One row of results."""
    ends = [log.outcome.split(":")[0] for log in logs]
    times = [log.duration if log.success else None for log in logs]
    shares = {"success": "arrived", "collided": "collision", "stopped": "stopped", "timeout": "timeout"}
    row = {
        name: summarize([float(end == outcome) for end in ends], [0] * len(ends)) for name, outcome in shares.items()
    }
    ticks = sum(log.ticks for log in logs)
    return row | {
        "time_s": summarize(times, [0] * len(times)),
        "late": single(sum(log.overruns for log in logs) / max(ticks, 1)),
    }


def table(record: dict[str, Any]) -> str:
    """A line per row, as Markdown."""
    lines = [[name, *(c.cell(row) for c in COLUMNS)] for name, row in record["rows"].items()]
    return markdown([["", *(c.heading for c in COLUMNS)], *lines])
