"""Limits on commands: a command that is not finite or out of limits is never sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """Limits on commands (A,).

    Attributes:
        low: smallest command (A,).
        high: largest command (A,).
        max_step: largest distance of a position command from the robot's position, which is observation[:A]; None
            where commands are no positions.
    """

    low: np.ndarray
    high: np.ndarray
    max_step: float | None = None

    def violation(self, command: np.ndarray, observation: np.ndarray) -> str | None:
        """Return why a command (A,) may not be sent, in a few words, or None where it may."""
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
