"""The end of an episode: the robot is stopped, whatever happened, and a signal to end the process comes through."""

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
PATIENCE = 3  # so many while the robot is being stopped end the process nevertheless
#: Pauses before the robot is told to stop again where that failed [s]: a bus may be busy, a cable loose.
STOP_AGAIN = (0.005, 0.02, 0.05)


class Signals:
    """Of one episode, in the process's main thread; elsewhere, and for signals that somebody handles, it does nothing.

    The first signal ends the episode by an exception: KeyboardInterrupt of SIGINT, SystemExit of others. One that comes
    while the robot is being stopped waits for that.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._stopping = False
        self._waited = 0
        self.came: int | None = None  # the first

    def watch(self) -> None:
        """From now on a signal ends the episode."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if (before := signal.getsignal(number)) in DEFAULT:
                self._before[number] = before  # first: a signal may come right after the next line
                signal.signal(number, self._handle)

    def wait(self) -> None:
        """From now on signals wait."""
        self._stopping = True

    def leave(self) -> None:
        """Restore the handlers there were before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def let_through(self) -> None:
        """End the process by the signal that came, if one did.

        Raises:
            KeyboardInterrupt: it was SIGINT. SystemExit: it was another.
        """
        if self.came is not None:
            _end(self.came)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.came is None:
            self.came = number
        if self._stopping:
            self._waited += 1
            if self._waited < PATIENCE:
                return
        self._stopping = True
        _end(number)


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def run_then_stop(body: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run ``body``, then ``stop`` whatever happened: an exception, or a signal to end (SIGINT, SIGTERM, SIGHUP).

    ``stop`` is tried again where it raises. Signal handlers are restored in any case. A signal that came ends the
    process once ``stop`` is done, also where that failed.

    Raises:
        Exception: what ``stop`` raised at the last attempt, else what ``body`` raised.
        KeyboardInterrupt, SystemExit: a signal came.
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
