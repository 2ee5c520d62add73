"""Whatever fails, wherever: the robot is stopped, handlers are what they were, and a signal comes through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest

from onestride.control.loop import run_episode
from onestride.control.signals import ENDING, STOP_AGAIN
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.decision import Decision
from onestride.tasks import CONTROL_SPECS

CONTROL = CONTROL_SPECS["halfcheetah-v5"]()
FAILS = ("nothing", "first read", "read", "fault", "decide", "write", "watcher", "no number", "exit", "no decision")
STOPS = ("stops", "fails once", "fails always", "slow", "slow and fails")
WAYS = tuple(product(FAILS, STOPS))
SOON, HANGS = 0.2, 5.0  # [s] from the end of stop to the end of the process: as it should be, and never


class Robot:
    """Fails in one of ``FAILS``, and stops in one of ``STOPS``."""

    def __init__(self, fails: str, stops: str) -> None:
        self.fails, self.stops, self.reads, self.attempts, self.stopped = fails, stops, 0, 0, False
        self.ended = 0.0

    def broken(self, where: str) -> None:
        if self.fails == where and self.reads > 3:
            raise ConnectionError(f"no answer in {where}")

    def read(self) -> np.ndarray:
        self.reads += 1
        if self.fails == "first read":
            raise ConnectionError("no answer in first read")
        self.broken("read")
        return np.full(17, np.nan) if self.fails == "no number" else np.full(17, 0.001 * self.reads)

    def write(self, command: np.ndarray) -> None:
        self.broken("write")

    def fault(self) -> None:
        self.broken("fault")

    def stop(self) -> None:
        self.attempts += 1
        try:
            if self.stops.startswith("slow"):
                time.sleep(0.02)
            if self.stops.endswith(("fails always", "and fails")) or (self.stops == "fails once" and self.attempts < 2):
                raise OSError("the cable is out")
            self.stopped = True
        finally:
            self.ended = time.monotonic()

    def decide(self, observation: np.ndarray) -> Decision:
        self.broken("decide")
        if self.fails == "no decision" and self.reads > 3:
            return None  # type: ignore[return-value]
        return Decision(np.zeros(6), np.zeros((4, 23)), np.zeros((1, 4, 23)), np.zeros(1), {})

    def watch(self, observation: np.ndarray, decision: Decision) -> None:
        self.broken("watcher")
        if self.fails == "exit" and self.reads > 3:
            raise SystemExit(3)


def drive(robot: Robot, clock=None) -> None:
    run_episode(robot, clock or ChargedClock(), robot, CONTROL, timeout=0.2, period=0.02, on_decision=robot.watch)


@pytest.mark.parametrize(("fails", "stops"), WAYS)
def test_the_failure_is_seen_the_robot_was_told_to_stop_and_handlers_are_restored(fails, stops):
    before = {number: signal.getsignal(number) for number in ENDING}
    robot, wanted = (
        Robot(fails, stops),
        {"nothing": None, "no number": None, "exit": SystemExit, "no decision": TypeError},
    )
    expected = OSError if stops.endswith(("always", "and fails")) else wanted.get(fails, ConnectionError)
    if expected is None:
        drive(robot)
    else:
        with pytest.raises(expected):
            drive(robot)
    assert {number: signal.getsignal(number) for number in ENDING} == before
    assert robot.attempts == {"stops": 1, "slow": 1, "fails once": 2}.get(stops, 1 + len(STOP_AGAIN))
    assert robot.stopped == (not stops.endswith(("always", "and fails")))


def end_by_signal(fails: str, stops: str, when: str, number: int, report: int) -> None:
    """Runs in a child: the signal comes while the loop runs, or while the robot is being stopped."""
    robot = Robot(fails, stops)
    told = []

    def send() -> None:
        if not told:
            told.append(True)
            os.kill(os.getpid(), number)

    stop, watch = robot.stop, robot.watch

    def stop_and_report() -> None:
        if when == "stopping":
            send()
        try:
            stop()
        finally:
            os.pwrite(report, np.float64(time.monotonic()).tobytes(), 0)

    def watch_and_send(observation, decision) -> None:
        if when == "driving":
            send()
        watch(observation, decision)

    robot.stop, robot.watch = stop_and_report, watch_and_send  # type: ignore[method-assign]
    while True:  # a program that catches what happens and drives on
        try:
            drive(robot, RealClock())
        except (ConnectionError, OSError, TypeError):
            continue


def all_ways(folder: str) -> int:
    """Every way at both moments, each in a fork of its own; how many did not end as they should."""
    wrong, times = 0, []
    for i, ((fails, stops), when) in enumerate(product(WAYS, ("driving", "stopping"))):
        if when == "driving" and fails in ("first read", "no number"):
            continue  # no decision that could be watched
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[i % 3]
        report = os.open(f"{folder}/{i}", os.O_RDWR | os.O_CREAT)
        child = os.fork()
        if child == 0:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)
            for which in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(which, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                end_by_signal(fails, stops, when, number, report)
            except KeyboardInterrupt:
                os._exit(130)
            except SystemExit as error:
                os._exit(int(error.code or 0))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        ended = time.monotonic()
        took = ended - np.frombuffer(os.pread(report, 8, 0), np.float64)[0]
        expected = 3 if fails == "exit" and os.WEXITSTATUS(status) == 3 else 128 + number
        times.append(took)
        if os.WEXITSTATUS(status) != expected or not 0 <= took < HANGS:
            print(fails, stops, when, number, os.WEXITSTATUS(status), took)  # noqa: T201
            wrong += 1
    return wrong + (float(np.quantile(times, 0.75)) > SOON)  # other work may hold up a few


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_signal_ends_the_process_right_after_the_stop_in_each_of_fifty_ways_to_fail(tmp_path):
    assert len(WAYS) == 50
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import test_stopping as t; sys.exit(t.all_ways({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
