"""Numbers kept while a robot moves, in memory taken before it moves."""

from __future__ import annotations

import numpy as np


class Ring:
    """The last ``capacity`` rows of ``columns`` numbers; ``count`` is how many were added in all."""

    def __init__(self, capacity: int, columns: int) -> None:
        if capacity < 1:
            raise ValueError(f"a ring keeps at least one row, got capacity {capacity}")
        self._rows = np.full((capacity, columns), np.nan)  # written, so that its memory is there already
        self.count = 0

    def add(self, *values: float) -> None:
        """Keep a row; the oldest goes when there is no room."""
        self._rows[self.count % len(self._rows)] = values
        self.count += 1

    def extend(self, rows: np.ndarray) -> None:
        """Keep many rows (n, columns)."""
        for row in rows:
            self.add(*row)

    @property
    def rows(self) -> np.ndarray:
        """What is kept, oldest first (n, columns)."""
        if self.count <= len(self._rows):
            return self._rows[: self.count]
        return np.roll(self._rows, -(self.count % len(self._rows)), axis=0)
