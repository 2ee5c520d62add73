"""What a robot is told when a decision is late: less and less, and then nothing more.

    the rest of the last plan, while it is fresh enough
      -> decelerate to hold: what was sent last fades, in a straight line, into staying where it is
        -> stop, latched: the episode is over, and a person looks

A state machine of numbers and nothing else: it reads no clock and knows no robot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: "standing": there is no plan, and nothing was ever sent: the robot stands still already.
Rung = Literal["plan", "hold", "standing", "stop"]


@dataclass(frozen=True)
class Patience:
    """How long each rung lasts [s].

    expiry: nothing computed from an observation older than this is sent. fade: from the last command to hold.
    stop: when the last plan that was followed is so old, the robot is stopped for good.
    """

    expiry: float = 0.1
    fade: float = 0.1
    stop: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.expiry <= self.stop:
            raise ValueError(f"expiry is {self.expiry:g} s and stop {self.stop:g} s; expected 0 < expiry <= stop")
        if not (self.fade >= 0 and math.isfinite(self.stop)):
            raise ValueError(f"fade is {self.fade:g} s and stop {self.stop:g} s; expected fade >= 0 and a finite stop")

    @classmethod
    def at(
        cls, period: float, expiry: float | None = None, fade: float | None = None, stop: float | None = None
    ) -> Patience:
        """What suits decisions every ``period`` [s], where nothing else is said: the defaults, longer for slow loops.

        Two and a half of them until a plan expires: enough to follow it through the tick after the late one, jitter
        included. Two to hold, five to stop.
        """
        expiry = max(cls.expiry, 2.5 * period) if expiry is None else expiry
        fade = max(cls.fade, 2 * period) if fade is None else fade
        return cls(expiry, fade, max(cls.stop, 5 * period, expiry) if stop is None else stop)


class Ladder:
    """One episode's. Row j of a plan is for the time from j to j + 1 rows after its observation.

    row_dt [s]: between two rows. Times are the caller's clock's [s], ``began`` when the episode did.
    """

    def __init__(self, patience: Patience, row_dt: float, began: float) -> None:
        self.patience, self.row_dt = patience, row_dt
        self.observed = began  # when the observation behind the last plan was made
        self.stopped = False
        self._followed = began  # when the observation was made behind the plan that was last followed
        self._make: Callable[[], np.ndarray | None] | None = None
        self._rows: np.ndarray | None = None
        self._sent_at: float | None = None
        self._drive: np.ndarray | None = None  # what was sent last, less what would have kept the robot at rest
        self._held: np.ndarray | None = None

    def fresh(self, observed: float, now: float) -> bool:
        """Whether what was computed from an observation of that time may still be sent."""
        return now - observed <= self.patience.expiry

    def take(self, rows: Callable[[], np.ndarray | None], observed: float) -> None:
        """Follow this plan from now on. rows() -> commands (H, A), asked for when first needed; None: it has none."""
        if observed >= self.observed:
            self.observed, self._make, self._rows = observed, rows, None

    def sent(self, command: np.ndarray, rest: np.ndarray | None, now: float) -> None:
        """``command`` (A,) of a plan was sent; ``rest`` (A,) would have kept the robot where it was."""
        self._sent_at, self._held, self._followed = now, None, self.observed
        self._drive = None if rest is None else command - rest

    def late(self, now: float, rest: np.ndarray | None, plan: bool = True) -> tuple[Rung, np.ndarray | None]:
        """The rung, and the command (A,) to send. rest (A,): what keeps the robot where it is, None if unknown.
        plan: not where its command has been refused."""
        if self.stopped or now - self._followed > self.patience.stop:
            self.stopped = True
            return "stop", None
        row = self._row(now) if plan else None
        if row is not None:
            return "plan", row
        if self._sent_at is None:
            return "standing", None
        return "hold", self._hold(now, rest)

    def _row(self, now: float) -> np.ndarray | None:
        """The last plan's command for this moment, or None."""
        if self._make is None or not self.fresh(self.observed, now):
            return None
        if self._rows is None:
            self._rows = self._make()
        number = math.floor((now - self.observed) / self.row_dt + 1e-9)
        return self._rows[number] if self._rows is not None and number < len(self._rows) else None

    def _hold(self, now: float, rest: np.ndarray | None) -> np.ndarray | None:
        """On the way to rest; once there, the same command again, so that a robot that sags is not followed down."""
        if rest is None or self._held is not None:
            return self._held
        assert self._sent_at is not None
        left = 1 - (now - self._sent_at) / self.patience.fade if self.patience.fade > 0 else 0.0
        if left <= 1e-9 or self._drive is None:
            self._held = rest
            return rest
        return rest + left * self._drive
