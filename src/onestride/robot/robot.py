"""What the loop needs of a robot, simulated or real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TimedObservation:
    """An observation whose driver knows when it was taken.

    values: (observation_dim,). time: of the sample, by the loop's clock [s]; for ``RealClock`` that is
    ``time.perf_counter()``.
    """

    values: np.ndarray
    time: float


class Robot(Protocol):
    """Observations out, commands in, everything in SI units and the base frame.

    On wall time the loop calls ``read`` and ``fault`` in a thread of their own, so that a sensor that hangs cannot hold
    ``write`` and ``stop``: these may be called while ``read`` has not returned yet.
    """

    def read(self) -> np.ndarray | TimedObservation:
        """Return the observation now (observation_dim,). One without a time counts from when it was asked for."""
        ...

    def write(self, command: np.ndarray) -> None:
        """Follow ``command`` (A,); it holds until the next one."""
        ...

    def stop(self) -> None:
        """Stop where it is and refuse further commands. It is called again where it raises."""
        ...

    def fault(self) -> str | None:
        """Return why the robot cannot go on (a collision, a protective stop), or None."""
        ...
