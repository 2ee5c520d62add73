"""What a run's episodes give to learn from: windows, single steps and returns, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.networks.normalizer import Normalizer
from onestride.tasks.task import Task
from onestride.training.windows import Windows, make_transitions, make_windows, window_returns


@dataclass(frozen=True)
class Material:
    """Episodes of a task. episodes: reads them anew; source: where they lie."""

    task: Task
    episodes: Callable[[], Iterable[Episode]]
    source: Path

    @cached_property
    def windows(self) -> Windows:
        """Windows of H steps, in task units."""
        return make_windows(self.episodes(), self.task)

    @cached_property
    def normalizer(self) -> Normalizer:
        """Fitted to the windows."""
        return Normalizer.fit(self.windows.plans, self.windows.context)

    def plans(self) -> dict[str, Tensor]:
        """Return the windows, normalised: {"plans" (M, H, D), "context" (M, C)}."""
        windows, normalizer = self.windows, self.normalizer
        return {"plans": normalizer.plans(windows.plans), "context": normalizer.context(windows.context)}

    def returns(self, discount: float, terminal_penalty: float = 0.0) -> Tensor:
        """Return the discounted return from each window's first step on (M,)."""
        return window_returns(self.episodes(), self.task, discount, terminal_penalty)

    def transitions(self) -> dict[str, Tensor]:
        """Return every step, in task units, as ``make_transitions`` has it."""
        return make_transitions(self.episodes(), self.task)

    def episode_returns(self) -> Tensor:
        """Return what each episode earned (E,)."""
        return torch.tensor([float(episode.rewards.sum()) for episode in self.episodes()])
