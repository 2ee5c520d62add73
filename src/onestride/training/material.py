"""What a run's episodes give to learn from: windows, single steps and returns, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.methods.sighted import IMAGE
from onestride.networks.normalizer import Normalizer
from onestride.selectors.iql import reward_scale
from onestride.tasks.task import Task
from onestride.training.datasets import Beside, Dataset, Lazy, Packed, Resident, Rows
from onestride.training.windows import (
    CHUNK,
    Windows,
    WindowSource,
    all_windows,
    make_transitions,
    window_returns,
    window_source,
)

#: Windows that would take more memory than this [bytes] are made when they are asked for.
RESIDENT = 2 * 1024**3


@dataclass(frozen=True)
class Material:
    """Episodes of a task.

    episodes: reads them anew; source: where they lie; resident: memory for windows [bytes]; given: the normaliser of
    whoever learns from them, such as a teacher's that was fitted to other data; None: one fitted to them. scored: what
    a run's contexts say of every window (M,), by name.
    """

    task: Task
    episodes: Callable[[], Iterable[Episode]]
    source: Path
    resident: int = RESIDENT
    given: Normalizer | None = None
    scored: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def window_source(self) -> WindowSource:
        """Where windows of H steps are in the episodes."""
        return window_source(self.episodes(), self.task)

    @cached_property
    def _windows(self) -> Windows | None:
        """All of them at once, in task units; None: there are too many."""
        return all_windows(self.window_source) if self.window_source.nbytes <= self.resident else None

    @cached_property
    def normalizer(self) -> Normalizer:
        """The one that was given, or one fitted to the windows."""
        if self.given is not None:
            return self.given
        if self._windows is not None:
            return Normalizer.fit(self._windows.plans, self._windows.context, self.task.scaling)
        return Normalizer.fit_chunks(self.chunks(), self.task.scaling)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all windows, some at a time: plans (B, H, D) and context (B, C), in task units."""
        source = self.window_source
        return (source.take(slice(i, i + CHUNK)) for i in range(0, len(source), CHUNK))

    def plans(self, **columns: Tensor) -> Dataset:
        """Return the windows, normalised: rows {"plans" (H, D), "context" (C,)}, and these columns (M, ...).

        What a camera saw where they begin is "image.<name>", uint8 (n_obs_steps, height, width, 3).
        """
        data, source = self._plans(columns), self.window_source
        return Beside(data, source.images, IMAGE) if source.frames else data

    def _plans(self, columns: dict[str, Tensor]) -> Dataset:
        normalizer, windows, source = self.normalizer, self._windows, self.window_source
        if windows is not None:
            plans, context = normalizer.plans(windows.plans), normalizer.context(windows.context)
            return Resident({"plans": plans, "context": context, **columns})

        def rows(index: Tensor) -> dict[str, Tensor]:
            plans, context = source.take(index)
            more = {name: column[index] for name, column in columns.items()}
            return {"plans": normalizer.plans(plans), "context": normalizer.context(context), **more}

        return Lazy(len(source), rows)

    def first_rows(self) -> Tensor:
        """Return the first row of every window (M, D), in task units."""
        if self._windows is not None:
            return self._windows.plans[:, 0]
        source = self.window_source
        chunks = (source.take(slice(i, i + CHUNK))[0][:, 0] for i in range(0, len(source), CHUNK))
        return torch.cat([chunk.clone() for chunk in chunks])

    def decision_observations(self) -> Rows:
        """Return what is observed where each window begins (M, observation_dim); with images, made when asked for."""
        flat, source, control = self.window_source.decision_observations(), self.window_source, self.task.control
        if not source.frames:
            return flat
        return Packed(flat.unflatten(1, (control.n_obs_steps, -1)), [c.name for c in control.cameras], source.images)

    def returns(self, discount: float, terminal_penalty: float = 0.0) -> Tensor:
        """Return the discounted return from each window's first step on (M,)."""
        return window_returns(self.episodes(), self.task, discount, terminal_penalty)

    def transitions(self) -> dict[str, Tensor]:
        """Return every step, in task units, as ``make_transitions`` has it."""
        return make_transitions(self.episodes(), self.task)

    def steps(self) -> dict[str, Tensor]:
        """Return every step, normalised, as methods that learn from transitions want it (``methods.method.Needs``).

        Raises:
            ValueError: a plan has more rows than one, or a decision sees more than the last observation.
        """
        task, normalizer = self.task, self.normalizer
        if task.control.horizon != 1 or task.control.n_obs_steps != 1:
            raise ValueError(
                f"single steps are plans of 1 row from 1 observation; task '{task.name}' has {task.control.horizon} "
                f"rows and {task.control.n_obs_steps} observations per decision"
            )
        step, windows = self.transitions(), all_windows(self.window_source)  # one window begins at every step
        following = task.encode(step["next_observation"])
        next_plans = torch.zeros_like(windows.plans)
        next_plans[:, 0, : task.control.state_dim] = normalizer.start(following.values)
        return {
            "plans": normalizer.plans(windows.plans),
            "context": normalizer.context(windows.context),
            "next_plans": next_plans,
            "next_context": normalizer.context(following.context),
            "reward": step["reward"] * reward_scale(self.episode_returns()),
            "terminated": step["terminated"],
        }

    def episode_returns(self) -> Tensor:
        """Return what each episode earned (E,)."""
        return torch.tensor([float(episode.rewards.sum()) for episode in self.episodes()])
