"""What happened in an episode of the control loop."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from onestride.control.ring import Ring

REASONS = 100  # at most so many different ones are counted each for itself
KEPT = 1_000_000  # at most so many ticks' times are kept of an episode, the last ones


@dataclass
class EpisodeLog:
    """What happened. Times are the clock's [s]; decisions are wall time [s]. Nothing in it grows tick by tick.

    overruns: within the tick, decisions not ready by the next one; beside the loop, ticks without their decision.
    """

    capacity: int  # ticks whose times are kept
    began: float = 0.0
    success: bool = False
    outcome: str = "timeout"  # "arrived", "timeout", "stopped: …", "ended by …" an exception, or the robot's fault
    duration: float = 0.0
    executed: int = 0  # commands sent, each of a decision about its own tick's observation
    ticks: int = 0  # control periods that passed
    overruns: int = 0
    dropped: int = 0  # decisions that came when their observation had expired
    replaced: int = 0  # decisions that a newer one overtook before they were looked at
    late: Counter[str] = field(default_factory=Counter)  # what the ladder did instead, by rung
    filled: int = 0  # commands the ladder sent
    held: Counter[str] = field(default_factory=Counter)  # commands not sent, by reason
    last_reason: str | None = None
    final_observation: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._served, self._last = 0, -1  # periods that had a command, and the last of them
        self.decided = Ring(self.capacity, 2)  # when since the start, how long it took
        self.started = Ring(self.capacity, 2)  # ticks: when due since the start, how much later it began
        self.sent = Ring(self.capacity, 2)  # commands of plans: when since the start, age of the observation behind it

    @classmethod
    def lasting(cls, timeout: float, period: float) -> EpisodeLog:
        """With room for an episode of at most ``timeout`` [s], or for its last ``KEPT`` ticks."""
        return cls(math.ceil(min(timeout / period + 2, KEPT)))

    @property
    def decisions(self) -> np.ndarray:
        """Wall time of each [s]."""
        return self.decided.rows[:, 1]

    @property
    def starved(self) -> int:
        """Control periods in which no command came: the robot went on with a stale one."""
        return self.ticks - self._served + (self._last >= self.ticks)  # a last command may come after the last period

    def wrote(self, passed: float, period: float) -> None:
        """A command was sent, so long after the start."""
        number = math.floor(passed / period + 1e-9)
        self._served += number > self._last
        self._last = max(number, self._last)

    def hold(self, reason: str) -> None:
        """Count a command that was not sent. Reasons name numbers, of which there may be many."""
        self.held[reason if reason in self.held or len(self.held) < REASONS else "other reasons"] += 1
        self.last_reason = reason
