"""Ctrl-C or SIGTERM during a training."""

from __future__ import annotations

import signal
import threading
from typing import Any

from onestride.termination import Terminated, Termination


class DeferredInterrupt:
    """Ctrl-C and SIGTERM, in the process's main thread, wait for the end of a step; a second Ctrl-C does not.

    Signals that something else handles are left to it.

    Attributes:
        requested: whether one of them came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._ending: BaseException = KeyboardInterrupt()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            ctrl_c, sigterm = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
            if ctrl_c is signal.default_int_handler:
                self._before[signal.SIGINT] = ctrl_c
            if sigterm is signal.SIG_DFL or isinstance(sigterm, Termination):
                self._before[signal.SIGTERM] = sigterm
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
        if number == signal.SIGTERM and not self.requested:
            self._ending = Terminated()
        if isinstance(before := self._before.get(number), Termination):
            before.came = True  # it is heard already
        self.requested = True
