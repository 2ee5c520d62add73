"""The last records of one writer, in memory that processes share: the writer never waits, and readers miss what is old.

A reader may be killed, hang or never come: nothing that it does is seen by the writer.
"""

from __future__ import annotations

import threading
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

#: Bytes before the records: how many were published. A whole cache line, so that records are aligned.
HEAD = 64


class SharedRing:
    """The last ``capacity`` records of one writer, for readers in other processes.

    It goes to another process as an argument of ``multiprocessing.Process``. Only one thread may write at a time.

    Args:
        dtype: of a record, structured.
        capacity: number of records that are kept, at least 2: the oldest may be in the middle of being overwritten.

    Raises:
        ValueError: the capacity is less than 2.
    """

    def __init__(self, dtype: DTypeLike, capacity: int) -> None:
        if capacity < 2:
            raise ValueError(f"capacity is {capacity}, expected at least 2: the oldest record may be half overwritten")
        self.dtype, self.capacity = np.dtype(dtype), capacity
        self._memory: Any = get_context("spawn").RawArray("B", HEAD + capacity * self.dtype.itemsize)  # written: zeros
        self._attach()

    def _attach(self) -> None:
        self._count = np.frombuffer(self._memory, np.uint64, 1)
        self._records = np.frombuffer(self._memory, self.dtype, self.capacity, HEAD)
        # Nobody else takes this lock. Taking it orders memory: what was written before it is seen before the count.
        self._barrier = threading.Lock()

    def __getstate__(self) -> tuple[np.dtype, int, Any]:
        return self.dtype, self.capacity, self._memory

    def __setstate__(self, state: tuple[np.dtype, int, Any]) -> None:
        self.dtype, self.capacity, self._memory = state
        self._attach()

    @property
    def count(self) -> int:
        """Number of records published so far."""
        with self._barrier:
            return int(self._count[0])

    # ------------------------------------------------------------ the writer

    @property
    def slot(self) -> Any:
        """The record to fill next, as it was ``capacity`` records ago; nobody reads it before ``publish``."""
        return self._records[int(self._count[0]) % self.capacity]

    def publish(self) -> None:
        """Let readers see the record that was filled."""
        with self._barrier:
            pass
        self._count[0] += np.uint64(1)

    def write(self, record: np.ndarray) -> None:
        """Publish a copy of a whole record ()."""
        self._records[int(self._count[0]) % self.capacity] = record
        self.publish()

    # ------------------------------------------------------------ readers

    def since(self, count: int) -> tuple[np.ndarray, int]:
        """Return the records from number ``count`` on that are still there (n,), a copy, and the count to ask next."""
        until = self.count
        first = max(count, until - self.capacity + 1, 0)
        numbers = np.arange(first, until)
        copied = self._records[numbers % self.capacity]
        # The writer may have gone on meanwhile, and may be filling the slot of record ``count - capacity``.
        kept = numbers > self.count - self.capacity
        return copied[kept], until

    def newest(self) -> Any | None:
        """Return a copy of the newest record, or None before the first."""
        while (count := self.count) > 0:
            records, _ = self.since(count - 1)
            if len(records):
                return records[-1]
        return None
