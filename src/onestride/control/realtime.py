"""What the operating system and Python can do for punctual ticks, as far as they let us."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PRIORITY = 10  # of SCHED_FIFO: above everything that is not real-time, below the kernel's own threads
SWITCH = 0.0005  # a thread that wants Python's lock waits so long at most for one that computes in Python [s]

ADVICE = (
    "Less jitter on Linux: --realtime as root or with CAP_SYS_NICE (SCHED_FIFO); a core of its own (boot with "
    "isolcpus=3, start with `taskset -c 3`), the CPU governor set to performance, swap off or the memory locked "
    "(mlockall needs CAP_IPC_LOCK), OMP_NUM_THREADS no larger than the cores left to it."
)


@contextmanager
def punctual(asked_for: bool) -> Iterator[dict[str, str]]:
    """While the context lasts: real-time scheduling of this thread and those it starts, no garbage collector.

    Yields what was granted, in words. Not asked for: only Python's lock is handed over sooner than usual.
    """
    granted = {"scheduler": "normal", "garbage_collector": "on"}
    interval, before = sys.getswitchinterval(), None
    sys.setswitchinterval(SWITCH)
    if asked_for:
        before, granted["scheduler"] = _to_front()
        gc.collect()
        gc.freeze()
        gc.disable()
        granted["garbage_collector"] = "off, objects from before the run frozen"
    try:
        yield granted
    finally:
        if asked_for:
            gc.enable()
            gc.unfreeze()
        if before is not None:
            os.sched_setscheduler(0, *before)
        sys.setswitchinterval(interval)


def _to_front() -> tuple[tuple[int, os.sched_param] | None, str]:
    """Ask for SCHED_FIFO. Returns how it was before, if it was granted, and the answer in words."""
    if not hasattr(os, "sched_setscheduler"):
        return None, f"SCHED_FIFO is not to be had on {sys.platform}"
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError as error:
        return None, f"SCHED_FIFO was refused ({error.strerror}); it takes root or CAP_SYS_NICE"
    return before, f"SCHED_FIFO, priority {PRIORITY}"
