"""A server that dies or hangs while it drives a robot: the robot is slowed down, holds, and is stopped."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from onestride.control.async_policy import AsyncPolicy
from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.robot.clock import RealClock
from onestride.serving.client import RemotePolicy
from served import served_alone

TIMEOUTS = FallbackTimeouts(max_observation_age=0.12, deceleration_time=0.1, stop=0.5)
PERIOD = 0.02
AFTER = 15  # commands before the server is killed
#: A machine that is busy with other things may be late by so much [s].
BUSY = 3.0


class Robot:
    """Shows where it is told to, and has something happen after some commands."""

    def __init__(self, happens) -> None:
        self.happens, self.when, self.stopped = happens, 0.0, None
        self.commands: list[np.ndarray] = []

    def read(self):
        return np.array([4.0, len(self.commands), 0.0])

    def write(self, command):
        assert self.stopped is None
        self.commands.append(command.copy())
        if len(self.commands) == AFTER:
            self.when = time.perf_counter()
            self.happens()

    def stop(self):
        self.stopped = self.stopped or time.perf_counter()

    def fault(self):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_server_is_killed_or_hangs_the_robot_is_slowed_down_and_stopped(how):
    clock = RealClock()
    with served_alone() as (process, url), RemotePolicy(url, timeout=0.05, patience=60.0) as remote:
        robot = Robot(lambda: os.kill(process.pid, how))
        with AsyncPolicy(remote, clock) as worker:
            worker.warm_up(robot.read(), calls=5)
            log = run_episode(
                robot, clock, worker, remote.control, timeout=20.0, period=PERIOD, fallback_timeouts=TIMEOUTS
            )
        os.kill(process.pid, signal.SIGKILL)
    assert log.outcome is not None
    assert log.outcome.startswith("stopped: no decision for 0.5 s")
    assert log.late["plan"] > 0
    assert log.late["hold"] > 0
    np.testing.assert_array_equal(robot.commands[-1], [0.0, 0.0])  # it stood still before it was stopped
    faded = [command[0] for command in robot.commands[-10:]]
    assert faded == sorted(faded, reverse=True)
    assert robot.stopped is not None
    assert robot.stopped - robot.when < TIMEOUTS.stop + BUSY


def test_without_patience_or_a_loop_that_waits_the_robot_is_stopped_at_once():
    clock = RealClock()
    with served_alone() as (process, url), RemotePolicy(url, timeout=0.5, patience=0.0) as remote:
        robot = Robot(lambda: os.kill(process.pid, signal.SIGKILL))
        with pytest.raises(ConnectionError, match="no answer from ws://"):
            run_episode(robot, clock, remote, remote.control, timeout=20.0, period=PERIOD)
    assert robot.stopped is not None
    assert len(robot.commands) <= AFTER + 1
    assert robot.stopped - robot.when < TIMEOUTS.stop + BUSY


@pytest.mark.slow
def test_a_server_that_pauses_is_bridged_and_driven_by_again():
    clock = RealClock()
    with served_alone() as (process, url), RemotePolicy(url, timeout=0.05, patience=60.0) as remote:

        def pause():
            os.kill(process.pid, signal.SIGSTOP)
            threading.Timer(0.2, os.kill, (process.pid, signal.SIGCONT)).start()

        robot = Robot(pause)
        with AsyncPolicy(remote, clock) as worker:
            worker.warm_up(robot.read(), calls=5)
            log = run_episode(
                robot, clock, worker, remote.control, timeout=2.0, period=PERIOD,
                fallback_timeouts=FallbackTimeouts(max_observation_age=0.12, deceleration_time=0.1, stop=1.9),
            )  # fmt: skip
    assert log.outcome == "timeout"
    assert log.late["plan"] > 0
    assert log.executed > AFTER  # decisions after the pause
