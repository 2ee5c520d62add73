"""How freed memory is kept on a CPU."""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt, as malloc.h numbers them


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process keep what is freed for what is allocated next; whether that could be had.

    A step of training frees and allocates the same tensors as the last one. The C library gives such pieces back to
    the system each time, and every page of them comes back through a fault, zeroed: a quarter of a step's time of a
    student (see ``studies/``). Results do not change. Memory stays at the process's peak from then on. Where
    the C library is not glibc, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such library, or no such function in it
        return False
    # Setting one of them ends glibc's own adapting of all, so all are set. 32 MiB is the most it takes for the last.
    wanted = ((_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20), (_MMAP_THRESHOLD, 32 * 2**20))
    return all(mallopt(option, value) == 1 for option, value in wanted)
