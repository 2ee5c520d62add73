"""The episode loop, with time under the test's control."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from onestride.control.log import EpisodeLog
from onestride.control.loop import run_episode
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.decision import Decision, NoPlanError
from onestride.tasks import CONTROL_SPECS

CONTROL = CONTROL_SPECS["kinova"]()
DT = CONTROL.control_dt
START, GOAL = np.array([0.4, -0.1, 0.2]), np.array([0.4, 0.1, 0.2])


class ScriptedClock(ChargedClock):
    """Charges what the test says a decision took, not what it took here."""

    def __init__(self, costs: Iterator[float]) -> None:
        super().__init__()
        self.costs = costs

    def charge(self, seconds: float) -> None:
        super().charge(next(self.costs))


class PointRobot:
    """Is at once where it is told to be; remembers what it was told, and when."""

    def __init__(self, clock: ChargedClock | RealClock) -> None:
        self.clock, self.position, self.stopped, self.reason = clock, START.copy(), False, None
        self.sent: list[tuple[float, np.ndarray]] = []
        self.broken: dict[int, np.ndarray] = {}
        self.reads = 0

    def read(self) -> np.ndarray:
        self.reads += 1
        observation = np.concatenate((self.position, np.zeros(3), GOAL, np.zeros(32)))
        return self.broken.get(self.reads, observation)

    def write(self, command: np.ndarray) -> None:
        assert not self.stopped
        assert np.isfinite(command).all()
        self.sent.append((self.clock.now(), command))
        self.position = command.copy()

    def stop(self) -> None:
        self.stopped = True

    def fault(self) -> str | None:
        return self.reason


class Walker:
    """Steps 2 cm toward the goal; ``spoil`` replaces the actions of some decisions."""

    def __init__(self, spoil: dict[int, np.ndarray] | None = None) -> None:
        self.spoil, self.count = spoil or {}, 0

    def decide(self, observation: np.ndarray) -> Decision:
        self.count += 1
        way = observation[6:9] - observation[:3]
        step = way * min(1.0, 0.02 / max(float(np.linalg.norm(way)), 1e-9))
        action = self.spoil.get(self.count, observation[:3] + step)
        return Decision(action, np.zeros((32, 9)), np.zeros((1, 32, 9)), np.zeros(1), {})


def constant(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


def episode(costs: Iterator[float], policy: Walker | None = None, timeout: float = 10.0, **broken):
    clock = ScriptedClock(costs)
    robot = PointRobot(clock)
    robot.broken = broken.get("broken", {})
    log = run_episode(robot, clock, policy or Walker(), CONTROL, timeout=timeout)
    return log, robot


def test_a_fast_decision_makes_one_command_per_period_at_absolute_deadlines():
    log, robot = episode(constant(0.004))
    assert log.success
    assert log.outcome == "arrived"
    assert log.overruns == log.starved == 0
    np.testing.assert_allclose(log.command_age.rows[:, 1], 0.004, atol=1e-9)  # from reading to writing
    sent = np.array([t for t, _ in robot.sent])
    np.testing.assert_allclose(sent, DT * np.arange(len(sent)) + 0.004, atol=1e-9)
    # 20 cm in steps of 2 cm, then the dwell: arrived once, and for `dwell` periods more.
    assert log.executed == 10 + CONTROL.dwell_steps
    assert log.duration == pytest.approx(DT * log.executed)
    assert robot.stopped


def test_a_slow_decision_skips_periods_holds_the_last_command_and_is_counted():
    log, robot = episode(constant(0.12))  # ready in the third period
    sent = np.array([t for t, _ in robot.sent])
    np.testing.assert_allclose(np.diff(sent), 3 * DT, atol=1e-9)  # never a burst, never drifting off the grid
    assert log.overruns == len(log.decisions) == log.executed
    assert log.starved == 2 * log.executed
    assert log.duration == pytest.approx(3 * DT * log.executed)


def test_one_stall_costs_its_periods_and_nothing_after():
    costs = iter([0.01, 0.01, 0.31] + [0.01] * 100)
    log, robot = episode(costs)
    assert log.overruns == 1
    assert log.starved == 6
    sent = [t for t, _ in robot.sent]
    assert sent[3] == pytest.approx(2 * DT + 7 * DT + 0.01)


def test_slow_planner_arrives_later_on_the_charged_clock():
    assert episode(constant(0.13))[0].duration > 2 * episode(constant(0.01))[0].duration


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (np.full(3, np.nan), "not finite"),
        (np.array([2.0, 0.0, 0.2]), "out of the workspace"),
        (START + np.array([0.0, 0.0, 0.08]), "too far in one step"),
    ],
)
def test_a_bad_command_is_never_sent_the_arm_holds_and_it_is_counted(action, reason):
    log, robot = episode(constant(0.001), Walker({3: action}))
    assert log.refused == {f"command refused: {reason}": 1}
    assert log.success  # it went on afterwards
    assert not any(np.array_equal(c, action) for _, c in robot.sent)
    assert log.executed == len(log.decisions) - 1


def test_only_bad_commands_hold_until_the_timeout():
    always = {i: np.full(3, np.inf) for i in range(1000)}
    log, robot = episode(constant(0.001), Walker(always), timeout=1.0)
    assert not log.success
    assert log.outcome == "timeout"
    assert robot.sent == []
    assert sum(log.refused.values()) == len(log.decisions) == 20
    assert robot.stopped


@pytest.mark.parametrize(
    "broken", [np.full(41, np.nan), np.zeros(7), np.concatenate((START, np.zeros(3), GOAL + 9, np.zeros(32)))]
)
def test_a_bad_observation_holds_is_counted_and_recovers(broken):
    log, _ = episode(constant(0.001), broken={2: broken, 3: broken})
    assert sum(log.refused.values()) == 2
    assert all(reason.startswith("observation refused") for reason in log.refused)
    assert log.success


def test_a_fault_ends_the_episode_and_stops_the_robot():
    clock = ScriptedClock(constant(0.001))
    robot = PointRobot(clock)
    robot.reason = "collision"
    log = run_episode(robot, clock, Walker(), CONTROL, timeout=1.0)
    assert (log.success, log.outcome, log.executed) == (False, "collision", 0)
    assert robot.stopped


def test_an_exception_stops_the_robot_and_surfaces():
    class Broken(Walker):
        def decide(self, observation: np.ndarray) -> Decision:
            if self.count == 3:
                raise RuntimeError("no network")
            return super().decide(observation)

    clock = ScriptedClock(constant(0.0))
    robot = PointRobot(clock)
    log = EpisodeLog.lasting(1.0, DT)
    with pytest.raises(RuntimeError, match="no network"):
        run_episode(robot, clock, Broken(), CONTROL, timeout=1.0, log=log)
    assert robot.stopped
    assert (log.executed, log.ticks, log.outcome, log.success) == (3, 3, "ended by RuntimeError", False)
    assert log.duration == pytest.approx(3 * DT)
    with pytest.raises(ValueError, match="the log holds 3 ticks of another episode; give a new one"):
        run_episode(PointRobot(clock), clock, Walker(), CONTROL, timeout=1.0, log=log)


def test_without_a_finite_plan_the_arm_holds_and_it_is_counted():
    class Lost(Walker):
        def decide(self, observation: np.ndarray) -> Decision:
            if self.count == 2:
                self.count += 1
                raise NoPlanError("none of 64 candidates is finite")
            return super().decide(observation)

    log, _ = episode(constant(0.001), Lost())
    assert log.refused == {"no plan: none of 64 candidates is finite": 1}
    assert log.success


def test_the_same_loop_on_wall_time():
    clock = RealClock()
    robot = PointRobot(clock)
    control = replace(CONTROL, control_dt=0.005)
    log = run_episode(robot, clock, Walker(), control, timeout=5.0)
    assert log.success
    assert log.duration >= log.executed * 0.005 - 1e-6  # no command came before its time


def test_every_decision_is_shown_to_the_watcher():
    clock = ScriptedClock(constant(0.001))
    seen: list[np.ndarray] = []
    log = run_episode(
        PointRobot(clock), clock, Walker(), CONTROL, timeout=5.0, on_decision=lambda o, d: seen.append(d.action)
    )
    assert len(seen) == len(log.decisions)


@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_be_acted_on_brakes_a_robot_that_can_be_brought_to_rest_unseen(known):
    class Pushed(PointRobot):
        def read(self) -> np.ndarray:
            self.reads += 1
            return np.full(17, np.nan) if self.reads in (4, 5) else np.full(17, 0.1 * self.reads)

    class Push:
        def decide(self, observation: np.ndarray) -> Decision:
            return Decision(np.full(6, 0.5), np.zeros((4, 23), np.float32), np.zeros((1, 4, 23)), np.zeros(1), {})

    control = CONTROL_SPECS["halfcheetah-v5"]()
    control = control if known else replace(control, rest=None)
    clock = ScriptedClock(iter([0.0] * 8))
    robot = Pushed(clock)
    dt = control.control_dt
    log = run_episode(robot, clock, Push(), control, timeout=7.5 * dt)
    sent = {round(t / dt): command[0] for t, command in robot.sent}
    assert (log.executed, sum(log.refused.values()), log.filled) == (6, 2, 2 if known else 0)
    braked = {3: 0.25, 4: 0.0} if known else {}  # 0.1 s to rest, in periods of 0.05 s
    assert sent == pytest.approx(dict.fromkeys((0, 1, 2, 5, 6, 7), 0.5) | braked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rest": np.full(6, 2.0)}, r"rest is \[2.0, .* against the limits: out of the workspace"),
        ({"position_commands": True}, "commands are positions here"),
        ({"hold_command": lambda _observation: np.zeros(6)}, "not both"),
    ],
)
def test_a_command_of_rest_that_is_none_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONTROL_SPECS["halfcheetah-v5"](), **changes)
