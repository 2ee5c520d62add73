"""Sensors that are late, frozen or of another clock: what is read, how old it is, and what is done about it."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from onestride.control.async_policy import AsyncPolicy
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.control.sensor import Expected, Reading, SensorWatch, ThreadReader
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.decision import Decision
from onestride.robot.robot import TimedObservation
from onestride.tasks import CONTROL_SPECS

DT = 0.02
CONTROL = replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=DT)
LONG = 30.0  # a test that hangs has failed [s]


class Pushes:
    """Commands that ask for motion."""

    def __init__(self, action: float = 0.5) -> None:
        self.action = action

    def decide(self, observation: np.ndarray) -> Decision:
        plan = np.zeros((4, 23), np.float32)
        plan[:, 17:] = self.action
        return Decision(np.full(6, self.action), plan, plan[None], np.zeros(1), {})


class Robot:
    """Its numbers change until it freezes, with its time where it is told to give one."""

    def __init__(self, clock, frozen_from: float = math.inf, age: float | None = None) -> None:
        self.clock, self.frozen_from, self.age, self.numbers = clock, frozen_from, age, count()
        self.sent: list[float] = []  # times
        self.command = np.zeros(6)  # the last
        self.began, self.stopped, self.last = clock.now(), math.nan, np.zeros(17)

    def read(self) -> np.ndarray | TimedObservation:
        if self.clock.now() - self.began < self.frozen_from:
            self.last = np.full(17, float(next(self.numbers)))
        return self.last if self.age is None else TimedObservation(self.last, self.clock.now() - self.age)

    def write(self, command: np.ndarray) -> None:
        self.sent.append(self.clock.now() - self.began)
        self.command = command

    def stop(self) -> None:
        self.stopped = self.clock.now() - self.began

    def fault(self) -> str | None:
        return None


def asynchronous(clock, action=0.5):
    return SimulatedLatency(Pushes(action), clock, (0.002 for _ in count()))


@pytest.mark.parametrize("braked", [False, True])
@pytest.mark.parametrize("synchronous", [False, True])
def test_a_frozen_sensor_is_not_acted_on_and_stops_the_robot(synchronous, braked):
    clock = ChargedClock()
    robot, control = Robot(clock, frozen_from=1.0), CONTROL if braked else replace(CONTROL, rest=None)
    log = run_episode(robot, clock, Pushes() if synchronous else asynchronous(clock), control, timeout=5.0)
    assert log.outcome.startswith("stopped: no ")
    assert "the same numbers again and again" in log.outcome
    if braked:
        assert not robot.command.any()
        assert log.filled == log.late["hold"] > 20
        assert log.executed * DT < 1.0 + CONTROL.frozen_after + DT
    else:
        assert 1.0 < max(robot.sent) <= 1.0 + CONTROL.frozen_after + DT
    assert robot.stopped <= 1.0 + CONTROL.frozen_after + 0.5 + 2 * DT


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_robot_that_is_told_to_stay_may_give_the_same_numbers(synchronous):
    clock = ChargedClock()
    policy = Pushes(0.0) if synchronous else asynchronous(clock, 0.0)
    log = run_episode(Robot(clock, frozen_from=0.1), clock, policy, CONTROL, timeout=3.0)
    assert (log.outcome, dict(log.refused)) == ("timeout", {})


def test_what_counts_as_frozen_is_the_tasks():
    for frozen_after, expected in ((math.inf, "timeout"), (0.0, "stopped")):
        clock, control = ChargedClock(), replace(CONTROL, frozen_after=frozen_after)
        log = run_episode(Robot(clock, frozen_from=1.0), clock, asynchronous(clock), control, timeout=3.0)
        assert log.outcome.startswith(expected)
    few = replace(CONTROL, frozen_after=0.0, control_dt=0.4)  # a slow loop: two readings may well be equal
    watch = SensorWatch(few, 1.0)
    reading = Reading(np.ones(17), 0.0, None, 0.0)
    said = []
    for at in (0.0, 0.4, 0.8, 1.2):
        said.append(watch.refusal(replace(reading, time=at), at))
        watch.mark_sent(True)
    assert [s is None for s in said] == [True, True, True, False]


@pytest.mark.parametrize("synchronous", [False, True])
def test_the_robots_own_time_counts_where_it_gives_one(synchronous):
    """A driver that gives old samples: their age is the command's, and beyond max_observation_age nothing is sent."""
    clock = ChargedClock()
    log = run_episode(
        Robot(clock, age=0.05), clock, Pushes() if synchronous else asynchronous(clock), CONTROL, timeout=1.0
    )
    assert log.executed == 50
    if not synchronous:
        np.testing.assert_allclose(log.command_age.rows[:, 1], 0.052, atol=1e-9)
    clock = ChargedClock()
    robot = Robot(clock, age=0.6)
    log = run_episode(robot, clock, Pushes() if synchronous else asynchronous(clock), CONTROL, timeout=2.0)
    assert "older than may be acted on" in log.outcome
    assert robot.sent == []


