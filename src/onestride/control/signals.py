"""Signals that end a process wait until the robot is stopped."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
DEFAULT = (signal.SIG_DFL, signal.default_int_handler)
PATIENCE = 3  # so many while the robot is being stopped end the process nevertheless


class Signals:
    """Of one episode, in the process's main thread; elsewhere, and for signals that somebody handles, it does nothing.

    The first signal ends the episode by an exception: KeyboardInterrupt of SIGINT, SystemExit of others. One that comes
    while the robot is being stopped waits for that.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._stopping = False
        self._waiting: list[int] = []

    def watch(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if signal.getsignal(number) in DEFAULT:
                self._before[number] = signal.signal(number, self._handle)

    def wait(self) -> None:
        """From now on they wait."""
        self._stopping = True

    def leave(self) -> None:
        """As it was before; one that waited is let through."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._waiting:
            _end(self._waiting[0])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._stopping:
            self._waiting.append(number)
            if len(self._waiting) < PATIENCE:
                return
        self._stopping = True
        _end(number)


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
