"""Signals that end a process from outside, heard as Ctrl-C is: what was begun is kept.

SIGTERM is what schedulers and ``docker stop`` send, SIGHUP what comes when a terminal is closed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(SystemExit):
    """One of ``TERMINATING`` came. A process that lets it through ends with the exit code that shells give it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Termination:
    """A handler that raises ``Terminated``, once: some senders signal a process and its group, so twice."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: object) -> None:
        """Raise ``Terminated`` at the first call."""
        del frame
        if not self.came:
            self.came = True
            raise Terminated(number)


@contextmanager
def heard() -> Iterator[None]:
    """Raise ``Terminated`` within this context when one of ``TERMINATING`` comes, in the main thread.

    A signal that is handled already stays as it is, and one that is ignored, as ``nohup`` has SIGHUP ignored. The
    earlier handlers are put back at the end.
    """
    ours, handler = [], Termination()
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in TERMINATING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
