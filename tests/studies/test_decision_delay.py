"""Trials whose decisions take as long as one says, in simulated time."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from onestride.control.log import EpisodeLog
from onestride.reports.table import cells
from onestride.robot.decision import Decision
from onestride.studies.decision_delay import Delay, summary, table, trial
from onestride.tasks import TASKS


class Hand:
    """Follows a target in one control period, and arrives at a distance of 1."""

    def __init__(self, clock, dt: float) -> None:
        self.clock, self.dt, self.since, self.way = clock, dt, 0.0, (0.0, 0.0)

    def read(self) -> np.ndarray:
        share = min((self.clock.now() - self.since) / self.dt, 1.0)
        here = (1 - share) * self.way[0] + share * self.way[1]
        return np.concatenate(([here], np.zeros(16)))

    def write(self, command: np.ndarray) -> None:
        self.way, self.since = (float(self.read()[0]), float(command[0])), self.clock.now()

    def stop(self) -> None:
        pass

    def fault(self) -> None:
        return None


class Steady:
    """0.4 per second."""

    def decide(self, observation: np.ndarray) -> Decision:
        plan = np.zeros((16, 23), np.float32)
        plan[:, 17] = observation[0] + 0.02 * np.arange(1, 17)
        return Decision(plan[0, 17:].astype(float), plan, plan[None], np.zeros(1), {})


@pytest.fixture
def task():
    made = TASKS["halfcheetah-v5"]()
    reaching = made.with_control(
        position_commands=True, rest=None, goal_reached=lambda observation: bool(observation[0] >= 0.8)
    )
    return replace(reaching, environment=lambda scene, clock: Hand(clock, made.control.control_dt))


def test_costs_are_what_is_said_and_the_same_again():
    assert list(islice(Delay(0.02).costs(0), 3)) == [0.02] * 3
    mixed = list(islice(Delay(0.01, 0.1, 0.25).costs(3), 4000))
    assert set(mixed) == {0.01, 0.1}
    assert mixed.count(0.1) == pytest.approx(1000, abs=100)
    assert mixed == list(islice(Delay(0.01, 0.1, 0.25).costs(3), 4000))
    assert str(Delay(0.02)) == "20 ms"
    assert str(Delay(0.005, 0.08, 0.25)) == "5 ms, 80 ms every 4th"


def test_a_slow_decision_costs_pace_with_synchronous_inference_alone(task):
    """2 s at full pace, in periods of 50 ms."""
    quick, slow, within = (
        trial(Steady(), task, None, 0, Delay(cost), beside)
        for cost, beside in ((0.0, True), (0.07, True), (0.07, False))
    )
    assert quick.success
    assert slow.success
    assert quick.overruns == 0
    assert slow.overruns == slow.ticks
    assert slow.duration < 1.1 * quick.duration
    assert within.duration > 1.8 * quick.duration


def test_a_row_in_closed_form():
    logs = []
    for outcome, duration, late in (
        ("arrived", 2.0, 0),
        ("arrived", 4.0, 5),
        ("stopped: no decision", 1.0, 5),
        ("collision", 1.0, 0),
    ):
        log = EpisodeLog(10)
        log.outcome, log.success, log.duration, log.ticks, log.overruns = (
            outcome,
            outcome == "arrived",
            duration,
            10,
            late,
        )
        logs.append(log)
    row = summary(logs)
    assert {name: row[name]["mean"] for name in ("success", "collided", "stopped", "timeout", "late", "time_s")} == {
        "success": 0.5, "collided": 0.25, "stopped": 0.25, "timeout": 0.0, "late": 0.25, "time_s": 3.0,
    }  # fmt: skip
    _, line = cells(table({"rows": {"5 ms, beside": row}, "config": {"scenes": 4}}))
    assert line == ["5 ms, beside", "50 %", "3.00 ± 1.00", "25 %", "25 %", "0 %", "25 %"]
