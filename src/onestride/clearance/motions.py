"""Motions along a path of positions: the commands to rest on it, and what they sweep. In NumPy; ``native.py`` has C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

BEYOND = 1.0  # a path goes straight on after its end [m]
#: Rounding of positions [m].
SAME = 1e-9


@dataclass(frozen=True)
class PositionLimits:
    """What the reference may do; within it the tracking error was measured.

    Attributes:
        low: smallest position (3,) [m].
        high: largest position (3,) [m].
        speed: largest [m/s].
        acceleration: largest, as the change of velocity from one command to the next over the control period [m/s^2].
        deceleration: along the path while it stops [m/s^2].
        control_dt: in which a command is reached [s].
    """

    low: np.ndarray
    high: np.ndarray
    speed: float
    acceleration: float
    deceleration: float
    control_dt: float


class Motions(Protocol):
    """What commands of positions make of a body."""

    def body(self, positions: np.ndarray) -> np.ndarray:
        """Return the ends of the capsules (P, K, 2, 3) [m] at positions (P, 3) [m]."""
        ...

    def swept(
        self, here: np.ndarray, commands: np.ndarray, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of capsules at the knots (P, J + 1, K, 2, 3) [m], and which motions are allowed (P,).

        Args:
            here: where the reference is (3,) [m].
            commands: in order (P, J, 3) [m].
            velocity: of the reference (3,) [m/s].
            elapsed: share of a control period since the last command.
        """
        ...

    def along(
        self, here: np.ndarray, paths: np.ndarray, paces: np.ndarray, count: int, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the commands along paths and to rest on them (P, J, 3) [m], and how long they take (P,) [s].

        After these comes what ``swept`` returns of them.

        Args:
            here: where the reference is (3,) [m].
            paths: positions to head for, one per control period (P, n, 3) [m].
            paces: shares of the first step that are made (P,).
            count: how many commands there are of each, J.
            velocity: of the reference (3,) [m/s].
            elapsed: share of a control period since the last command.
        """
        ...


class NumpyMotions:
    """Of any body.

    Args:
        body: returns the ends of its capsules (..., K, 2, 3) [m] at positions (..., 3).
        seconds: returns the least time from one position to another (...) [s], such as at joints' largest speeds.
        limits: what the reference may do.
    """

    def __init__(
        self, body: Callable[[np.ndarray], np.ndarray], seconds: Callable[[np.ndarray, np.ndarray], np.ndarray],
        limits: PositionLimits,
    ) -> None:  # fmt: skip
        self._body, self._seconds, self._limits = body, seconds, limits

    def body(self, positions: np.ndarray) -> np.ndarray:
        """See ``Motions.body``."""
        return self._body(positions)

    def swept(
        self, here: np.ndarray, commands: np.ndarray, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``Motions.swept``."""
        limits, dt = self._limits, self._limits.control_dt
        knots = np.concatenate((np.broadcast_to(here, (len(commands), 1, 3)), commands), 1)  # (P, J+1, 3)
        steps = np.diff(knots, axis=1)
        velocities = np.concatenate((np.broadcast_to(velocity, (len(commands), 1, 3)), steps / dt), 1)
        change = np.linalg.norm(np.diff(velocities, axis=1), axis=-1)  # (P, J)
        change[:, 0] /= max(elapsed, 1e-6)
        allowed = (change <= limits.acceleration * dt + SAME).all(1)
        allowed &= (np.linalg.norm(steps, axis=-1) <= limits.speed * dt + SAME).all(1)
        allowed &= ((commands >= limits.low) & (commands <= limits.high)).all((1, 2))
        allowed &= (self._seconds(knots[:, :-1], knots[:, 1:]) <= dt + SAME).all(1)
        return self._body(knots), allowed

    def along(
        self, here: np.ndarray, paths: np.ndarray, paces: np.ndarray, count: int, velocity: np.ndarray, elapsed: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See ``Motions.along``."""
        limits, dt = self._limits, self._limits.control_dt
        step = paces * np.linalg.norm(paths[:, 0] - here, axis=-1)
        slower = limits.deceleration * dt * dt * np.arange(count)  # (J,)
        along = np.maximum(step[:, None] - slower, 0.0).cumsum(1)  # (P, J)
        commands = _points(_straight_on(here, paths), along)
        commands[:, 0] = np.where(paces[:, None] == 1.0, paths[:, 0], commands[:, 0])  # as it is, to the last bit
        moves = 1 + np.count_nonzero(np.diff(along, axis=1) > SAME, axis=1)
        return commands, (moves + 1) * dt, *self.swept(here, commands, velocity, elapsed)


def _straight_on(here: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Return polylines from ``here`` along paths (P, n, 3), and from their last move straight on: (P, n+2, 3)."""
    points = np.concatenate((np.broadcast_to(here, (len(paths), 1, 3)), paths), 1)
    moves = np.diff(points, axis=1)
    lengths = np.linalg.norm(moves, axis=-1)
    last = np.where(lengths > SAME, np.arange(lengths.shape[1]), -1).max(1)
    each = np.arange(len(paths))
    way = moves[each, last] / np.maximum(lengths[each, last], SAME)[:, None]
    return np.concatenate((points, points[:, -1:] + BEYOND * way[:, None]), 1)


def _points(polylines: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the points (P, J, 3) at distances ``along`` (P, J) [m] from the beginning of polylines (P, n, 3)."""
    moves = np.diff(polylines, axis=1)
    lengths = np.linalg.norm(moves, axis=-1)
    ends = lengths.cumsum(1)  # (P, n-1)
    part = (along[:, :, None] > ends[:, None]).sum(-1).clip(max=ends.shape[1] - 1)  # (P, J)
    each = np.arange(len(polylines))[:, None]
    share = 1 - (ends[each, part] - along) / np.maximum(lengths[each, part], SAME)
    return polylines[each, part] + np.clip(share, 0.0, 1.0)[..., None] * moves[each, part]
