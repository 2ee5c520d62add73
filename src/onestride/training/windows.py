"""What is learnt from, out of episodes: windows of H steps as plans and context, their returns, single steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.data.frames import Frames, frames_of
from onestride.robot.control_spec import ObservationError
from onestride.robot.fields import check_image
from onestride.tasks.task import Task

CHUNK = 8192  # windows turned into plans at a time
STEP = ("observation", "next_observation", "action", "reward", "terminated")
TAIL = 100  # steps whose mean reward stands for what a cut-off episode would have gone on earning


@dataclass(frozen=True)
class Windows:
    """plans (M, H, D), context (M, C) and first observations (M, observation_dim), float32, task units.

    Observations are without images.
    """

    plans: Tensor
    context: Tensor
    observations: Tensor

    def __len__(self) -> int:
        return len(self.plans)


@dataclass(frozen=True)
class WindowSource:
    """Episodes one after another, and where windows begin and end in them; windows are made when they are asked for.

    observations (T, O) and actions (T, A), float32: an episode's last action is there twice, so that both count alike.
    first, start, last (M,): of each window, its episode's first row, its own first row, its episode's last row.
    ends: the last rows of all episodes, of those too short for a window too.
    frames: cameras' images by name, of the same T rows; they stay on disk.
    """

    task: Task
    observations: Tensor
    actions: Tensor
    first: Tensor
    start: Tensor
    last: Tensor
    ends: Tensor
    frames: Mapping[str, Frames] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the plans (B, H, D) and context (B, C) of these windows, in task units.

        Rows before an episode's first and after its last repeat these.
        """
        start, first, last = (each[index][:, None] for each in (self.start, self.first, self.last))
        ahead = torch.arange(self.task.control.horizon)
        behind = torch.arange(1 - self.task.control.n_obs_steps, self.task.control.horizon)
        rows = torch.minimum(start + ahead, last)
        seen = torch.maximum(torch.minimum(start + behind, last), first)
        return self.task.plan_window(self.observations[seen], self.actions[rows])

    def decision_observations(self) -> Tensor:
        """Return what is observed where each window begins (M, n_obs_steps numbers), history included, oldest first."""
        return self.observations[self._seen(slice(None))].flatten(1)

    def images(self, index: Tensor) -> dict[str, Tensor]:
        """Return what each camera saw where these windows begin, uint8 (B, n_obs_steps, height, width, 3)."""
        rows = self._seen(index).numpy()
        return {name: torch.from_numpy(frames.take(rows)) for name, frames in self.frames.items()}

    def _seen(self, index: Tensor | slice) -> Tensor:
        """Rows of what is observed where these windows begin (B, n_obs_steps)."""
        behind = torch.arange(1 - self.task.control.n_obs_steps, 1)
        return torch.maximum(self.start[index][:, None] + behind, self.first[index][:, None])

    @property
    def nbytes(self) -> int:
        """Memory that all windows would take at once."""
        return 4 * len(self) * (self.task.control.horizon * self.task.control.transition_dim + self.task.context_dim)


def window_source(episodes: Iterable[Episode], task: Task) -> WindowSource:
    """Return where the windows of every episode are, in order, the last one of each included.

    Where the task's padding is "hold", every step begins a window, and one that runs past its episode's end repeats
    the last observation and action: for a position target this is holding still. Where it is "none", windows are
    whole: an episode of T steps has T - H + 1. What begins in the task's early steps is there as often as it says.

    Raises:
        ValueError: no episode, one whose shapes are not the task's, or not one as long as a window.
    """
    observations, actions, starts, firsts, lasts, images, ends = [], [], [], [], [], [], []
    offset = longest = 0
    for episode in _checked(episodes, task):
        t = len(episode)
        observations.append(episode.observations)
        images.append({each.name: episode.images[each.name] for each in task.control.cameras})
        actions.append(np.concatenate((episode.actions, episode.actions[-1:])))  # (T+1, A)
        start = _starts(t, task) + offset
        starts.append(start)
        firsts.append(np.full(len(start), offset))
        lasts.append(np.full(len(start), offset + t))
        ends.append(offset + t)
        offset, longest = offset + t + 1, max(longest, t)
    first, start, last = (torch.from_numpy(np.concatenate(each)) for each in (firsts, starts, lasts))
    seen, acted = (torch.from_numpy(np.concatenate(each)).float() for each in (observations, actions))
    if not len(start):
        needed = task.control.horizon
        raise ValueError(f"no episode is as long as a window of {needed} steps: the longest has {longest}")
    return WindowSource(task, seen, acted, first, start, last, torch.tensor(ends), frames_of(images))


