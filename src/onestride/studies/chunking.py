"""What latency does to plans of several rows, by how they join: simulated time, every answer so many rows late.

python -m onestride.studies chunking runs/mine/dnk-0 --prefixed runs/mine/prefixed-0 [--scenes 50] [--out FILE]

The first folder is a checkpoint, or an engine's, that decides without a prefix: by synchronous inference, by naive
switching and by temporal ensembling. ``--prefixed`` is one that was trained with ``--prefix``: it joins by what is
committed. Scenes are those of evaluations, and the outcome depends on no machine's speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from onestride.control.chunks import Chunking, Join
from onestride.control.fallback import FallbackTimeouts
from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.evaluation.metrics import single, summarize
from onestride.latency.soak import load_policy_or_engine
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.robot.clock import ChargedClock, Clock
from onestride.studies.decision_delay import Charged
from onestride.tasks import TASKS
from onestride.tasks.task import Task

COLUMNS = (
    Column("success", "success", digits=0, kind="percent", spread=False),
    Column("jerk", "jerk", digits=3, spread=False),
    Column("jerk_of_switching", "of switching", digits=2, spread=False),
    Column("idle", "idle ticks", digits=1, kind="percent", spread=False),
)
#: Executions, and how each joins; None: synchronous inference.
EXECUTIONS: dict[str, Join | None] = {
    "synchronous": None, "switching": "switch", "ensemble": "ensemble", "prefix": "prefix",
}  # fmt: skip
LATENCIES = tuple(range(9))
#: An answer comes this share of a row before its last row is over.
EARLY = 0.01


@dataclass(frozen=True)
class Trial:
    """One scene: its log, whether it succeeded, and what was sent in every period (T, A)."""

    log: EpisodeLog
    success: bool
    sent: np.ndarray


class Sent:
    """A robot that notes what is sent in every control period; in one without a command that is the last one."""

    def __init__(self, robot: Any, clock: Clock, dt: float) -> None:
        self.robot, self.clock, self.dt = robot, clock, dt
        self.read, self.stop, self.fault = robot.read, robot.stop, robot.fault
        self.commands: list[np.ndarray] = []
        self._began = 0.0

    def write(self, command: np.ndarray) -> None:
        """Pass a command on."""
        now = self.clock.now()
        if not self.commands:
            self._began = now
        number = round((now - self._began) / self.dt)
        while self.commands and len(self.commands) < number:
            self.commands.append(self.commands[-1])
        self.commands.append(command.copy())
        self.robot.write(command)


def measure(
    folder: tyro.conf.Positional[Path], prefixed: Path, scenes: int = 50, rows: int | None = None,
    latencies: tuple[int, ...] = LATENCIES, timeout: float = 30.0,
) -> dict[str, Any]:  # fmt: skip
    """Return the record of two planners of one task, in so many of its scenes by every execution and latency.

    rows: of a plan that are carried out; None: the task's ``n_action_steps``, or 8 where that is 1. latencies: injected
    [rows]. timeout: of a trial [s].
    """
    if scenes < 1 or not latencies or min(latencies) < 0:
        raise ValueError(f"scenes is {scenes} and latencies {latencies}; expected at least 1, and none below 0")
    plain, joining = (load_policy_or_engine(path, "cpu").decider for path in (folder, prefixed))
    if plain.control.name != joining.control.name:
        raise ValueError(f"{folder} is of task '{plain.control.name}', {prefixed} of '{joining.control.name}'")
    if joining.longest_prefix < max(latencies):
        raise ValueError(
            f"{prefixed} has learnt a prefix of {joining.longest_prefix} rows, and latencies go to {max(latencies)}: "
            f"train it with --prefix {max(latencies)}, or give fewer --latencies"
        )
    task = TASKS[plain.control.name]()
    rows = rows or (task.control.n_action_steps if task.control.n_action_steps > 1 else min(8, task.control.horizon))
    task = task.with_control(horizon=plain.control.horizon, n_action_steps=rows)
    made: dict[str, Any] = {}
    with track("driving", len(latencies) * len(EXECUTIONS) * scenes) as bar:
        for latency in latencies:
            for name, join in EXECUTIONS.items():
                decider, trials = (joining if join == "prefix" else plain), []
                for number, scene in enumerate(task.scenes(scenes, 0)):
                    decider.reset(number)
                    trials.append(drive(decider, task, scene, join, latency, timeout))
                    bar.update((len(made)) * scenes + number + 1)
                made[f"{latency} rows, {name}"] = summary(trials, task.control.control_dt)
            against = made[f"{latency} rows, switching"]["jerk"]["mean"]
            for name in EXECUTIONS:
                row = made[f"{latency} rows, {name}"]
                row["jerk_of_switching"] = single(row["jerk"]["mean"] / against if against else 1.0)
    config = {
        "task": task.name, "scenes": scenes, "n_action_steps": rows, "horizon": task.control.horizon,
        "longest_prefix": joining.longest_prefix, "control_dt_s": task.control.control_dt,
    }  # fmt: skip
    notes = ["simulated time; jerk: root mean square of the commands' third differences by control_dt^3"]
    return {"config": config, "seeds": {"scenes": 0}, "rows": made, "notes": notes}


def drive(decider: Any, task: Task, scene: Any, join: Join | None, latency: int, timeout: float) -> Trial:
    """Drive one scene, every answer so many rows after its observation. join None: synchronous inference."""
    costs: Iterator[float] = repeat(max(latency - EARLY, 0.0) * task.control.control_dt)
    clock = Charged(costs) if join is None else ChargedClock()
    inner = task.environment(scene, clock)
    robot = Sent(inner, clock, task.control.control_dt)
    # Plans are followed to their end by every execution.
    age = 2 * task.control.horizon * task.control.control_dt
    timeouts = FallbackTimeouts.at(task.control.control_dt, max_observation_age=age)
    policy = decider if join is None else SimulatedLatency(decider, clock, costs)
    chunking = None if join is None else Chunking(join, latency)
    log = run_episode(
        robot, clock, policy, task.control, timeout=timeout, fallback_timeouts=timeouts, chunking=chunking
    )  # fmt: skip
    measured = task.measure(inner, scene)
    success = bool(measured["success"]) if "success" in measured else log.success
    return Trial(log, success, np.array(robot.commands).reshape(-1, task.control.action_dim))


def jerk(sent: np.ndarray, dt: float) -> float | None:
    """Return the root mean square of the third differences of commands (T, A), by dt^3; None of fewer than four."""
    return None if len(sent) < 4 else float(np.sqrt((np.diff(sent, n=3, axis=0) ** 2).sum(1).mean()) / dt**3)


def summary(trials: Sequence[Trial], dt: float) -> dict[str, Any]:
    """Return one row of results."""
    seeds = [0] * len(trials)
    return {
        "success": summarize([float(trial.success) for trial in trials], seeds),
        "jerk": summarize([jerk(trial.sent, dt) for trial in trials], seeds),
        "idle": single(sum(trial.log.idle for trial in trials) / max(sum(trial.log.ticks for trial in trials), 1)),
    }


def table(record: dict[str, Any]) -> Table:
    """Return a line per latency and execution."""
    config = record["config"]
    said = f"{config['scenes']} scenes each; {config['n_action_steps']} of {config['horizon']} rows are carried out."
    return Table(COLUMNS, record["rows"], (said,))


def tables(results: Path) -> dict[str, Table]:
    """Return a table for every committed task."""
    return {f"chunking-{name}": table(record) for name, record in records(results / "chunking").items()}