def test_a_time_of_another_clock_is_refused():
    clock = ChargedClock()
    robot = Robot(clock, age=-1e9)
    log = run_episode(robot, clock, asynchronous(clock), CONTROL, timeout=2.0)
    assert "has to give times of the loop's clock" in log.outcome
    assert robot.sent == []


class Hangs(Robot):
    """read() does not come back from some time on, until it is let."""

    def __init__(self, clock, hangs_from: float) -> None:
        super().__init__(clock)
        self.hangs_from, self.let = hangs_from, threading.Event()

    def read(self):
        if self.clock.now() - self.began > self.hangs_from:
            self.let.wait(LONG)
        return super().read()


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_read_that_hangs_holds_neither_the_loop_nor_the_stop(synchronous):
    clock = RealClock()
    fallback_timeouts = FallbackTimeouts(0.1, 0.05, 0.2)
    with AsyncPolicy(Pushes(), clock) as worker:
        robot = Hangs(clock, 0.2)
        policy = Pushes() if synchronous else worker
        log = run_episode(robot, clock, policy, CONTROL, timeout=LONG, fallback_timeouts=fallback_timeouts)
        assert log.outcome.startswith("stopped: no ")
        assert not robot.let.is_set()
        if not synchronous:
            assert log.filled  # the last plan went on while it was fresh
        robot.let.set()


def test_what_the_robot_raises_in_the_readers_thread_is_raised_in_the_loops():
    class Broken(Robot):
        def read(self):
            raise ConnectionError("no status packet")

    with pytest.raises(ConnectionError, match="no status packet"):
        run_episode(Broken(RealClock()), RealClock(), Pushes(), CONTROL, timeout=1.0)


def test_a_reader_gives_each_reading_once_and_ends():
    clock = RealClock()
    reader = ThreadReader(Robot(clock), clock, 17)
    for value in range(3):
        reader.request()
        reading = reader.poll(clock.now() + LONG)
        assert reading is not None
        assert (reading.observation[0], reader.busy) == (value, False)
    assert reader.poll(clock.now()) is None
    reader.close()
    reader._thread.join(LONG)
    assert not reader._thread.is_alive()


def test_one_hiccup_does_not_change_what_is_expected():
    expected = Expected()
    assert expected.seconds is None
    for seconds in (1.0, 1.1, 9.0, 1.2):
        expected.add(seconds)
    assert expected.seconds == 1.2
    expected.add(1.0)
    assert expected.seconds == 1.1


@pytest.mark.slow
def test_a_sensor_slower_than_the_ticks_goes_at_its_own_pace():
    """Each reading takes 1.6 periods; between two the plan is followed."""

    class Slow(Robot):
        def read(self):
            threading.Event().wait(1.6 * DT)
            return super().read()

    clock = RealClock()
    with AsyncPolicy(Pushes(), clock) as worker:
        log = run_episode(
            Slow(clock), clock, worker, CONTROL, timeout=1.0, fallback_timeouts=FallbackTimeouts(0.3, 0.1, 0.9)
        )
    assert log.outcome == "timeout"
    assert log.decision_times.count > 5
    assert log.filled + log.executed > log.decision_times.count
