"""The end of an episode: the robot is stopped in any case, then a signal that came ends the process."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
DEFAULT = (signal.SIG_DFL, signal.default_int_handler)
SIGNALS_TO_FORCE_END = 3  # this many signals while the robot is being stopped end the process all the same
#: Pauses before ``stop`` is tried again where it raised [s]: a bus may be busy, a cable loose.
STOP_AGAIN = (0.005, 0.02, 0.05)


class Signals:
    """Handles signals during one episode.

    The first signal ends the episode by an exception: KeyboardInterrupt for SIGINT, SystemExit for others. A signal
    that comes while the robot is being stopped waits for that. In other threads than the main one, and for signals
    that have a handler already, nothing is changed.

    Attributes:
        came: the first signal's number, or None.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._stopping = False
        self._waited = 0
        self.came: int | None = None  # the first

    def watch(self) -> None:
        """Let signals end the episode from now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if (before := signal.getsignal(number)) in DEFAULT:
                self._before[number] = before  # first: a signal may come right after the next line
                signal.signal(number, self._handle)

    def wait(self) -> None:
        """Let signals wait from now on."""
        self._stopping = True

    def leave(self) -> None:
        """Restore the earlier handlers."""
        while self._before:
            signal.signal(*self._before.popitem())

    def let_through(self) -> None:
        """End the process by the signal that came, if one did.

        Raises:
            KeyboardInterrupt: SIGINT came.
            SystemExit: another signal came.
        """
        if self.came is not None:
            _end(self.came)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.came is None:
            self.came = number
        if self._stopping:
            self._waited += 1
            if self._waited < SIGNALS_TO_FORCE_END:
                return
        self._stopping = True
        _end(number)


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def run_then_stop(body: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run ``body``, then ``stop`` in any case, also after an exception or a signal (SIGINT, SIGTERM, SIGHUP).

    ``stop`` is tried again where it raises. Signal handlers are restored in any case. A signal that came ends the
    process after ``stop``, also where that failed.

    Raises:
        Exception: what ``stop`` raised at the last attempt, else what ``body`` raised.
        KeyboardInterrupt: SIGINT came.
        SystemExit: another signal came.
    """
    signals = Signals()
    tried = False
    try:
        try:
            signals.watch()
            body()
        finally:
            signals.wait()
            tried = True
            _stop_for_sure(stop)
    except BaseException as error:
        signals.wait()
        if not tried:  # a signal came between the body's end and the line that lets signals wait
            _stop_for_sure(stop)
        if not isinstance(error, Exception):
            signals.came = None  # it ends the process already
        elif signals.came is not None:
            sys.stderr.write(f"onestride: the episode ended by {type(error).__name__}: {error}\n")  # a signal hides it
        raise
    finally:
        signals.leave()
        signals.let_through()


def _stop_for_sure(stop: Callable[[], None]) -> None:
    """Call ``stop``, again after each of the pauses where it raises; its last failure is raised."""
    for pause in STOP_AGAIN:
        try:
            stop()
        except Exception:  # whatever a driver raises
            time.sleep(pause)
        else:
            return
    stop()