def make_windows(episodes: Iterable[Episode], task: Task) -> Windows:
    """Return the windows of every episode at once; see ``window_source``."""
    return all_windows(window_source(episodes, task))


def all_windows(source: WindowSource) -> Windows:
    """Return every window of a source at once."""
    task = source.task
    plans = torch.empty(len(source), task.control.horizon, task.control.transition_dim)
    context = torch.empty(len(source), task.context_dim)
    for first in range(0, len(source), CHUNK):
        part = slice(first, first + CHUNK)
        plan, c = source.take(part)
        plans[part].copy_(plan)
        context[part].copy_(c)
    return Windows(plans, context, source.decision_observations())


def window_returns(episodes: Iterable[Episode], task: Task, discount: float, terminal_penalty: float = 0.0) -> Tensor:
    """The discounted return from each window's first step on (M,), row for row as ``make_windows``.

    terminal_penalty is added to the last reward of an episode that terminated (a fall). An episode that was cut off
    went on, unseen: what it would have earned is taken to be the mean reward of its last steps for ever, or returns
    near the cut would depend on a clock that no observation shows.
    """
    returns = []
    for episode in _checked(episodes, task):
        rewards = episode.rewards.astype(np.float64)
        after = 0.0
        if episode.terminated:
            rewards[-1] += terminal_penalty
        elif discount < 1:
            after = rewards[-TAIL:].mean() / (1 - discount)
        to_go = np.empty(len(rewards))
        for i in reversed(range(len(rewards))):
            after = to_go[i] = rewards[i] + discount * after
        returns.append(to_go[_starts(len(rewards), task)])
    return torch.from_numpy(np.concatenate(returns)).float()


def make_transitions(episodes: Iterable[Episode], task: Task) -> dict[str, Tensor]:
    """Every step as {"observation", "next_observation" (M, O), "action" (M, A), "reward", "terminated" (M,)}.

    "terminated" is 1 on a terminal step only: an episode that was cut off has a next observation like any other.
    Early steps are there as often as in ``make_windows``.
    """
    columns: dict[str, list[np.ndarray]] = {k: [] for k in STEP}
    for episode in _checked(episodes, task):
        ends = np.zeros(len(episode))
        ends[-1] = episode.terminated
        rows = (episode.observations[:-1], episode.observations[1:], episode.actions, episode.rewards, ends)
        order = _repeated(np.arange(len(episode)), task)
        for column, values in zip(columns.values(), rows, strict=True):
            column.append(values[order])
    return {name: torch.from_numpy(np.concatenate(parts)).float() for name, parts in columns.items()}


def check_images(where: str, episode: Episode, task: Task) -> None:
    """Raise ValueError unless an episode has images of all the task's cameras, in their size."""
    for each in task.control.cameras:
        if each.name not in episode.images:
            there = ", ".join(episode.images) or "none"
            raise ValueError(
                f"{where} has no images of camera '{each.name}', which task '{task.name}' needs; it has {there}"
            )
        try:
            check_image(each, episode.images[each.name])
        except ObservationError as error:
            raise ValueError(f"{where}: {error}") from error


def _starts(steps: int, task: Task) -> np.ndarray:
    """At which steps (M,) the windows of an episode begin."""
    starts = steps if task.padding == "hold" else max(steps - task.control.horizon + 1, 0)
    return _repeated(np.arange(starts), task)


def _repeated(starts: np.ndarray, task: Task) -> np.ndarray:
    """Steps of an episode (S,) in order, each as often as it is learnt from."""
    early, times = task.early_oversampling
    return np.repeat(starts, np.where(starts < early, times, 1))


def _checked(episodes: Iterable[Episode], task: Task) -> Iterator[Episode]:
    """The episodes, if there is one and every one has the task's shapes."""
    number, expected = -1, (task.control.numbers_dim, task.control.action_dim)
    for number, episode in enumerate(episodes):
        if (episode.observations.shape[1], episode.actions.shape[1]) != expected:
            raise ValueError(
                f"episode {number} has observations of {episode.observations.shape[1]} and actions of "
                f"{episode.actions.shape[1]} numbers; task '{task.name}' expects {expected[0]} and "
                f"{expected[1]}: is this dataset of another task?"
            )
        check_images(f"episode {number}", episode, task)
        yield episode
    if number < 0:
        raise ValueError("the dataset holds no episode; collect some first (`onestride collect --help`)")
