"""What the two ways to decide share in an episode of the control loop: who takes part, and the gate to the robot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onestride.control.ladder import Ladder
from onestride.control.log import EpisodeLog
from onestride.control.sensor import Expected, Reader, Reading, SensorWatch
from onestride.robot.clock import Clock
from onestride.robot.control_spec import ControlSpec, ObservationError
from onestride.robot.decision import Decision, NoPlanError
from onestride.robot.robot import Robot

#: Called with every observation and the decision it led to, after the clock has been charged.
OnDecision = Callable[[np.ndarray, Decision], None]
#: Of a plan's row: what is sent so much later than it was seen is moved on along its plan, where rows are positions.
AGED = 0.2


@dataclass
class Episode:
    """One episode's parts. dt [s] between ticks; start and timeout [s] by the clock and from the start."""

    robot: Robot
    clock: Clock
    task: ControlSpec
    dt: float
    start: float
    timeout: float
    reader: Reader
    watch: SensorWatch
    ladder: Ladder
    on_decision: OnDecision | None
    log: EpisodeLog
    writes: Expected = field(default_factory=Expected)

    @property
    def passed(self) -> float:
        """Time since the start [s]."""
        return self.clock.now() - self.start

    def periods(self, passed: float) -> int:
        """Whole control periods in ``passed`` [s]; beyond the timeout there are no more ticks."""
        if passed < self.timeout:
            return math.floor(passed / self.dt + 1e-9)
        return math.ceil(self.timeout / self.dt - 1e-9)

    def send(self, command: np.ndarray, rest: np.ndarray | None, now: float) -> None:
        """Write ``command`` (A,) at clock time ``now``. rest (A,) would have kept the robot where it was, None:
        unknown."""
        self.robot.write(command)
        self.writes.add(self.clock.now() - now)
        self.log.wrote(now - self.start, self.dt)
        self.watch.sent(rest is None or not np.array_equal(command, rest))

    def rest(self, observation: np.ndarray) -> np.ndarray | None:
        """The command that keeps the robot where it is (A,), or None where the task knows none."""
        return self.task.hold_command(observation) if self.task.hold_command is not None else None

    def observation_at(self, reading: Reading, now: float) -> np.ndarray:
        """Return the observation as it is by ``now``: where commands are positions that are held against the robot's,
        it has moved on since it was seen."""
        observation = reading.observation
        if not self.task.position_commands or self.task.limits.max_step is None:
            return observation
        columns = len(self.task.limits.low)
        moved = self.ladder.moved_to(observation[:columns], reading.time, now)
        return np.concatenate((moved, observation[columns:]))


class Gate:
    """Whether commands may be sent from where the robot is; ``reason`` is why the first that may not may not.

    refusal: why the observation cannot be acted on, or None.
    """

    def __init__(self, task: ControlSpec, observation: np.ndarray, refusal: str | None) -> None:
        self.limits, self.observation, self.refusal = task.limits, observation, refusal
        self.reason: str | None = None

    def __call__(self, command: np.ndarray) -> bool:
        violation = self.refusal or self.limits.violation(command, self.observation)
        self.reason = self.reason or violation
        return violation is None


def commands_of(task: ControlSpec, plan: np.ndarray, observation: np.ndarray) -> np.ndarray | None:
    """Every row of a plan (H, D) as a command (H, A), or None where the task's rows are none."""
    return None if task.commands is None else task.commands(plan.astype(np.float64), observation)


def why_not(error: NoPlanError | ObservationError) -> str:
    """Why there is no decision, as the log counts it."""
    return f"{'no plan' if isinstance(error, NoPlanError) else 'observation refused'}: {error}"
