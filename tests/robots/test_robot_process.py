"""A robot whose driver is a process of its own stops when the program that drives it is killed, hangs or errs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from onestride.control.async_policy import AsyncPolicy
from onestride.control.loop import run_episode
from onestride.robot.binding import Binding, BoundRobot, Link
from onestride.robot.clock import RealClock
from onestride.robot.control_spec import plain_control
from onestride.robot.decision import Decision
from onestride.robot.fields import Column
from robot_process import RobotProcess

HERE = Path(__file__).parent

#: A machine that is busy with other things may be late by so much [s].
BUSY = 20.0


def wait_for(true, what: str) -> None:
    end = time.monotonic() + BUSY
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def events(log: Path) -> list[str]:
    """What the robot was told, each thing once in a row."""
    lines = log.read_text().splitlines()[1:]
    return [line for line, before in zip(lines, ["", *lines], strict=False) if line != before]


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits for a parent that will not ask."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@contextmanager
def driving(log: Path, *more: str, watchdog: float):
    """A program that drives the robot, in a process of its own, and the number of its sleeping child if any."""
    command = [sys.executable, str(HERE / "control_program.py"), str(log), str(watchdog), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        said = [program.stdout.readline().strip() for _ in range(1 + len(more))]
        try:
            yield program, [int(line) for line in said if line.isdigit()]
        finally:
            program.kill()


def test_kill_9_of_the_control_process_stops_the_robot(tmp_path):
    log = tmp_path / "log"
    with driving(log, watchdog=60.0) as (program, _):
        assert events(log) == ["write 5"]
        program.send_signal(signal.SIGKILL)
        wait_for(lambda: events(log) == ["write 5", "stop"], "the robot goes on")
    pid = int(log.read_text().split()[1])
    wait_for(lambda: ended(pid), "its driver goes on")


@pytest.mark.slow
def test_kill_9_where_another_process_holds_the_sockets_is_seen_by_the_watchdog(tmp_path):
    log = tmp_path / "log"
    with driving(log, "fork", watchdog=0.3) as (program, (child,)):
        program.send_signal(signal.SIGKILL)
        try:
            wait_for(lambda: events(log) == ["write 5", "stop"], "the robot goes on")
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_a_paused_control_process_is_seen_by_the_watchdog_and_what_it_sends_later_is_not_followed(tmp_path):
    log = tmp_path / "log"
    with driving(log, watchdog=0.3) as (program, _):
        program.send_signal(signal.SIGSTOP)
        wait_for(lambda: events(log) == ["write 5", "stop"], "the robot goes on")
        program.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        assert events(log) == ["write 5", "stop"]


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_is_the_control_processs_and_the_end_of_the_driver_stops_the_robot(tmp_path):
    log = tmp_path / "log"
    with driving(log, watchdog=60.0) as (program, _):
        driver = int(log.read_text().split()[1])
        assert os.getsid(driver) != os.getsid(program.pid)
        os.kill(driver, signal.SIGINT)
        time.sleep(0.1)
        assert events(log) == ["write 5"]
        os.kill(driver, signal.SIGTERM)
        wait_for(lambda: events(log) == ["write 5", "stop"], "the robot goes on")


@contextmanager
def robot(log: Path, *options: str, watchdog: float = 60.0):
    command = [sys.executable, str(HERE / "fake_robot.py"), "--log", str(log), *options]
    with RobotProcess(command, watchdog=watchdog) as made:
        yield made


GO = {"left.vel": 5.0, "right.vel": -1.0}


def test_it_reads_by_name_with_the_time_of_the_sample_and_no_command_is_no_reason_before_the_first(tmp_path):
    with robot(tmp_path / "log", watchdog=0.05) as arm:
        assert arm.observation == {"left.pos": "mm", "right.pos": "mm"}
        assert arm.command == {"right.vel": "mm/s", "left.vel": "mm/s"}
        before = time.perf_counter()
        values, sampled = arm.read()
        assert values == {"left.pos": 0.0, "right.pos": 0.0}
        assert before < sampled < time.perf_counter()
        time.sleep(0.2)
        assert arm.fault() is None
        arm.write(GO)
        wait_for(lambda: arm.fault() is not None, "the watchdog sleeps")
        assert arm.fault() == "the watchdog stopped it: no command for 0.05 s"
    assert events(tmp_path / "log")[:2] == ["write 5", "stop"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ({"left.vel": 1.0}, "a command was refused"),
        (GO | {"roll.vel": 1.0}, "a command was refused"),
        (GO | {"left.vel": float("nan")}, "a command was refused"),
        (GO | {"left.vel": 666}, "the driver failed in write(): OSError('the bus is gone')"),
    ],
)
def test_what_cannot_be_carried_out_stops_it(tmp_path, command, said):
    with robot(tmp_path / "log") as arm:
        arm.write(GO)
        wait_for(lambda: events(tmp_path / "log") == ["write 5"], "nothing was carried out")
        arm.write(command)
        wait_for(lambda: arm.fault() is not None, "it was not stopped")
        assert str(arm.fault()).startswith(said)
        arm.write(GO)
    assert [event for event in events(tmp_path / "log") if event != "stop"] == ["write 5"]


def test_stop_is_answered_and_tried_until_it_succeeds(tmp_path):
    log = tmp_path / "log"
    with robot(log, "--stubborn", "3") as arm:
        arm.write(GO)
        wait_for(lambda: events(log) == ["write 5"], "nothing was carried out")
        with pytest.raises(RuntimeError, match="could not be stopped; its driver goes on trying"):
            arm.stop()
        wait_for(lambda: events(log) == ["write 5", "stop failed", "stop"], "it was given up")
        arm.stop()


def test_a_driver_that_hangs_is_a_fault(tmp_path):
    with robot(tmp_path / "log", watchdog=0.3) as arm:
        arm.write(GO | {"left.vel": 99})
        wait_for(lambda: arm.fault() is not None, "it was not noticed")
        assert arm.fault() == "the driver has taken no command for 0.3 s"
        arm.process.kill()


def test_a_driver_that_is_gone_is_an_error_at_once(tmp_path):
    with robot(tmp_path / "log") as arm:
        arm.process.kill()
        for does in (arm.read, arm.fault, arm.stop):
            with pytest.raises(OSError, match=r"process is gone|Broken pipe|reset"):
                does()


def test_a_driver_that_finds_no_robot_says_so():
    with pytest.raises(ConnectionError, match="did not connect to the robot"), robot(Path("-"), "--broken"):
        pass


# ---------------------------------------------------------------- the control loop drives it

SPEC = plain_control(name="slider", observation_dim=2, horizon=4, control_dt=0.02, low=[-1.0] * 2, high=[1.0] * 2)
SEEN = [Column("right", "m"), Column("left", "m")]
TOLD = [Column("left speed", "m/s"), Column("right speed", "m/s")]


class Toward:
    """Moves both axes to 20 mm, the right one from its other end."""

    control = SPEC

    def decide(self, observation):
        right, left = observation
        action = np.clip(5 * (0.02 - np.array([left, right])), -0.1, 0.1)
        plan = np.zeros((SPEC.horizon, SPEC.transition_dim), np.float32)
        plan[0, 2:] = action
        return Decision(action, plan, plan[None], np.zeros(1), {})


def bind(arm) -> BoundRobot:
    links = [Link("right", "right.pos", sign=-1), Link("left", "left.pos")]
    speeds = [Link("left speed", "left.vel"), Link("right speed", "right.vel", sign=-1)]
    return BoundRobot(arm, Binding(SEEN, arm.observation, links), Binding(TOLD, arm.command, speeds))


@pytest.mark.slow
def test_an_episode_on_a_robot_in_another_process_ends_where_it_should(tmp_path):
    clock = RealClock()
    with robot(tmp_path / "log", watchdog=5.0) as arm, AsyncPolicy(Toward(), clock) as policy:
        policy.warm_up(np.zeros(2), calls=2)
        log = run_episode(bind(arm), clock, policy, SPEC, timeout=1.5)
        values, _ = arm.read()
    assert log.outcome == "timeout"
    assert log.executed > 5
    assert values["left.pos"] == pytest.approx(20.0, abs=5.0)
    assert values["right.pos"] == pytest.approx(-20.0, abs=5.0)  # its axis points the other way
    assert events(tmp_path / "log")[-1] == "stop"


@pytest.mark.slow
def test_an_episode_ends_by_the_watchdogs_word(tmp_path):
    """The loop sends a command in 1 s, the watchdog waits for 0.2 s."""
    clock = RealClock()
    with robot(tmp_path / "log", watchdog=0.2) as arm, AsyncPolicy(Toward(), clock) as policy:
        policy.warm_up(np.zeros(2), calls=2)
        log = run_episode(bind(arm), clock, policy, SPEC, timeout=30.0, period=1.0)
    assert log.outcome == "the watchdog stopped it: no command for 0.2 s"


def test_a_binding_of_another_driver_is_refused():
    class Other:
        observation, command = {"left.pos": "m"}, {"left.vel": "mm/s", "right.vel": "mm/s"}

        def stop(self): ...

        def fault(self): ...

    seen, told = Binding([Column("left.pos", "m")], Other.observation), Binding(TOLD[:1], {"left speed": "m/s"})
    with pytest.raises(ValueError, match="the command is bound to"):
        BoundRobot(Other(), seen, told)
    with pytest.raises(ValueError, match="the observation is bound to"):
        BoundRobot(Other(), Binding(SEEN[1:], {"left": "m"}), told)
    half = Binding([Column("left.vel", "mm/s")], Other.command, ignored=["right.vel"])
    with pytest.raises(ValueError, match="nothing is left away"):
        BoundRobot(Other(), seen, half)
