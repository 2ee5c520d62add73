"""Windows: every stretch of H steps of every episode, as plans and context in task units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onestride.data.episode import Episode
from onestride.tasks.task import Task

CHUNK = 8192  # windows turned into plans at a time


@dataclass(frozen=True)
class Windows:
    """plans (M, H, D), context (M, C) and first observations (M, observation_dim), float32, task units."""

    plans: Tensor
    context: Tensor
    observations: Tensor

    def __len__(self) -> int:
        return len(self.plans)


def make_windows(episodes: Iterable[Episode], task: Task) -> Windows:
    """One window for every step of every episode, the last ones padded by standing still.

    A window that runs past its episode's end repeats the last observation and the last action: for a task
    whose action is a position target this is holding still.

    Raises:
        ValueError: no episode, or one whose shapes are not the task's.
    """
    observations, actions, index = [], [], []
    offset = 0
    h = task.horizon
    for number, episode in enumerate(episodes):
        if episode.observations.shape[1] != task.observation_dim or episode.actions.shape[1] != task.action_dim:
            raise ValueError(
                f"episode {number} has observations of {episode.observations.shape[1]} and actions of "
                f"{episode.actions.shape[1]} numbers; task '{task.name}' expects {task.observation_dim} and "
                f"{task.action_dim}: is this dataset of another task?"
            )
        t = len(episode)
        observations.append(episode.observations)
        actions.append(np.concatenate((episode.actions, episode.actions[-1:])))  # (T+1, A)
        rows = np.minimum(np.arange(t)[:, None] + np.arange(h), t)  # (T, H)
        index.append(rows + offset)
        offset += t + 1
    if not index:
        raise ValueError("the dataset holds no episode; collect some first (`onestride collect --help`)")
    all_observations = torch.from_numpy(np.concatenate(observations)).float()
    all_actions = torch.from_numpy(np.concatenate(actions)).float()
    all_rows = torch.from_numpy(np.concatenate(index))  # (M, H)

    plans = torch.empty(len(all_rows), h, task.transition_dim)
    context = torch.empty(len(all_rows), task.context_dim)
    for rows, plan_out, context_out in zip(
        all_rows.split(CHUNK), plans.split(CHUNK), context.split(CHUNK), strict=True
    ):
        plan, c = task.plan_window(all_observations[rows], all_actions[rows])
        plan_out.copy_(plan)
        context_out.copy_(c)
    return Windows(plans, context, all_observations[all_rows[:, 0]])
