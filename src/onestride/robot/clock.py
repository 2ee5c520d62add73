"""Two clocks for one loop: wall time, and simulated time that pays for every decision what it really cost."""

from __future__ import annotations

import time
from typing import ClassVar, Protocol

SPIN = 0.001  # the last stretch before a deadline is waited for awake: sleeping overshoots by this much [s]


class Clock(Protocol):
    """Seconds that never go back. is_wall_time: they pass by themselves, whoever waits."""

    is_wall_time: ClassVar[bool]

    def now(self) -> float: ...

    def sleep_until(self, t: float) -> None: ...

    def charge(self, seconds: float) -> None:
        """A computation took this long by wall time."""
        ...


class RealClock:
    """Wall time. What a computation cost has passed by itself."""

    is_wall_time: ClassVar[bool] = True

    def now(self) -> float:
        return time.perf_counter()

    def sleep_until(self, t: float) -> None:
        """Sleep, then spin; returns at once when ``t`` is past."""
        left = t - time.perf_counter()
        if left > SPIN:
            time.sleep(left - SPIN)
        while time.perf_counter() < t:
            pass

    def charge(self, seconds: float) -> None:
        pass


class ChargedClock:
    """Simulated time: waiting is free, computing costs what it took.

    Fifty trials finish quickly, and a slow planner still pays for its slowness as on the robot.
    """

    is_wall_time: ClassVar[bool] = False

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, t: float) -> None:
        self.time = max(self.time, t)

    def charge(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a computation cannot cost {seconds} s")
        self.time += seconds
