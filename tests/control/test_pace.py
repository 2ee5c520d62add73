"""Slow decisions do not slow a robot that takes positions: what is sent is for the time from now on."""

from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest

from late_robot import ROW, Clock, Recorder, Stamped, once
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.decision import Decision
from onestride.tasks import CONTROL_SPECS, TASKS


def test_at_the_arms_own_rate_a_late_decision_is_bridged_by_its_plans_next_row(arm_scenes):
    """20 Hz, as a robot has it that is where it was told to be: a command in every period, each a stride ahead."""
    task, clock = TASKS["kinova"](), Clock({})
    row = task.first_observation(arm_scenes[0])
    row[9:] = 0.0
    way = (row[6:9] - row[:3]) / np.linalg.norm(row[6:9] - row[:3])

    class Follows(Recorder):
        here = row[:3].copy()

        def read(self) -> np.ndarray:
            return np.concatenate((self.here, row[3:]))

        def write(self, command: np.ndarray) -> None:
            self.sent.append((self.clock.now(), command.copy()))
            self.here = command.copy()

    class Ahead:
        def decide(self, observation: np.ndarray) -> Decision:
            return Decision(
                observation[:3] + 0.015 * way,
                np.full((32, 9), observation[0], np.float32),
                np.zeros(1),
                np.zeros(1),
                {},
            )

    def rows(plan: np.ndarray, observation: np.ndarray) -> np.ndarray:
        return observation[:3] + 0.015 * np.arange(1, 33)[:, None] * way

    robot = Follows(clock)
    asynchronous = SimulatedLatency(Ahead(), clock, once(3, 0.07, usual=0.005))
    log = run_episode(robot, clock, asynchronous, replace(task.control, commands=rows), timeout=0.499)
    assert (log.ticks, log.executed, log.overruns) == (10, 9, 1)
    assert log.late == {"plan": 1}
    assert (log.starved, dict(log.refused)) == (0, {})
    steps = np.diff([c @ way for _, c in robot.sent])
    # The late one moved for a tenth of a row while the decision before was made; the next was made in half a row.
    np.testing.assert_allclose(steps / 0.015, [1, 1, 1.1, 1.5, 1, 1, 1, 1, 1], atol=1e-6)


def test_a_slow_decision_that_is_no_position_is_sent_as_it_was_decided():
    """It is for the whole period, however late in it."""
    clock = Clock({})
    robot, control = Recorder(clock), replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=ROW)
    asynchronous = SimulatedLatency(Stamped(), clock, repeat(0.045))
    log = run_episode(robot, clock, asynchronous, control, timeout=0.99, period=ROW)
    assert (log.executed, log.overruns) == (20, 0)
    assert all(command[1] == 0 for _, command in robot.sent)


@pytest.mark.parametrize("cost", [0.002, 0.02, 0.045, 0.06, 0.08])
def test_slow_decisions_do_not_slow_the_robot(cost):
    """A robot that goes to a target in one row, and plans of a steady pace: it keeps that pace, whether decisions take
    nothing, nearly their period, or more than that."""
    pace = 0.1  # [1/s]

    class Follows(Recorder):
        since, way = 0.0, (np.zeros(6), np.zeros(6))

        def here(self) -> np.ndarray:
            share = min((self.clock.now() - self.since) / ROW, 1.0)
            return (1 - share) * self.way[0] + share * self.way[1]

        def read(self) -> np.ndarray:
            return np.concatenate((self.here(), np.zeros(11)))

        def write(self, command: np.ndarray) -> None:
            super().write(command)
            self.since, self.way = self.clock.now(), (self.here(), command)

    class Steady:
        def decide(self, observation: np.ndarray) -> Decision:
            rows = observation[:6] + pace * ROW * np.arange(1, 17)[:, None]
            plan = np.concatenate((np.zeros((16, 17)), rows), 1).astype(np.float32)
            return Decision(rows[0], plan, plan[None], np.zeros(1), {})

    clock = Clock({})
    robot = Follows(clock)
    control = replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=ROW, position_commands=True, rest=None)
    asynchronous = SimulatedLatency(Steady(), clock, repeat(cost))
    log = run_episode(
        robot, clock, asynchronous, control, timeout=4.0, period=ROW, fallback_timeouts=FallbackTimeouts(0.2, 0.1, 0.5)
    )
    assert log.outcome == "timeout"
    times, targets = np.array([t for t, _ in robot.sent]), np.array([c[0] for _, c in robot.sent])
    gone = (targets[-1] - targets[20]) / (times[-1] - times[20])
    assert gone == pytest.approx(pace, rel=0.12)
