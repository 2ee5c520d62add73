"""What a robot follows, as the clearance filter needs to know it: ``positions.py`` and ``velocities.py``."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from onestride.clearance.certificate import Motion


class Reference(Protocol):
    """The motion that a robot was told, and what further commands would make of it. Times are the clock's [s]."""

    def begin(self) -> None:
        """Forget the last episode: the robot is at rest where it is observed next."""
        ...

    def observe(self, observation: np.ndarray, time: float) -> str | None:
        """Take an observation (observation_dim,). Return which assumption it shows to be broken, or None."""
        ...

    def offers(self, command: np.ndarray, ahead: np.ndarray, paces: np.ndarray, now: float) -> Motion:
        """Return what there is to choose from for a command (A,), the best first.

        Args:
            command: the plan's (A,).
            ahead: the plan's commands after it (n, A).
            paces: at which the plan may be followed, from 1 downward (P,).
            now: clock time [s].
        """
        ...

    def first_steps(self, commands: np.ndarray, now: float) -> Motion:
        """Return the motions by commands (P, A) of P different plans."""
        ...

    def take(self, motion: Motion, chosen: int, now: float) -> np.ndarray:
        """Follow one of the motions, and return its command (A,)."""
        ...

    def stop(self, now: float) -> Motion:
        """Return what is left of the last stop: P = 1, with 0 seconds where the robot is at rest."""
        ...

    def follow_stop(self, now: float) -> np.ndarray | None:
        """Return the next command of the last stop (A,), or None where nothing is to be sent."""
        ...

    def displaced(self, by: np.ndarray, now: float) -> np.ndarray:
        """Return the ends of the capsules (P, K, 2, 3) [m] with the reference moved by (P, 3) [m]."""
        ...

    def reach(self, now: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest step aside along each axis, (3,) each [m]."""
        ...

    def aside(self, step: np.ndarray, now: float) -> np.ndarray:
        """Return the command (A,) that moves the reference by a step (3,) [m]."""
        ...
