"""Clocks of the control loop: wall time, and simulated time in which decisions take as long as they really took."""

from __future__ import annotations

import time
from typing import ClassVar, Protocol

SPIN = 0.001  # the last part of a wait is spent awake, because sleeping overshoots by up to this much [s]


class Clock(Protocol):
    """A monotonic clock [s].

    Attributes:
        is_wall_time: whether time passes by itself.
    """

    is_wall_time: ClassVar[bool]

    def now(self) -> float:
        """Return the time [s]."""
        ...

    def sleep_until(self, t: float) -> None:
        """Wait until time ``t`` [s]."""
        ...

    def charge(self, seconds: float) -> None:
        """Note that a computation took ``seconds`` of wall time."""
        ...


class RealClock:
    """Wall time."""

    is_wall_time: ClassVar[bool] = True

    def now(self) -> float:
        """Return ``time.perf_counter()`` [s]."""
        return time.perf_counter()

    def sleep_until(self, t: float) -> None:
        """Sleep, then wait awake for the last millisecond. Return at once where ``t`` has passed."""
        left = t - time.perf_counter()
        if left > SPIN:
            time.sleep(left - SPIN)
        while time.perf_counter() < t:
            pass

    def charge(self, seconds: float) -> None:
        """Do nothing: the time has passed by itself."""


class ChargedClock:
    """Simulated time: waiting takes no wall time, and computing takes the time that it really took.

    Many trials finish quickly, and a slow planner is as slow as on the robot.
    """

    is_wall_time: ClassVar[bool] = False

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Return the simulated time [s]."""
        return self.time

    def sleep_until(self, t: float) -> None:
        """Advance the time to ``t`` [s], unless it is past."""
        self.time = max(self.time, t)

    def charge(self, seconds: float) -> None:
        """Advance the time by ``seconds``.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a computation cannot cost {seconds} s")
        self.time += seconds
