"""One episode of the control loop: its parts, and the safety filter before the robot.

Synchronous and asynchronous inference share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onestride.clearance.filter import ClearanceFilter
from onestride.control.fallback import Fallback
from onestride.control.log import EpisodeLog
from onestride.control.sensor import Expected, Reader, Reading, SensorWatch
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, ObservationError
from onestride.robot.decision import Decision, NoPlanError
from onestride.robot.robot import Robot

#: A function that is called with every observation and its decision, after the clock has been charged.
OnDecision = Callable[[np.ndarray, Decision], None]
#: Position commands older than this are latency-compensated, as a share of the time between two rows of a plan.
COMPENSATION_THRESHOLD = 0.2
#: Rows of a plan, this command's among them, that a clearance filter may brake along.
BRAKING_ROWS = 8


@dataclass
class Episode:
    """The parts of one episode.

    Attributes:
        robot: the robot that is driven.
        clock: the clock that ticks are timed by.
        control: the control interface of the task.
        dt: time between two ticks [s].
        start: clock time of the start [s].
        timeout: longest duration, counted from the start [s].
        reader: reads the robot.
        watch: refuses observations that cannot be acted on.
        fallback: gives commands where decisions are late.
        on_decision: called with every observation and its decision, or None.
        log: what happened so far.
        clearance: lets through what is certified to be clear, or None.
        writes: how long writing a command takes.
    """

    robot: Robot
    clock: Clock
    control: ControlSpec
    dt: float
    start: float
    timeout: float
    reader: Reader
    watch: SensorWatch
    fallback: Fallback
    on_decision: OnDecision | None
    log: EpisodeLog
    clearance: ClearanceFilter | None = None
    writes: Expected = field(default_factory=Expected)

    @property
    def passed(self) -> float:
        """Time since the episode's start [s]."""
        return self.clock.now() - self.start

    def periods(self, passed: float) -> int:
        """Return the whole control periods in ``passed`` [s]; beyond the timeout there are no more."""
        if passed < self.timeout:
            return math.floor(passed / self.dt + 1e-9)
        return math.ceil(self.timeout / self.dt - 1e-9)

    def observe(self, reading: Reading) -> None:
        """Give a reading that can be acted on to the clearance filter."""
        if self.clearance is not None:
            self.clearance.observe(reading.observation[-self.control.step_dim :], reading.time)

    def send(self, command: np.ndarray, hold: np.ndarray | None, now: float) -> np.ndarray | None:
        """Write a command to the robot and log it. A clearance filter may replace it.

        Args:
            command: what to send (A,).
            hold: the command that would have kept the robot where it was (A,), or None where the task knows none.
            now: clock time before the write [s].

        Returns:
            What was sent (A,), or None where the clearance filter has the robot go on to its last stop.
        """
        sent: np.ndarray | None = command
        if self.clearance is not None:
            ahead = self.fallback.rows_ahead(now, BRAKING_ROWS) if self.control.position_commands else None
            sent = self.clearance(command, command[None][:0] if ahead is None else ahead[1:], now)
        if sent is not None:
            self.robot.write(sent)
            self.writes.add(self.clock.now() - now)
        self.log.mark_sent(now - self.start, self.dt)
        self.watch.mark_sent(sent is not None and (hold is None or not np.array_equal(sent, hold)))
        return sent

    def observation_at(self, reading: Reading, now: float) -> np.ndarray:
        """Return the reading's observation, its position extrapolated to clock time ``now``.

        Only tasks whose commands are positions with a largest step need this; others get the observation as it is.
        """
        observation = reading.observation
        if not self.control.position_commands or self.control.limits.max_step is None:
            return observation
        columns = len(self.control.limits.low)
        moved = self.fallback.moved_to(observation[:columns], reading.time, now)
        return np.concatenate((moved, observation[columns:]))


class SafetyFilter:
    """Tells whether a command may be sent from where the robot is.

    Attributes:
        limits: the task's limits.
        observation: where the robot is (observation_dim,).
        refusal: why the observation cannot be acted on, or None. With a refusal no command may be sent.
        reason: why the first refused command was refused, or None.
    """

    def __init__(self, control: ControlSpec, observation: np.ndarray, refusal: str | None) -> None:
        self.limits, self.observation, self.refusal = control.limits, observation, refusal
        self.reason: str | None = None

    def __call__(self, command: np.ndarray) -> bool:
        """Return whether ``command`` (A,) may be sent."""
        violation = self.refusal or self.limits.violation(command, self.observation)
        self.reason = self.reason or violation
        return violation is None


def commands_of(control: ControlSpec, plan: np.ndarray, observation: np.ndarray) -> np.ndarray | None:
    """Return every row of a plan (H, D) as a command (H, A), or None where only the first row is a command."""
    return None if control.commands is None else control.commands(plan.astype(np.float64), observation)


def why_not(error: NoPlanError | ObservationError) -> str:
    """Return why there is no decision, in the words that the log counts it by."""
    return f"{'no plan' if isinstance(error, NoPlanError) else 'observation refused'}: {error}"
