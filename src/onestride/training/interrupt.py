"""Ctrl-C during a training."""

from __future__ import annotations

import signal
import threading
from typing import Any


class DeferredInterrupt:
    """Ctrl-C, in the process's main thread, waits for the end of a step; a second one does not."""

    requested = False
    _before: Any = None

    def __enter__(self) -> DeferredInterrupt:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: Any) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
