"""Kill a process at each of its file operations, one after another: what is left must be old or new, and go on.

A process of its own, without threads: ``python killed_everywhere.py`` is not of use, tests write a short script for it.
"""

from __future__ import annotations

import os
import signal
import sys

#: Audit events of Python that belong to operations on files.
OPERATIONS = ("open", "os.", "shutil.", "tempfile.", "ctypes.dlsym")


def at_every_operation(prepare, work, check, limit=500):
    """Call ``prepare()``, then ``work()`` in a child that is killed at its n-th file operation, then ``check()``.

    For n = 1, 2, ... until the child gets through; returns how many were killed.
    """
    for n in range(1, limit):
        prepare()
        child = os.fork()
        if child == 0:
            _kill_at(n)
            work()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check()
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the work failed without being killed"
            return n - 1
    raise AssertionError(f"not done after {limit} operations")


def _kill_at(n):
    left = n

    def hook(event, _):
        nonlocal left
        if event.startswith(OPERATIONS):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
