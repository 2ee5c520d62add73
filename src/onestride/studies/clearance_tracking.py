"""How far a simulated robot is from the reference that its clearance filter reckons with: the tracking error, measured.

python -m onestride.studies clearance_tracking [--episodes 300] [--out results/clearance/tracking.json]

The robot is driven without obstacles by plans that use all that the filter lets through: to other places all the time,
back at full speed, with commands that come early, late or not at all. The largest error of each capsule's ends counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onestride.clearance import FILTERS, kinova, quadrotor
from onestride.clearance.positions import PositionReference
from onestride.evaluation.metrics import single
from onestride.progress import track
from onestride.reports.documents import records
from onestride.reports.table import Column, Table
from onestride.robot.clock import ChargedClock
from onestride.studies.clearance_trials import ARM_GEOMS, BODIES, Body
from onestride.tasks import TASKS
from onestride.tasks.kinova.control_spec import MAX_STEP
from onestride.tasks.obstacles import OBSTACLE_DIM
from onestride.tasks.task import Task

NAME = "tracking"
COLUMNS = (
    Column("episodes", "episodes", digits=0, spread=False),
    Column("error_mm", "largest error", "mm", 1, spread=False),
    Column("assumed_mm", "assumed", "mm", 1, spread=False),
    Column("share", "of it", digits=0, kind="percent", spread=False),
)
#: What is assumed of each capsule [m].
ASSUMED = {
    "kinova": dict(zip(ARM_GEOMS, kinova.TRACKING.tolist(), strict=True)),
    "quadrotor": {"sphere": quadrotor.LIMITS.tracking},
}
SECONDS = 4.0  # of an episode
CHANGES = (1.0, 0.05, 0.15, 0.3)  # probabilities of another heading per tick; each episode has one of them
JITTER = (0.0, 0.2, 0.5)  # by which share of a period commands come early or late
DROPPED = (0.0, 0.05, 0.3)  # shares of the periods in which a pause without commands begins
LONGEST = 40  # of such a pause [periods]


def measure(episodes: int = 300, seed: int = 0) -> dict[str, Any]:
    """Return the record of so many episodes of each robot."""
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}, expected at least 1")
    rows: dict[str, Any] = {}
    done = 0
    with track("driving", len(BODIES) * episodes) as bar:
        for name, body in BODIES.items():
            task, worst = TASKS[name](), np.zeros(len(body.radii))
            for number in range(episodes):
                rng = np.random.default_rng((seed, number))
                worst = np.maximum(worst, errors(body, task, rng))
                bar.update(done := done + 1)
            for (part, assumed), error in zip(ASSUMED[name].items(), worst, strict=True):
                measured = {"episodes": episodes, "error_mm": 1e3 * error, "assumed_mm": 1e3 * assumed}
                measured["share"] = error / assumed
                rows[f"{name}, {part}"] = {key: single(float(value)) for key, value in measured.items()}
    notes = ["simulated time; the largest distance of a capsule's end from where the reference has it"]
    return {
        "config": {"episodes": episodes, "seconds": SECONDS},
        "seeds": {"plans": seed},
        "rows": rows,
        "notes": notes,
    }


@dataclass
class Wanderer:
    """Commands at the limits of what a filter lets through."""

    task: Task
    rng: np.random.Generator
    change: float
    heading: np.ndarray

    def command(self, position: np.ndarray) -> np.ndarray:
        """Return the next command (3,) from a position (3,) [m]."""
        control = self.task.control
        if self.rng.random() < self.change:
            self.heading = self.rng.normal(size=3) if self.rng.random() < 0.8 else -self.heading
        way = self.heading / np.linalg.norm(self.heading)
        if not control.position_commands:
            return way * self.rng.uniform(0.2, 1.0) * control.limits.high
        there = position + MAX_STEP * way * self.rng.choice((0.3, 1.0))
        inside = np.clip(there, control.limits.low, control.limits.high)
        self.heading = np.where(inside == there, self.heading, -self.heading)
        return inside


def errors(body: Body, task: Task, rng: np.random.Generator) -> np.ndarray:
    """Return the largest error of each capsule in one episode (K,) [m]."""
    clock, dt, start = ChargedClock(), task.control.control_dt, body.place(rng)
    robot = task.environment(body.scene(start, start, np.zeros((body.scene.max_obstacles, OBSTACLE_DIM))), clock)
    clearance = FILTERS[body.name]()
    plan = Wanderer(task, rng, float(rng.choice(CHANGES)), rng.normal(size=3))
    jitter, dropped = float(rng.choice(JITTER)), float(rng.choice(DROPPED))
    seen, pause, worst = 0, 0, np.zeros(len(body.radii))

    def compare() -> None:
        """Look at what was recorded since the last time, before another command changes the reference."""
        nonlocal seen, worst
        robot.read()
        if clock.now() > 0:
            worst = np.maximum(worst, _errors(body, robot, clearance.reference, seen))
        seen = len(robot.rows)

    while clock.now() < SECONDS:
        observation, now = robot.read(), clock.now()
        clearance.observe(observation, now)
        clock.charge(rng.uniform(0.0, 0.5) * dt * jitter)  # the decision
        compare()
        pause = pause - 1 if pause else int(rng.integers(1, LONGEST)) if rng.random() < 0.2 * dropped else 0
        if not pause:
            sent = clearance(plan.command(observation[:3]), np.zeros((0, 3)), clock.now())
            if sent is not None:
                robot.write(sent)
        clock.sleep_until(now + dt * (1 + 0.5 * jitter * rng.uniform(-1, 1)))
        compare()
    return worst


def _errors(body: Body, robot: Any, reference: Any, seen: int) -> np.ndarray:
    """Return the largest error of each capsule (K,) [m] in the rows of the recording from ``seen`` on."""
    rows = np.array(robot.rows[seen:])
    if not len(rows):
        return np.zeros(len(body.radii))
    if not isinstance(reference, PositionReference):
        return np.array([max(reference.off(row[1:4]) for row in rows)])
    wanted = body.near(np.array([reference.at(time) for time in rows[:, 0]]))
    return np.linalg.norm(body.axes(robot.model, rows[:, 4:]) - wanted, axis=-1).max((0, 2))


def table(record: dict[str, Any]) -> Table:
    """Return a line per capsule."""
    said = f"{record['config']['episodes']} episodes of {record['config']['seconds']:g} s each."
    return Table(COLUMNS, record["rows"], (said,))


def tables(results: Path) -> dict[str, Table]:
    """Return the committed table."""
    return {f"clearance-{name}": table(each) for name, each in records(results / "clearance").items() if name == NAME}
