"""Episodes: observations, actions and rewards from the start to the end of one attempt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Episode:
    """One attempt of T steps. Its length is T.

    Attributes:
        observations: (T+1, O).
        actions: (T, A).
        rewards: (T,).
        terminated: whether it ended for good, by a fall or at a goal.
        truncated: whether it was cut off.

    Raises:
        ValueError: lengths disagree or a number is not finite. The message names the array and the index.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool = False

    def __post_init__(self) -> None:
        steps = len(self.actions)
        if steps < 1:
            raise ValueError("an episode needs at least one action, got none")
        if len(self.observations) != steps + 1:
            raise ValueError(
                f"an episode of {steps} actions needs {steps + 1} observations (the last one too), "
                f"got {len(self.observations)}"
            )
        if len(self.rewards) != steps:
            raise ValueError(f"an episode of {steps} actions needs {steps} rewards, got {len(self.rewards)}")
        for name in ("observations", "actions", "rewards"):
            bad = np.argwhere(~np.isfinite(getattr(self, name)))
            if len(bad):
                raise ValueError(f"episode.{name} is not finite at index {tuple(bad[0].tolist())}")

    def __len__(self) -> int:
        return len(self.actions)
