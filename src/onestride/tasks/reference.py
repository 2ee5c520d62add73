"""What a task's own demonstrator earns from the starts that planners are evaluated on: the reference row of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from onestride.data.actors import Behaviour
from onestride.data.episode import Episode
from onestride.tasks import TASKS
from onestride.tasks.task import Task


def episode_record(task: Task, episode: Episode) -> dict[str, Any]:
    """Return what is recorded of an episode in a benchmark's environment: its return, steps, and the task's metrics."""
    assert task.benchmark is not None
    total = float(episode.rewards.astype(np.float64).sum())
    measured = task.measure_episode(episode) if task.measure_episode is not None else {}
    solved = measured.get("success") or task.control.goal_reached(episode.observations[-1])
    return {
        "return_raw": total,
        "return_normalised": task.benchmark.normalised(total),
        "steps": len(episode),
        "fell": bool(episode.terminated and not solved),
        **measured,
    }


def reference(name: str, seeds: Iterable[int], actors: Sequence[Behaviour] = ()) -> list[dict[str, Any]]:
    """Return what the demonstrator of a task earns, a record for each seed as evaluations of planners have them.

    Args:
        name: of the task.
        seeds: of the environment's resets; evaluations use ``FIRST_SEED``, ``FIRST_SEED`` + 1, ... of ``rollouts.py``.
        actors: the actor of a demonstrator that needs one.

    Raises:
        ValueError: the task has no demonstrator that acts in a benchmark's environment, or it needs another actor.
    """
    task = TASKS[name]()
    own = task.demonstrations_by(actors)
    if own.reference is None:
        raise ValueError(f"the demonstrator of task '{name}' does not act in an environment from a seed's start")
    return [episode_record(task, episode) for episode in own.reference(seeds)]
