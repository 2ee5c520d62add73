"""What the operating system and Python can do for punctual ticks, as far as they let us."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIORITY = 10  # the loop's in SCHED_FIFO: above everything that is not real-time, below the kernel's own threads
SWITCH = 0.0005  # a thread that wants Python's lock waits so long at most for one that computes in Python [s]
LOCK = 1 | 2 | 4  # mlockall: what is in memory now, what will be, and that as it is first touched

ADVICE = (
    "Less jitter on Linux: --realtime as root or with CAP_SYS_NICE and CAP_IPC_LOCK (SCHED_FIFO, memory locked); a "
    "core of its own (boot with isolcpus=3, start with `taskset -c 3`), the CPU governor set to performance, "
    "OMP_NUM_THREADS no larger than the cores left to it."
)


@contextmanager
def punctual(asked_for: bool) -> Iterator[dict[str, str]]:
    """While the context lasts: real-time scheduling of all threads there are and those this one starts, memory that
    stays where it is, no garbage collector.

    Yields what was granted, in words. Not asked for: only Python's lock is handed over sooner than usual.
    """
    granted = {"scheduler": "normal", "memory": "not locked", "garbage_collector": "on"}
    interval = sys.getswitchinterval()
    before: dict[int, tuple[int, os.sched_param]] = {}
    sys.setswitchinterval(SWITCH)
    if asked_for:
        before, granted["scheduler"] = _to_front()
        granted["memory"] = _lock()
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
            _libc("munlockall")
        for thread, (policy, param) in before.items():
            _schedule(thread, policy, param)
        sys.setswitchinterval(interval)


def step_back() -> None:
    """One priority below, for the calling thread: who decides must not keep the loop waiting, which acts when a
    decision is late, not even where both share a core. Without real-time scheduling nothing changes."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        _schedule(0, os.SCHED_FIFO, os.sched_param(max(os.sched_getparam(0).sched_priority - 1, 1)))


def to_back() -> None:
    """Take the calling thread out of real-time scheduling: what only looks must not keep a tick waiting."""
    if hasattr(os, "sched_setscheduler"):
        _schedule(0, os.SCHED_OTHER, os.sched_param(0))


def _to_front() -> tuple[dict[int, tuple[int, os.sched_param]], str]:
    """Ask for SCHED_FIFO. Returns how every thread was before, if it was granted, and the answer in words.

    All threads: an engine's helpers are there already, and a decision would wait for them. They decide, and stand
    behind the calling thread, whose the loop is.
    """
    if not hasattr(os, "sched_setscheduler"):
        return {}, f"SCHED_FIFO is not to be had on {sys.platform}"
    threads = [int(name) for name in os.listdir("/proc/self/task")] if Path("/proc/self/task").is_dir() else [0]
    before = {thread: (os.sched_getscheduler(thread), os.sched_getparam(thread)) for thread in threads}
    try:
        own = threading.get_native_id()
        for thread in threads:
            front = thread in (0, own)
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(PRIORITY if front else PRIORITY - 1))
    except PermissionError as error:
        return {}, f"SCHED_FIFO was refused ({error.strerror}); it takes root or CAP_SYS_NICE"
    return before, f"SCHED_FIFO, priority {PRIORITY}; who decides one below"


def _schedule(thread: int, policy: int, param: os.sched_param) -> None:
    """As far as it is still there."""
    with suppress(ProcessLookupError):
        os.sched_setscheduler(thread, policy, param)


def _lock() -> str:
    """Ask for memory that is never paged out, in words."""
    error = _libc("mlockall", LOCK)
    if error is None:
        return f"mlockall is not to be had on {sys.platform}"
    return "locked" if error == 0 else f"locking was refused ({os.strerror(error)}); it takes root or CAP_IPC_LOCK"


def _libc(name: str, *arguments: int) -> int | None:
    """Call a function of the C library: 0, or what was wrong (errno); None where there is no such function."""
    if not sys.platform.startswith("linux"):
        return None
    return 0 if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == 0 else ctypes.get_errno()
