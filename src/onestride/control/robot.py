"""What the loop needs of a robot, simulated or real."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Robot(Protocol):
    """Observations out, commands in, everything in SI units and the base frame."""

    def read(self) -> np.ndarray:
        """The observation now (observation_dim,)."""
        ...

    def write(self, command: np.ndarray) -> None:
        """Follow ``command`` (A,); it holds until the next one."""
        ...

    def stop(self) -> None:
        """Stop where it is and refuse further commands."""
        ...

    def fault(self) -> str | None:
        """Why the robot cannot go on (a collision, a protective stop), or None."""
        ...
