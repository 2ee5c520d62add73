"""Episodes: observations, images, actions and rewards from the start to the end of one attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
        images: what cameras saw beside the observations, by name: uint8 (T+1, height, width, 3) each. They may be views
            of a file.

    Raises:
        ValueError: lengths disagree, a number is not finite, or images are of another type or layout. The message names
            the array and the index.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool = False
    images: Mapping[str, np.ndarray] = field(default_factory=dict)

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
        for name, images in self.images.items():
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) != steps + 1:
                raise ValueError(
                    f"episode.images['{name}'] are {images.dtype} {images.shape}, expected uint8 ({steps + 1}, height, "
                    "width, 3), one for each observation"
                )

    def __len__(self) -> int:
        return len(self.actions)
