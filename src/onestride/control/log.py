"""The log of one episode of the control loop."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from onestride.control.ring_buffer import RingBuffer

REASONS = 100  # at most this many different reasons have a counter of their own
KEPT = 1_000_000  # the times of at most this many ticks are kept, the last ones


@dataclass
class EpisodeLog:
    """The log of one episode. Its memory is taken before the first tick.

    Times are the clock's [s], durations of decisions are wall time [s].

    Attributes:
        capacity: number of ticks whose times are kept.
        began: clock time of the start [s].
        success: whether the goal was reached.
        outcome: "arrived", "timeout", "stopped: …", "ended by …" an exception, or the robot's fault.
        duration: of the episode [s].
        executed: commands sent that come from a decision about their own tick's observation.
        ticks: control periods that passed.
        overruns: synchronous inference: decisions that were not ready by the next tick; asynchronous inference: ticks
            without their decision.
        dropped: decisions that came when their observation was too old.
        replaced: decisions that were replaced by a newer one before the loop saw them.
        late: ticks of the fallback, by its level.
        filled: commands sent by the fallback.
        refused: observations and commands that were refused, by reason.
        last_reason: the last of these reasons, or None.
        clearance: what a clearance filter made of commands, see ``clearance/filter.py``.
        violations: observations that showed an assumption of its certificates to be broken, by the assumption.
        final_observation: the last observation, or None.
        decision_times: rows of (time since the start, duration of the decision) [s].
        tick_jitter: rows of (due time since the start, how much later the tick began) [s].
        command_age: rows of (time since the start, age of the observation) of commands from a plan [s].
    """

    capacity: int
    began: float = 0.0
    success: bool = False
    outcome: str = "timeout"
    duration: float = 0.0
    executed: int = 0
    ticks: int = 0
    overruns: int = 0
    dropped: int = 0
    replaced: int = 0
    late: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_reason: str | None = None
    clearance: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    final_observation: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._first: int | None = None  # the first period that had a command
        self._served, self._last = 0, -1  # number of periods that had a command, and the last of these periods
        self.decision_times = RingBuffer(self.capacity, 2)
        self.tick_jitter = RingBuffer(self.capacity, 2)
        self.command_age = RingBuffer(self.capacity, 2)

    @classmethod
    def lasting(cls, timeout: float, period: float) -> EpisodeLog:
        """Return a log for an episode of at most ``timeout`` [s] with ticks every ``period`` [s].

        It keeps the times of at most ``KEPT`` ticks, the last ones.
        """
        return cls(math.ceil(min(timeout / period + 2, KEPT)))

    @property
    def decisions(self) -> np.ndarray:
        """Wall time of each decision [s]."""
        return self.decision_times.rows[:, 1]

    @property
    def starved(self) -> int:
        """Number of control periods without a command, in which the robot followed an earlier one."""
        return self.ticks - self._served + (self._last >= self.ticks)  # a last command may come after the last period

    @property
    def idle(self) -> int:
        """Number of control periods since the first command in which no plan was carried out.

        The robot followed an earlier command, or the fallback slowed it down.
        """
        return 0 if self._first is None else self.starved - self._first + self.late["hold"]

    def mark_sent(self, passed: float, period: float) -> None:
        """Note that a command was sent.

        Args:
            passed: time since the start [s].
            period: of control [s].
        """
        number = math.floor(passed / period + 1e-9)
        self._first = number if self._first is None else self._first
        self._served += number > self._last
        self._last = max(number, self._last)

    def refuse(self, reason: str) -> None:
        """Count an observation or a command that was refused. From ``REASONS`` on, new reasons share one counter."""
        self.refused[reason if reason in self.refused or len(self.refused) < REASONS else "other reasons"] += 1
        self.last_reason = reason
