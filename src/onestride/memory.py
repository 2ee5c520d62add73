"""Memory of a process that trains on a CPU: freed memory is kept for the next step."""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt, as malloc.h numbers them


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory for later allocations. Return whether the C library can do that.

    A training step frees and allocates tensors of the same sizes as the one before. By default the C library returns
    their memory to the system, and every page comes back zeroed through a page fault. For a student that is a quarter
    of a step's time (``studies/training_speed.py``). Results do not change. From then on the process keeps its peak of
    memory. Nothing happens where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such library, or no such function in it
        return False
    # Setting one of them ends glibc's own adapting of all, so all are set. 32 MiB is the most it takes for the last.
    wanted = ((_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20), (_MMAP_THRESHOLD, 32 * 2**20))
    return all(mallopt(option, value) == 1 for option, value in wanted)
