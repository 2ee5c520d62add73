"""What a robot is told when a decision is late: less and less, and then nothing more.

    the rest of the last plan, while it is fresh enough
      -> decelerate to hold: what was sent last fades, in a straight line, into staying where it is
        -> stop, latched: the episode is over, and a person looks

A state machine of numbers and nothing else: it reads no clock and knows no robot.
"""

from __future__ import annotations

import math
from collections import deque
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

        Three and a half of them until a plan expires: enough to follow it through two late ticks, jitter included. Two
        to hold, five to stop.
        """
        expiry = max(cls.expiry, 3.5 * period) if expiry is None else expiry
        fade = max(cls.fade, 2 * period) if fade is None else fade
        return cls(expiry, fade, max(cls.stop, 5 * period, expiry) if stop is None else stop)


#: At most so many commands are remembered: those since the last plan's observation count.
MOVES = 1024
#: Whether a command (A,) may be sent from where the robot is now.
Sound = Callable[[np.ndarray], bool]


class Ladder:
    """One episode's. Row j of a plan is for the time from j to j + 1 rows after its observation.

    positions: rows are where the robot should be by then. Time passes for such a plan while the robot moves: a command
    moves it for one row, then it waits for the next. A robot that got nothing for a while goes on where it is instead
    of making up for it, one that stands begins with row 0, and between two rows is the way.

    row_dt [s]: between two rows. Times are the caller's clock's [s], ``began`` when the episode did.
    """

    def __init__(self, patience: Patience, row_dt: float, began: float, positions: bool) -> None:
        self.patience, self.row_dt, self.positions = patience, row_dt, positions
        self.observed = began  # when the observation behind the last plan was made
        self.stopped = False
        self._followed = began  # when the observation was made behind the plan that was last followed
        self._make: Callable[[], np.ndarray | None] | None = None
        self._rows: np.ndarray | None = None
        self._sent_at: float | None = None
        self._moves: deque[tuple[float, float]] = deque(maxlen=MOVES)  # when something was sent, time moved until then
        self._command: np.ndarray | None = None  # what was sent last
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
        self._moves.append((now, self._moved(now)))
        self._sent_at, self._held, self._followed = now, None, self.observed
        self._command = command
        self._drive = None if rest is None else command - rest

    def late(self, now: float, rest: np.ndarray | None, sound: Sound) -> tuple[Rung, np.ndarray | None]:
        """The rung, and the command (A,) to send. rest (A,): what keeps the robot where it is, None if unknown."""
        if self.stopped or now - self._followed > self.patience.stop:
            self.stopped = True
            return "stop", None
        row = self.row(now, sound)
        if row is not None:
            return "plan", row
        if self._sent_at is None:
            return "standing", None
        return "hold", self._hold(now, rest)

    def row(self, now: float, sound: Sound) -> np.ndarray | None:
        """The last plan's command for the time from now on while the plan is fresh, or None."""
        return self.row_at(now, sound) if self.fresh(self.observed, now) else None

    def row_at(self, now: float, sound: Sound) -> np.ndarray | None:
        """The last plan's command for the time from then on, however old the plan is; None: it has none, or none that
        is sound."""
        if self._make is None:
            return None
        if self._rows is None:
            self._rows = self._make()
        passed = self.rows_since(self.observed, now)
        number = math.floor(passed + 1e-9)
        if self._rows is None or number >= len(self._rows):
            return None
        command, share = self._rows[number], passed - number
        if self.positions and share > 1e-9 and number + 1 < len(self._rows):
            command = (1 - share) * command + share * self._rows[number + 1]
        return command if sound(command) else None

    def moved_to(self, position: np.ndarray, observed: float, now: float) -> np.ndarray:
        """Where a robot seen at ``position`` (A,) at time ``observed`` is by now: on its straight way to what it was
        sent last, where it is after one row."""
        if self._sent_at is None or self._command is None:
            return position
        began = max(observed, self._sent_at)
        share = (now - began) / max(self._sent_at + self.row_dt - began, 1e-9)
        return position + min(max(share, 0.0), 1.0) * (self._command - position)

    def rows_since(self, observed: float, now: float) -> float:
        """How much of a plan made of that time's observation the robot has had the time to follow, in rows."""
        if not self.positions:
            return (now - observed) / self.row_dt
        return (self._moved(now) - self._moved(observed)) / self.row_dt

    def _moved(self, until: float) -> float:
        """For how long commands have moved the robot up to then [s]; counted from the first that is remembered."""
        for sent, before in reversed(self._moves):
            if sent <= until:
                return before + min(until - sent, self.row_dt)
        return self._moves[0][1] if self._moves else 0.0

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
