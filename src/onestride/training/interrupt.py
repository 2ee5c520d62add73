"""Ctrl-C, SIGTERM or SIGHUP during a training."""

from __future__ import annotations

import signal
import threading
from typing import Any

from onestride.termination import TERMINATING, Terminated, Termination


class DeferredInterrupt:
    """Ctrl-C, SIGTERM and SIGHUP, in the main thread, wait for the end of a step; a second Ctrl-C does not.

    Signals that something else handles, or that are ignored, are left alone.

    Attributes:
        requested: whether one of them came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._ending: BaseException = KeyboardInterrupt()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            if (ctrl_c := signal.getsignal(signal.SIGINT)) is signal.default_int_handler:
                self._before[signal.SIGINT] = ctrl_c
            for number in TERMINATING:
                if (found := signal.getsignal(number)) is signal.SIG_DFL or isinstance(found, Termination):
                    self._before[number] = found
            for number in self._before:
                signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def end(self) -> BaseException:
        """Return the exception that ends the training: what the first signal stands for."""
        return self._ending

    def _hear(self, number: int, frame: Any) -> None:
        del frame
        if number == signal.SIGINT and self.requested:
            raise KeyboardInterrupt
        if number != signal.SIGINT and not self.requested:
            self._ending = Terminated(number)
        if isinstance(before := self._before.get(number), Termination):
            before.came = True  # it is heard already
        self.requested = True
