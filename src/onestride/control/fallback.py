"""The commands that a robot gets while a decision is late, in three levels.

    plan: the rest of the last plan, while its observation is recent
      -> hold: the last command is reduced linearly until the robot stays where it is
        -> stop: the robot is stopped for good, and the episode is over

A state machine of numbers alone: it reads no clock and knows no robot.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: "standing": there is no plan and no command was ever sent, so that the robot stands still already.
Level = Literal["plan", "hold", "standing", "stop"]


@dataclass(frozen=True)
class FallbackTimeouts:
    """How long each level of the fallback lasts [s].

    Attributes:
        max_observation_age: nothing is sent that was computed from an older observation [s].
        deceleration_time: from the last command to the hold command [s].
        stop: the robot is stopped for good when the last plan that it followed is older than this [s].

    Raises:
        ValueError: unless 0 < max_observation_age <= stop, stop is finite and deceleration_time is not negative.
    """

    max_observation_age: float = 0.1
    deceleration_time: float = 0.1
    stop: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.max_observation_age <= self.stop:
            raise ValueError(
                f"max_observation_age is {self.max_observation_age:g} s and stop {self.stop:g} s; expected "
                "0 < max_observation_age <= stop"
            )
        if not (self.deceleration_time >= 0 and math.isfinite(self.stop)):
            raise ValueError(
                f"deceleration_time is {self.deceleration_time:g} s and stop {self.stop:g} s; expected "
                "deceleration_time >= 0 and a finite stop"
            )

    @classmethod
    def at(
        cls,
        period: float,
        max_observation_age: float | None = None,
        deceleration_time: float | None = None,
        stop: float | None = None,
        chunk: float = 0.0,
    ) -> FallbackTimeouts:
        """Return timeouts for decisions every ``period`` [s]: the defaults, or longer ones for slow loops.

        A plan is followed for 3.5 periods, which bridges two late ticks with their jitter. The robot decelerates for 2
        periods and is stopped after 5. Arguments other than None are taken as they are.

        Args:
            period: between two decisions, or two ticks of the loop [s].
            max_observation_age: see ``FallbackTimeouts``.
            deceleration_time: see ``FallbackTimeouts``.
            stop: see ``FallbackTimeouts``.
            chunk: for how long a plan is carried out on purpose before the next decision [s]; observations may be
                older by so much.
        """
        age, deceleration = max_observation_age, deceleration_time
        age = chunk + max(cls.max_observation_age, 3.5 * period) if age is None else age
        deceleration = max(cls.deceleration_time, 2 * period) if deceleration is None else deceleration
        return cls(age, deceleration, max(chunk + cls.stop, chunk + 5 * period, age) if stop is None else stop)


#: At most this many commands are remembered. Only those since the last plan's observation are used.
MOVES = 1024
#: A function that returns whether a command (A,) may be sent from where the robot is now.
Admissible = Callable[[np.ndarray], bool]


class Fallback:
    """The fallback of one episode.

    Row j of a plan is for the time from j to j + 1 rows after its observation. Where commands are positions, a row is
    where the robot should be by then, and only the time in which the robot moves counts: a command moves it for one
    row, then it waits. A robot that got no command for a while therefore continues the plan from where it is, and one
    that stands still begins with row 0. Between two rows positions are interpolated.

    Args:
        timeouts: how long each level lasts.
        row_dt: time between two rows of a plan [s].
        began: clock time of the episode's start [s]. All times are of the caller's clock.
        positions: whether commands are positions.
    """

    def __init__(self, timeouts: FallbackTimeouts, row_dt: float, began: float, positions: bool) -> None:
        self.timeouts, self.row_dt, self.positions = timeouts, row_dt, positions
        self.observed = began  # when the last plan's observation was made
        self.stopped = False
        self._followed = began  # when the observation of the plan followed last was made
        self._make: Callable[[], np.ndarray | None] | None = None
        self._rows: np.ndarray | None = None
        self._sent_at: float | None = None
        self._moves: deque[tuple[float, float]] = deque(maxlen=MOVES)  # (when sent, time moved before)
        self._command: np.ndarray | None = None  # what was sent last
        self._drive: np.ndarray | None = None  # the last command minus the hold command of that moment
        self._held: np.ndarray | None = None

    def fresh(self, observed: float, now: float) -> bool:
        """Return whether a command computed from an observation of time ``observed`` may still be sent."""
        return now - observed <= self.timeouts.max_observation_age

    def take(self, rows: Callable[[], np.ndarray | None], observed: float) -> None:
        """Follow this plan from now on, unless a newer one is followed already.

        Args:
            rows: returns the plan's commands (H, A), or None where it has none; called when they are first needed.
            observed: clock time of the plan's observation [s].
        """
        if observed >= self.observed:
            self.observed, self._make, self._rows = observed, rows, None

    @property
    def has_plan(self) -> bool:
        """Whether there is a plan to follow, fresh or not."""
        return self._make is not None

    def mark_sent(self, command: np.ndarray | None, hold: np.ndarray | None, now: float) -> None:
        """Note that a command of the plan was sent.

        Args:
            command: what was sent (A,), or None where the robot was held back on purpose, and got nothing.
            hold: the command that would have kept the robot where it was (A,), or None where it is not known.
            now: clock time [s].
        """
        if command is None:
            self._followed = self.observed
            return
        self._moves.append((now, self._moved(now)))
        self._sent_at, self._held, self._followed = now, None, self.observed
        self._command = command
        self._drive = None if hold is None else command - hold

    def late(self, now: float, hold: np.ndarray | None, admissible: Admissible) -> tuple[Level, np.ndarray | None]:
        """Return the level, and the command to send (A,) or None.

        Args:
            now: clock time [s].
            hold: the command that keeps the robot where it is (A,), or None where it is not known.
            admissible: tells whether a command of the plan may be sent.
        """
        if self.stopped or now - self._followed > self.timeouts.stop:
            self.stopped = True
            return "stop", None
        row = self.row(now, admissible)
        if row is not None:
            return "plan", row
        return ("standing", None) if self._sent_at is None else ("hold", self.toward_rest(now, hold))

    def row(self, now: float, admissible: Admissible) -> np.ndarray | None:
        """Return the plan's command for the time from ``now`` on (A,), or None where its observation is too old."""
        return self.row_at(now, admissible) if self.fresh(self.observed, now) else None

    def row_at(self, now: float, admissible: Admissible) -> np.ndarray | None:
        """Return the plan's command for the time from ``now`` on (A,), however old its observation is.

        None where the plan has no such row, or the command is not admissible.
        """
        rows = self._commands()
        if rows is None:
            return None
        command = row_of(rows, self.rows_since(self.observed, now), interpolate=self.positions)
        return command if command is not None and admissible(command) else None

    def rows_ahead(self, now: float, count: int) -> np.ndarray | None:
        """Return the plan's next commands (n, A), the one for the time from ``now`` on first; n is at most ``count``.

        None where there is no plan, or its observation is too old. Their limits are not checked.
        """
        rows = self._commands() if self.fresh(self.observed, now) else None
        if rows is None:
            return None
        passed = self.rows_since(self.observed, now)
        made = (row_of(rows, passed + j, interpolate=self.positions) for j in range(count))
        return np.array([row for row in made if row is not None]).reshape(-1, rows.shape[1])

    def _commands(self) -> np.ndarray | None:
        """Return the plan's commands (H, A), or None where there are none."""
        if self._rows is None and self._make is not None:
            self._rows = self._make()
        return self._rows

    def moved_to(self, position: np.ndarray, observed: float, now: float) -> np.ndarray:
        """Return where a robot seen at ``position`` (A,) at time ``observed`` is by ``now``.

        It moves in a straight line to the last command and arrives there after one row.
        """
        if self._sent_at is None or self._command is None:
            return position
        began = max(observed, self._sent_at)
        share = (now - began) / max(self._sent_at + self.row_dt - began, 1e-9)
        return position + min(max(share, 0.0), 1.0) * (self._command - position)

    def rows_since(self, observed: float, now: float) -> float:
        """Return how far along a plan made from an observation of time ``observed`` the robot is by ``now`` [rows]."""
        if not self.positions:
            return (now - observed) / self.row_dt
        return (self._moved(now) - self._moved(observed)) / self.row_dt

    def _moved(self, until: float) -> float:
        """Return for how long commands moved the robot until ``until``, since the first that is remembered [s]."""
        for sent, before in reversed(self._moves):
            if sent <= until:
                return before + min(until - sent, self.row_dt)
        return self._moves[0][1] if self._moves else 0.0

    def toward_rest(self, now: float, hold: np.ndarray | None) -> np.ndarray | None:
        """Return a command (A,) on the way to rest. Once there it stays the same, so that a sagging robot is held up.

        Args:
            now: clock time [s].
            hold: the command that keeps the robot where it is (A,), or None where it is not known.

        Returns:
            The command, or None where no plan's command was ever sent, or the hold command is not known.
        """
        if self._sent_at is None or hold is None or self._held is not None:
            return self._held
        left = (
            1 - (now - self._sent_at) / self.timeouts.deceleration_time if self.timeouts.deceleration_time > 0 else 0.0
        )
        if left <= 1e-9 or self._drive is None:
            self._held = hold
            return hold
        return hold + left * self._drive


def row_of(rows: np.ndarray, passed: float, *, interpolate: bool) -> np.ndarray | None:
    """Return the command (A,) of a plan's commands (H, A) after so many rows, or None where it has no such row.

    interpolate: between two rows, rather than the row that has begun.
    """
    number = math.floor(passed + 1e-9)
    if number >= len(rows):
        return None
    command, share = rows[number], passed - number
    if interpolate and share > 1e-9 and number + 1 < len(rows):
        command = (1 - share) * command + share * rows[number + 1]
    return command
