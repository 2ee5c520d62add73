"""A ring buffer of numbers, whose memory is taken before a robot moves."""

from __future__ import annotations

import numpy as np


class RingBuffer:
    """The last ``capacity`` rows of ``columns`` numbers.

    Attributes:
        count: number of rows added so far.

    Raises:
        ValueError: the capacity is less than 1.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        if capacity < 1:
            raise ValueError(f"a ring keeps at least one row, got capacity {capacity}")
        self._rows = np.full((capacity, columns), np.nan)  # written, so that its memory is there already
        self.count = 0

    def add(self, *values: float) -> None:
        """Add a row. The oldest row is overwritten when the buffer is full."""
        self._rows[self.count % len(self._rows)] = values
        self.count += 1

    def extend(self, rows: np.ndarray) -> None:
        """Add rows (n, columns)."""
        for row in rows:
            self.add(*row)

    @property
    def rows(self) -> np.ndarray:
        """The rows that are kept, oldest first (n, columns)."""
        if self.count <= len(self._rows):
            return self._rows[: self.count]
        return np.roll(self._rows, -(self.count % len(self._rows)), axis=0)
