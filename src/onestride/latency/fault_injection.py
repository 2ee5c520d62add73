"""Faults on purpose in a measured run of the control loop (``studies/faults.py``). Simulated robots only."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, get_args

import numpy as np

from onestride.robot.decision import Decider, Decision

#: busy: the deciding thread burns a core. pause: the process is stopped (SIGSTOP) and continued by a small helper.
Kind = Literal["busy", "pause"]

#: What the helper of "pause" runs: it prints when it stopped us, and ends when our end of its input is closed.
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
class Fault:
    """A fault of one kind every ``every`` seconds, ``length`` seconds long."""

    kind: Kind
    every: float
    length: float

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is '{self.kind}', expected one of {', '.join(get_args(Kind))}")
        if not (0 < self.length < self.every and math.isfinite(self.every)):
            raise ValueError(
                f"length is {self.length:g} s and every is {self.every:g} s, expected 0 < length < every, both finite"
            )


class FaultInjection:
    """A decider with faults while its context is entered.

    moments: when each fault began, by ``time.perf_counter`` [s]; those of "pause" are known when the context is left.
    """

    def __init__(self, decider: Decider, fault: Fault) -> None:
        self.decider, self.fault = decider, fault
        self.moments: list[float] = []
        self._next = math.inf
        self._helper: subprocess.Popen[str] | None = None

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the decider's decision, after a busy fault where one is due."""
        now = time.perf_counter()
        if now >= self._next:
            self.moments.append(now)
            self._next = now + self.fault.every
            while time.perf_counter() < now + self.fault.length:
                pass
        return self.decider.decide(observation)

    def __enter__(self) -> FaultInjection:
        if self.fault.kind == "busy":
            self._next = time.perf_counter() + self.fault.every
        else:
            arguments = [str(os.getpid()), str(self.fault.every), str(self.fault.length)]
            self._helper = subprocess.Popen(
                [sys.executable, "-c", HELPER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._next = math.inf
        if self._helper is not None:  # it is never killed: it could have stopped us a moment ago
            self.moments += [float(line) for line in self._helper.communicate()[0].split()]
