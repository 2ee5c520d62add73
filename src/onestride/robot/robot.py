"""The interface of a robot, simulated or real, to the control loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TimedObservation:
    """An observation with the time of its sample.

    Attributes:
        values: (observation_dim,).
        time: of the sample by the loop's clock [s]; with ``RealClock``, by ``time.perf_counter()``.
    """

    values: np.ndarray
    time: float


class Robot(Protocol):
    """A robot that gives observations and takes commands, all in SI units and the base frame.

    On wall time the loop calls ``read`` and ``fault`` in a thread of their own, so that a sensor that hangs cannot
    delay ``write`` and ``stop``. These two may be called while ``read`` has not returned yet.
    """

    def read(self) -> np.ndarray | TimedObservation:
        """Return the observation (observation_dim,). Without a time, it counts as made when ``read`` was called."""
        ...

    def write(self, command: np.ndarray) -> None:
        """Follow ``command`` (A,) until the next one."""
        ...

    def stop(self) -> None:
        """Stop the robot where it is and refuse further commands. The loop calls it again where it raises."""
        ...

    def fault(self) -> str | None:
        """Return why the robot cannot go on (a collision, a protective stop), or None."""
        ...
