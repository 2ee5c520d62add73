"""A robot that remembers, decisions that are late, and time that stands still: for tests of asynchronous
inference."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, repeat

import numpy as np

from onestride.control.fallback import FallbackTimeouts
from onestride.control.loop import run_episode
from onestride.control.simulated_latency import SimulatedLatency
from onestride.robot.clock import ChargedClock
from onestride.robot.decision import AsyncDecider, Decision
from onestride.tasks import CONTROL_SPECS

DT = 0.01
ROW = 0.05  # [s] between a plan's rows
TIMEOUTS = FallbackTimeouts(max_observation_age=0.085, deceleration_time=0.05, stop=0.305)
TIMEOUT = 100 * DT - DT / 2  # 100 ticks


class Clock(ChargedClock):
    """Stands still as a whole at some moments: the first wait that goes past ``when`` ends ``length`` later."""

    def __init__(self, pauses: dict[float, float]) -> None:
        super().__init__()
        self.pauses = dict(pauses)

    def sleep_until(self, t: float) -> None:
        super().sleep_until(t)
        for when in [w for w in self.pauses if self.time >= w]:
            self.time = max(self.time, when + self.pauses.pop(when))


class Recorder:
    """Remembers every command with its time; refuses what no robot may be sent."""

    def __init__(self, clock: ChargedClock, broken: Callable[[float], bool] = lambda _: False) -> None:
        self.clock, self.broken, self.stops = clock, broken, 0
        self.sent: list[tuple[float, np.ndarray]] = []

    def read(self) -> np.ndarray:
        observation = np.zeros(17)
        observation[0] = self.clock.now()  # when it was seen, for policies to write into their plans
        return np.full(17, np.nan) if self.broken(self.clock.now()) else observation

    def write(self, command: np.ndarray) -> None:
        assert self.stops == 0
        assert np.isfinite(command).all()
        assert np.abs(command).max() <= 1
        self.sent.append((self.clock.now(), command.copy()))

    def stop(self) -> None:
        self.stops += 1

    def fault(self) -> None:
        return None


class Stamped:
    """Plans whose commands say when they were seen ([0], up to 1 s) and which row they are ([1], in tenths)."""

    def __init__(self, spoil: Callable[[int], np.ndarray | None] = lambda _: None) -> None:
        self.spoil, self.count = spoil, 0

    def decide(self, observation: np.ndarray) -> Decision:
        self.count += 1
        plan = np.zeros((4, 23), np.float32)
        plan[:, 17] = observation[0]
        plan[:, 18] = 0.1 * np.arange(4)
        action = plan[0, 17:].astype(float)
        spoiled = self.spoil(self.count)
        return Decision(action if spoiled is None else spoiled, plan, np.zeros((1, 4, 23)), np.zeros(1), {})


def drive(
    costs, *, pauses=None, policy=None, broken=lambda _: False, timeout=TIMEOUT, fallback_timeouts=TIMEOUTS, **changes
):
    """Drive 100 ticks. changes: of the task's control specification."""
    clock = Clock(pauses or {})
    robot = Recorder(clock, broken)
    control = replace(CONTROL_SPECS["halfcheetah-v5"](), control_dt=ROW, **changes)
    asynchronous = SimulatedLatency(policy or Stamped(), clock, costs)
    assert isinstance(asynchronous, AsyncDecider)
    log = run_episode(
        robot, clock, asynchronous, control, timeout=timeout, period=DT, fallback_timeouts=fallback_timeouts
    )
    assert robot.stops == 1
    periods = {math.floor(t / DT + 1e-9) for t, _ in robot.sent}
    assert log.starved == len(set(range(log.ticks)) - periods)
    return log, robot


def once(tick: int, cost: float, usual: float = 0.002) -> Iterator[float]:
    """One decision of ``cost`` [s], all others quick."""
    return chain(repeat(usual, tick), [cost], repeat(usual))


def ages(robot: Recorder, log) -> np.ndarray:
    return log.command_age.rows[:, 1]
