"""What a certificate takes for granted of the obstacles, and whether the observations agree."""

from __future__ import annotations

import numpy as np

#: Rounding of observed obstacles [m].
ROUNDING = 1e-6


class ObstacleWatch:
    """Tells whether obstacles move faster than is assumed, or change otherwise.

    Args:
        speed: largest speed of any point of an obstacle [m/s].
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.begin()

    def begin(self) -> None:
        """Forget the last episode."""
        self._rows: np.ndarray | None = None
        self._time = 0.0

    def observe(self, rows: np.ndarray, time: float) -> str | None:
        """Return which assumption the obstacles (K, 8) at a clock time [s] show to be broken, or None."""
        before, since = self._rows, time - self._time
        self._rows, self._time = rows.copy(), time
        if before is None:
            return None
        if not np.array_equal(rows[:, 0], before[:, 0]):
            return "an obstacle came or went"
        turned = np.abs(np.angle(np.exp(1j * (rows[:, 7] - before[:, 7]))))
        moved = np.linalg.norm(rows[:, 1:4] - before[:, 1:4], axis=1) + turned * np.hypot(rows[:, 4], rows[:, 5])
        moved += np.abs(rows[:, 4:7] - before[:, 4:7]).max(1)
        return "obstacle speed" if (moved > self.speed * max(since, 0.0) + ROUNDING).any() else None
