"""Plans carried out for several rows, and decisions about several observations: every command in its period."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, repeat

import numpy as np
import pytest

from onestride.control.history import History
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.clock import ChargedClock
from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision
from onestride.robot.robot import TimedObservation

DT, N, H = 0.1, 4, 8
SPEC = replace(
    plain_control(name="line", observation_dim=1, horizon=H, control_dt=DT, low=[-1e9], high=[1e9]),
    n_action_steps=N,
    frozen_after=np.inf,
)


class Line:
    """Its observation is the clock's time in periods; it notes what it is told, and when."""

    def __init__(self, clock):
        self.clock, self.told = clock, []

    def read(self):
        return np.array([self.clock.now() / DT])

    def write(self, command):
        self.told.append((self.clock.now() / DT, float(command[0])))

    def stop(self):
        pass

    def fault(self):
        return None


class Planner:
    """Plans that say when each of their rows should be sent: row j of a decision about period k is 1000 k + k + j."""

    def __init__(self, clock, cost=0.0):
        self.clock, self.cost, self.about = clock, cost, []

    def decide(self, observation):
        k = round(float(observation[-1]))
        self.about.append(k)
        plan = np.stack((np.zeros(H), 1000 * k + k + np.arange(H)), 1)
        self.clock.sleep_until(self.clock.now() + self.cost)
        return Decision(plan[0, 1:], plan, plan[None], np.zeros(1), {})


def episode(policy_of, periods=20, spec=SPEC):
    clock = ChargedClock()
    clock.charge = lambda seconds: None  # the planner's cost alone counts
    robot = Line(clock)
    policy, planner = policy_of(clock)
    log = run_episode(robot, clock, policy, spec, timeout=periods * DT)
    return robot.told, planner, log


def synchronous(cost):
    def make(clock):
        planner = Planner(clock, cost)
        return planner, planner

    return make


def asynchronous(*costs):
    def make(clock):
        planner = Planner(clock)
        return SimulatedLatency(planner, clock, cycle(costs)), planner

    return make


def of(told):
    """When each command was sent, which decision it is of, and for which period its plan has it."""
    return [(round(at, 6), int(value) // 1000, int(value) % 1000) for at, value in told]


def test_a_chunk_is_carried_out_before_the_next_decision():
    told, planner, log = episode(synchronous(0.0))
    assert planner.about == [0, 4, 8, 12, 16]
    assert of(told) == [(k, 4 * (k // 4), k) for k in range(20)]
    assert (log.executed, log.overruns, log.ticks, len(log.decision_times.rows)) == (20, 0, 20, 5)
    np.testing.assert_allclose(log.command_age.rows[:, 1], [k % 4 * DT for k in range(20)], atol=1e-9)


def test_rows_whose_period_a_slow_decision_took_are_left_out():
    """A decision of 1.6 periods: its first row is for the period from then on, and is sent again at the next tick."""
    told, planner, log = episode(synchronous(1.6 * DT))
    first, *later = of(told)
    assert first == (1.6, 0, 0)
    assert later[:5] == [(2, 0, 0), (3, 0, 1), (4, 0, 2), (5, 0, 3), (7.6, 6, 6)]
    assert planner.about == [0, 6, 12, 18]
    assert log.overruns == 4


def test_asynchronously_the_next_chunk_is_asked_for_in_time_and_nothing_is_late():
    told, planner, log = episode(asynchronous(0.3 * DT), periods=40)
    sent = of(told)
    assert [round(at) for at, _, _ in sent] == list(range(40))  # every period has its command
    assert all(row == int(at) for at, _, row in sent)  # and it is the plan's for this period
    assert sum(log.late.values()) == log.filled == log.dropped == log.overruns == 0
    assert log.executed == 40
    assert len(planner.about) < 20  # by far not every period


def test_a_decision_that_takes_longer_than_a_chunk_is_late_and_the_fallback_follows_the_plan():
    told, _, log = episode(asynchronous(2.5 * DT), periods=40)
    assert log.late["plan"] > 0  # rows beyond the chunk are the fallback's
    assert log.executed > 0
    for at, decision, row in of(told)[1:]:
        assert row - decision < H
        assert row == int(at + 1e-6)


def test_a_chunk_that_has_expired_is_not_carried_out():
    spec = replace(SPEC, n_action_steps=H)
    told, planner, log = episode(asynchronous(*(0.0, *repeat(1e9, 50))), periods=30, spec=spec)
    assert planner.about[0] == 0
    assert max(row for _, _, row in of(told)) == H - 1
    assert log.late["hold"] > 0
    assert log.outcome.startswith("stopped: no decision")


# ---- history ----

TWO = replace(
    plain_control(name="line", observation_dim=3, horizon=H, control_dt=DT, low=[-1e9], high=[1e9]),
    commands=SPEC.commands,
    n_obs_steps=3,
    frozen_after=np.inf,
)


def test_the_history_is_one_observation_per_period_oldest_first():
    clock = ChargedClock()
    history, found = History(Line(clock), TWO, clock), []
    for tick in range(12):
        clock.sleep_until(tick * DT / 2)  # the loop ticks twice as fast
        found.append(history.read().values)
    np.testing.assert_allclose(found[0], [0, 0, 0])
    np.testing.assert_allclose(found[1], [0, 0, 0.5])
    np.testing.assert_allclose(found[-1], [3.5, 4.5, 5.5])


def test_a_reading_that_is_refused_comes_back_as_it_is():
    clock = ChargedClock()
    robot = Line(clock)
    robot.read = lambda: TimedObservation(np.array([np.nan]), 0.0)
    assert np.isnan(History(robot, TWO, clock).read().values).all()


def test_the_loop_decides_about_the_history():
    _, planner, log = episode(synchronous(0.0), spec=TWO)
    assert planner.about == list(range(20))
    np.testing.assert_allclose(log.final_observation, [18, 19, 20], atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_obs_steps": 2, "observation_dim": 3}, "no 2 observations of equal size"),
        ({"n_action_steps": H + 1}, "expected 1 to the horizon"),
        ({"n_action_steps": 2, "commands": None}, "needs `commands`"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(SPEC, **changes)
