"""What is learnt from, out of episodes: windows of H steps as plans and context, their returns, single steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.tasks.task import Task

CHUNK = 8192  # windows turned into plans at a time
STEP = ("observation", "next_observation", "action", "reward", "terminated")
TAIL = 100  # steps whose mean reward stands for what a cut-off episode would have gone on earning


@dataclass(frozen=True)
class Windows:
    """plans (M, H, D), context (M, C) and first observations (M, observation_dim), float32, task units."""

    plans: Tensor
    context: Tensor
    observations: Tensor

    def __len__(self) -> int:
        return len(self.plans)


def make_windows(episodes: Iterable[Episode], task: Task) -> Windows:
    """The windows of every episode, in order, the last one of each included.

    Where the task's padding is "hold", every step begins a window, and one that runs past its episode's end repeats
    the last observation and action: for a position target this is holding still. Where it is "none", windows are
    whole: an episode of T steps has T - H + 1. What begins in the task's ``early`` steps is there as many times over.

    Raises:
        ValueError: no episode, one whose shapes are not the task's, or not one as long as a window.
    """
    observations, actions, index = [], [], []
    offset = longest = 0
    for episode in _checked(episodes, task):
        t = len(episode)
        observations.append(episode.observations)
        actions.append(np.concatenate((episode.actions, episode.actions[-1:])))  # (T+1, A)
        index.append(_rows(t, task) + offset)
        offset, longest = offset + t + 1, max(longest, t)
    all_observations = torch.from_numpy(np.concatenate(observations)).float()
    all_actions = torch.from_numpy(np.concatenate(actions)).float()
    all_rows = torch.from_numpy(np.concatenate(index))  # (M, H)
    if not len(all_rows):
        raise ValueError(f"no episode is as long as a window of {task.horizon} steps: the longest has {longest}")

    plans = torch.empty(len(all_rows), task.horizon, task.transition_dim)
    context = torch.empty(len(all_rows), task.context_dim)
    for rows, plan_out, context_out in zip(
        all_rows.split(CHUNK), plans.split(CHUNK), context.split(CHUNK), strict=True
    ):
        plan, c = task.plan_window(all_observations[rows], all_actions[rows])
        plan_out.copy_(plan)
        context_out.copy_(c)
    return Windows(plans, context, all_observations[all_rows[:, 0]])


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
        returns.append(to_go[_rows(len(rewards), task)[:, 0].clip(max=len(rewards) - 1)])
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


def _rows(steps: int, task: Task) -> np.ndarray:
    """Which steps (M, H) the windows of an episode are made of."""
    starts = steps if task.padding == "hold" else max(steps - task.horizon + 1, 0)
    return np.minimum(_repeated(np.arange(starts), task)[:, None] + np.arange(task.horizon), steps)


def _repeated(starts: np.ndarray, task: Task) -> np.ndarray:
    """Steps of an episode (S,) in order, each as often as it is learnt from."""
    early, times = task.early_oversampling
    return np.repeat(starts, np.where(starts < early, times, 1))


def _checked(episodes: Iterable[Episode], task: Task) -> Iterator[Episode]:
    """The episodes, if there is one and every one has the task's shapes."""
    number = -1
    for number, episode in enumerate(episodes):
        if episode.observations.shape[1] != task.observation_dim or episode.actions.shape[1] != task.action_dim:
            raise ValueError(
                f"episode {number} has observations of {episode.observations.shape[1]} and actions of "
                f"{episode.actions.shape[1]} numbers; task '{task.name}' expects {task.observation_dim} and "
                f"{task.action_dim}: is this dataset of another task?"
            )
        yield episode
    if number < 0:
        raise ValueError("the dataset holds no episode; collect some first (`onestride collect --help`)")
