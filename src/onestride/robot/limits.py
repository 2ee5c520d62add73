"""The gate between a decision and the robot: what is not finite or out of limits is never sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """Commands (A,) stay in low .. high and within max_step of where the robot is (observation[:A]).

    max_step None: the command is not a position, only the box holds.
    """

    low: np.ndarray
    high: np.ndarray
    max_step: float | None = None

    def violation(self, command: np.ndarray, observation: np.ndarray) -> str | None:
        """What is wrong with a command, in a few words, or None."""
        if np.shape(command) != self.low.shape:
            return f"shape {np.shape(command)}, expected {self.low.shape}"
        if not np.isfinite(command).all():
            return "not finite"
        if (command < self.low).any() or (command > self.high).any():
            return "out of the workspace"
        if self.max_step is not None:
            step = float(np.linalg.norm(command - observation[: len(command)]))
            if not step <= self.max_step:  # nor one from a position that is no number
                return "too far in one step"
        return None
