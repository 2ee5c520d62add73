"""Objects of libraries with threads, in a forked child: the threads are not there, and whoever waits for them hangs."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

_waiting: weakref.WeakSet[Any] = weakref.WeakSet()


def never_freed_in_children(thing: Any) -> None:
    """Keep ``thing``, whose end waits for its threads, for ever in every child that is forked from now on."""
    _waiting.add(thing)


def _keep() -> None:
    for thing in _waiting:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))  # not in a list: that is freed as the interpreter ends


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
