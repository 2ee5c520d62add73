"""Fault injection: stalls on purpose, to measure how the loop bridges them. For simulated robots only."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from onestride.robot.decision import Decider, Decision

KINDS = {
    "busy": "the deciding thread burns a core",
    "gil": "a second thread holds Python's lock, so that nothing else in Python runs",
    "pause": "the whole process is stopped (SIGSTOP) and continued by a small helper",
}

#: The program of the "pause" helper. It prints when it stopped this process, and ends when its input is closed.
HELPER = """
import os, select, signal, sys, time
process, every, length = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
while not select.select([sys.stdin], [], [], every)[0]:
    try:
        os.kill(process, signal.SIGSTOP)
        print(time.perf_counter(), flush=True)
        time.sleep(length)
    finally:
        os.kill(process, signal.SIGCONT)
"""


@dataclass(frozen=True)
class FaultInjection:
    """Stalls of one kind.

    Attributes:
        kind: one of ``KINDS``.
        every: time between the beginnings of two stalls [s].
        length: duration of a stall [s].
    """

    kind: str
    every: float
    length: float

    @classmethod
    def parse(cls, text: str) -> FaultInjection:
        """Return the stalls that a text such as ``busy:2.0:0.05`` describes.

        Raises:
            ValueError: the text is of another form, or there would be no time between two stalls.
        """
        wanted = f"expected KIND:EVERY:LENGTH in seconds, such as busy:2.0:0.05, with KIND one of {', '.join(KINDS)}"
        kind, _, numbers = text.partition(":")
        every, _, length = numbers.partition(":")
        try:
            fault = cls(kind, float(every), float(length))
        except ValueError:
            raise ValueError(f"fault is '{text}'; {wanted}") from None
        if kind not in KINDS:
            raise ValueError(f"fault is '{text}'; {wanted}")
        if not (0 < fault.length < fault.every and math.isfinite(fault.every)):
            raise ValueError(f"fault is '{text}'; expected 0 < LENGTH < EVERY, both finite")
        return fault


class FaultInjector:
    """A policy that stalls as long as the context lasts.

    Attributes:
        policy: what decides.
        fault: the stalls.
        moments: wall time at which each stall began [s].
    """

    def __init__(self, policy: Decider, fault: FaultInjection) -> None:
        self.policy, self.fault = policy, fault
        self.moments: list[float] = []
        self._next = math.inf
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._helper: subprocess.Popen[str] | None = None

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the policy's decision, after a stall where one is due."""
        now = time.perf_counter()
        if now >= self._next:
            self.moments.append(now)
            self._next = now + self.fault.every
            while time.perf_counter() < now + self.fault.length:
                pass
        return self.policy.decide(observation)

    def __enter__(self) -> FaultInjector:
        if self.fault.kind == "busy":
            self._next = time.perf_counter() + self.fault.every
        elif self.fault.kind == "gil":
            self._thread = threading.Thread(target=self._hold_lock, name="stalls", daemon=True)
            self._thread.start()
        else:
            arguments = [str(os.getpid()), str(self.fault.every), str(self.fault.length)]
            self._helper = subprocess.Popen(
                [sys.executable, "-c", HELPER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._next = math.inf
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._helper is not None:  # it is never killed: it could have stopped us a moment ago
            self.moments += [float(line) for line in self._helper.communicate()[0].split()]

    def _hold_lock(self) -> None:
        usleep = ctypes.PyDLL(None).usleep  # PyDLL, unlike CDLL, keeps the lock during the call
        while not self._over.wait(self.fault.every):
            self.moments.append(time.perf_counter())
            usleep(int(1e6 * self.fault.length))
