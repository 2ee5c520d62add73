"""SIGTERM, by which schedulers and ``docker stop`` end a process, heard as Ctrl-C is: what was begun is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(SystemExit):
    """SIGTERM came. A process that lets it through ends with the exit code that shells give it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Termination:
    """A handler of SIGTERM that raises ``Terminated``, once: some senders signal a process and its group, so twice."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: object) -> None:
        """Raise ``Terminated`` at the first call."""
        del number, frame
        if not self.came:
            self.came = True
            raise Terminated


@contextmanager
def heard() -> Iterator[None]:
    """Raise ``Terminated`` within this context when SIGTERM comes, in the main thread, unless it has a handler already.

    The earlier handler is put back at the end.
    """
    before = signal.getsignal(signal.SIGTERM)
    ours = threading.current_thread() is threading.main_thread() and before is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, Termination())
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)
