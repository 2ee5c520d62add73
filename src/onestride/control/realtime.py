"""Real-time scheduling: priorities, locked memory and the garbage collector, as far as the system permits."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIORITY = 10  # of the loop in SCHED_FIFO: above everything that is not real-time, below the kernel's own threads
SWITCH = 0.0005  # longest wait of a thread for Python's lock while another one computes in Python [s]
LOCK = 1 | 2 | 4  # of mlockall: current pages, future pages, each of them once it is touched

ADVICE = (
    "Less jitter on Linux: --realtime as root or with CAP_SYS_NICE and CAP_IPC_LOCK (SCHED_FIFO, memory locked); a "
    "core of its own (boot with isolcpus=3, start with `taskset -c 3`), the CPU governor set to performance, "
    "OMP_NUM_THREADS no larger than the cores left to it."
)


@contextmanager
def realtime_scheduling(asked_for: bool) -> Iterator[dict[str, str]]:
    """Use real-time scheduling, locked memory and no garbage collector while the context lasts.

    It holds for all threads that exist and those that the calling thread starts.

    Args:
        asked_for: whether to ask for it. If not, only Python's lock is handed over sooner than usual.

    Yields:
        What the system granted, in words.
    """
    granted = {"scheduler": "normal", "memory": "not locked", "garbage_collector": "on"}
    interval = sys.getswitchinterval()
    before: dict[int, tuple[int, os.sched_param]] = {}
    sys.setswitchinterval(SWITCH)
    if asked_for:
        before, granted["scheduler"] = _enter_realtime()
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


def lower_priority() -> None:
    """Lower the calling thread's real-time priority by one; without real-time scheduling nothing changes.

    A thread that decides must not delay the loop, not even where both share a core.
    """
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        _schedule(0, os.SCHED_FIFO, os.sched_param(max(os.sched_getparam(0).sched_priority - 1, 1)))


def leave_realtime() -> None:
    """Take the calling thread out of real-time scheduling: a thread that only watches must not delay a tick."""
    if hasattr(os, "sched_setscheduler"):
        _schedule(0, os.SCHED_OTHER, os.sched_param(0))


def in_the_background(process: int = 0) -> None:
    """Have a process compute only while nothing else wants to: one that shows a loop must not delay it.

    It holds for what is started by it, too. Where the system has no such scheduling, the process stays as it is.

    Args:
        process: its number; 0: the calling thread, and threads that it starts from now on.
    """
    if hasattr(os, "SCHED_IDLE"):
        _schedule(process, os.SCHED_IDLE, os.sched_param(0))


def _enter_realtime() -> tuple[dict[int, tuple[int, os.sched_param]], str]:
    """Ask for SCHED_FIFO. Return every thread's earlier policy, if it was granted, and the system's answer in words.

    All threads get it, since a decision waits for an engine's helpers. The calling thread, which runs the loop, is one
    priority above the others.
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
    """Schedule a thread, if it still exists."""
    with suppress(ProcessLookupError):
        os.sched_setscheduler(thread, policy, param)


def _lock() -> str:
    """Ask for memory that is never paged out. Return the system's answer in words."""
    error = _libc("mlockall", LOCK)
    if error is None:
        return f"mlockall is not to be had on {sys.platform}"
    return "locked" if error == 0 else f"locking was refused ({os.strerror(error)}); it takes root or CAP_IPC_LOCK"


def _libc(name: str, *arguments: int) -> int | None:
    """Call a function of the C library. Return 0 or its errno, or None where there is no such function."""
    if not sys.platform.startswith("linux"):
        return None
    return 0 if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == 0 else ctypes.get_errno()
