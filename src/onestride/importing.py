"""Somebody's episodes (D4RL, Minari, LeRobot, arrays) into a run's data, held against its task before that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box

from onestride.data.adapters import read_episodes
from onestride.data.episode import Episode
from onestride.data.minari import METADATA, read_metadata, write_dataset
from onestride.files import alone, writable
from onestride.tasks import TASKS
from onestride.tasks.task import Task

TOLERANCE = 1e-5  # of limits: recordings are rounded


@dataclass(frozen=True)
class Imported:
    """How many episodes and steps, how many of the episodes terminated, and what their owner should know."""

    episodes: int
    steps: int
    terminated: int
    notes: tuple[str, ...]


def bring(run: Path, task: Task, path: Path) -> Imported:
    """The episodes of ``path`` into ``run/data``; the same again are left alone.

    Raises:
        FileExistsError: the run has other data already; OSError: its folder cannot be made.
        CheckpointError: another process writes there.
        ValueError: they are of another environment, not of the task's shapes or limits, too short to learn from, or
            without the rewards by which its plans are ranked; and whatever their format's reader refuses.
    """
    there = read_metadata(run / "data") if (run / "data").exists() else None
    mine = {"source": path.name, "task": task.name}
    # Another's, or from before there was a digest to know it by.
    if there is not None and not ("content" in there and mine.items() <= there.items()):
        raise FileExistsError(f"{run / 'data'} is there already; choose another --run, or delete it")
    writable(next(folder for folder in (run, *run.resolve().parents) if folder.exists()))
    recorded = recorded_in(path)
    _check_environment(recorded, task, path)
    episodes = list(_of_task(read_episodes(path), task, path))
    notes = _enough(episodes, task, path)
    terminated, steps = sum(e.terminated for e in episodes), sum(map(len, episodes))
    made = Imported(len(episodes), steps, terminated, notes)
    if there is not None:
        if there.get("content") != content(episodes):
            raise FileExistsError(
                f"{run / 'data'} holds other episodes, also named {path.name}; choose another --run, or delete it"
            )
        return replace(made, notes=(*notes, "they were there already"))
    metadata = mine | {"content": content(episodes)}
    if recorded is not None:
        metadata["environment"] = recorded
    size = 4 * sum(e.observations.size + e.actions.size + e.rewards.size for e in episodes)
    with alone(run / "data"):
        write_dataset(run / "data", episodes, len(episodes), metadata, box(task), size)
    return made


def box(task: Task) -> Box:
    """The task's commands as a space."""
    return Box(task.limits.low.astype(np.float32), task.limits.high.astype(np.float32), dtype=np.float32)


def content(episodes: Sequence[Episode]) -> str:
    """A digest of everything that is learnt from: two datasets of one name need not be one."""
    digest = hashlib.sha256()
    for e in episodes:
        for array in (e.observations, e.actions, e.rewards):
            digest.update(np.ascontiguousarray(array, np.float32).tobytes())
        digest.update(bytes([e.terminated, e.truncated]))
    return digest.hexdigest()[:16]


def recorded_in(path: Path) -> str | None:
    """Gymnasium's id of the environment that a Minari dataset says it is of; None: nobody says."""
    if not (path / METADATA).is_file():
        return None
    said = read_metadata(path).get("env_spec")
    try:
        spec = json.loads(said) if isinstance(said, str) else said
    except json.JSONDecodeError:
        return None
    found = spec.get("id") if isinstance(spec, dict) else None
    return found if isinstance(found, str) else None


def _check_environment(recorded: str | None, task: Task, path: Path) -> None:
    """HalfCheetah and Walker2d have as many numbers, and versions of a body too: shapes cannot tell them apart."""
    if recorded is None or task.benchmark is None or recorded == task.benchmark.environment:
        return
    fitting = recorded.lower()  # as tasks are named
    advice = f"give --task {fitting}" if fitting in TASKS else f"there are tasks {', '.join(TASKS)}"
    raise ValueError(
        f"{path} was recorded in {recorded}, and task '{task.name}' is of {task.benchmark.environment}; {advice}"
    )


def _of_task(episodes: Iterator[Episode], task: Task, path: Path) -> Iterator[Episode]:
    for number, e in enumerate(episodes):
        shapes = (e.observations.shape[1], e.actions.shape[1])
        if shapes != (task.observation_dim, task.action_dim):
            raise ValueError(
                f"{path}, episode {number}: observations of {shapes[0]} and actions of {shapes[1]} numbers; task "
                f"'{task.name}' has {task.observation_dim} and {task.action_dim}"
            )
        outside = np.argwhere((e.actions < task.limits.low - TOLERANCE) | (e.actions > task.limits.high + TOLERANCE))
        if len(outside):
            i, j = outside[0].tolist()
            raise ValueError(
                f"{path}, episode {number}: actions[{i}, {j}] is {e.actions[i, j]:g}, the task's limits are "
                f"{task.limits.low[j]:g} ... {task.limits.high[j]:g}; scale the actions first"
            )
        yield e


def _enough(episodes: Sequence[Episode], task: Task, path: Path) -> tuple[str, ...]:
    """What is missing that is missed later: refused where nothing could be learnt, else said."""
    if task.score is None and not any(e.rewards.any() for e in episodes):
        raise ValueError(
            f"{path} has no rewards (all are 0), and plans of task '{task.name}' are ranked by what they earn; a "
            "LeRobotDataset has them as next.reward"
        )
    if task.padding == "hold":
        return ()
    lengths = [len(e) for e in episodes]
    short = sum(length < task.horizon for length in lengths)
    if short == len(lengths):
        raise ValueError(
            f"{path}: the longest of {len(lengths)} episodes has {max(lengths, default=0)} steps, and a plan of task "
            f"'{task.name}' has {task.horizon}; nothing can be learnt from shorter ones"
        )
    if not short:
        return ()
    few = f"{short} of {len(lengths)} episodes are shorter than a plan ({task.horizon} steps)"
    return (f"{few}: the critic alone learns from them",)
