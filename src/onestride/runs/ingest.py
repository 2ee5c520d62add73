"""Somebody's episodes (D4RL, Minari, LeRobot, arrays) into a run's data, held against its task before that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.data.adapters import read_episodes
from onestride.data.episode import Episode
from onestride.data.minari import read_metadata, write_dataset
from onestride.data.recording import Recording, read_recording, differing_settings
from onestride.files import exclusive, ensure_writable
from onestride.tasks import TASKS
from onestride.tasks.task import Task

TOLERANCE = 1e-5  # of limits: recordings are rounded
OTHER_RATE = 0.01  # a period that is off by more is another one


@dataclass(frozen=True)
class ImportReport:
    """How many episodes and steps, how many of the episodes terminated, and what their owner should know."""

    episodes: int
    steps: int
    terminated: int
    notes: tuple[str, ...]


def import_dataset(run: Path, task: Task, path: Path, mend: bool = False) -> ImportReport:
    """The episodes of ``path`` into ``run/data``; the same again are left alone. mend: see ``read_episodes``.

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
    ensure_writable(next(folder for folder in (run, *run.resolve().parents) if folder.exists()))
    recording, said = read_recording(path), list[str]()
    _check_recording(recording, task, path)
    episodes = _ends(list(_of_task(read_episodes(path, said, mend), task, path)), task, said)
    _check_lengths(episodes, task, path)
    notes = (*said, *check_trainable(episodes, task, path))
    terminated, steps = sum(e.terminated for e in episodes), sum(map(len, episodes))
    made = ImportReport(len(episodes), steps, terminated, notes)
    if there is not None:
        if there.get("content") != content_hash(episodes):
            raise FileExistsError(
                f"{run / 'data'} holds other episodes, also named {path.name}; choose another --run, or delete it"
            )
        return replace(made, notes=(*notes, "they were there already"))
    metadata = mine | {"content": content_hash(episodes)}
    if recording.environment is not None:
        metadata["environment"] = recording.environment
    size = 4 * sum(e.observations.size + e.actions.size + e.rewards.size for e in episodes)
    with exclusive(run / "data"):
        write_dataset(run / "data", episodes, len(episodes), metadata, action_space(task), size)
    return made


def action_space(task: Task) -> Box:
    """The task's commands as a space."""
    return Box(task.limits.low.astype(np.float32), task.limits.high.astype(np.float32), dtype=np.float32)


def content_hash(episodes: Sequence[Episode]) -> str:
    """A digest of everything that is learnt from: two datasets of one name need not be one."""
    digest = hashlib.sha256()
    for e in episodes:
        for array in (e.observations, e.actions, e.rewards):
            digest.update(np.ascontiguousarray(array, np.float32).tobytes())
        digest.update(bytes([e.terminated, e.truncated]))
    return digest.hexdigest()[:16]


def _check_recording(recording: Recording, task: Task, path: Path) -> None:
    """HalfCheetah and Walker2d have as many numbers, and versions, settings and wrappers of a body too: shapes cannot
    tell them apart, nor can they tell at which rate positions follow one another."""
    if recording.rate is not None and abs(recording.rate * task.control_dt - 1) > OTHER_RATE:
        raise ValueError(
            f"{path} was recorded at {recording.rate:g} Hz, and task '{task.name}' is controlled at "
            f"{1 / task.control_dt:g} Hz: what follows in one step there does not here; resample it, or record it at "
            "that rate"
        )
    if recording.environment is None or task.benchmark is None:
        return
    environment = task.benchmark.environment
    if recording.environment != environment:
        names = (recording.environment.lower(), f"gym:{recording.environment}")
        fitting = next((name for name in names if name in TASKS), None)
        advice = f"give --task {fitting}" if fitting else f"there are tasks {', '.join(TASKS)}"
        raise ValueError(
            f"{path} was recorded in {recording.environment}, and task '{task.name}' is of {environment}; {advice}"
        )
    if differs := differing_settings(recording, environment):
        raise ValueError(
            f"{path} was recorded in another {environment} than task '{task.name}' is of: {'; '.join(differs)}"
        )


def _check_lengths(episodes: Sequence[Episode], task: Task, path: Path) -> None:
    """An environment that cuts its episodes off has none that is longer: others have run into each other."""
    if task.benchmark is None:
        return
    limit = gymnasium.spec(task.benchmark.environment).max_episode_steps
    longest = max(map(len, episodes), default=0)
    if limit is not None and longest > limit:
        raise ValueError(
            f"{path} has an episode of {longest} steps, and {task.benchmark.environment} ends one after {limit}: where "
            "it ends is not marked (timeouts), so that episodes run into each other; mark it"
        )


def _ends(episodes: Sequence[Episode], task: Task, notes: list[str]) -> list[Episode]:
    """The episodes, none of them terminated where the task's body never is."""
    terminated = sum(e.terminated for e in episodes)
    if task.terminates or not terminated:
        return list(episodes)
    notes.append(f"{terminated} episodes are marked as terminated, and this body never is: taken as cut off")
    return [replace(e, terminated=False, truncated=True) if e.terminated else e for e in episodes]


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


def check_trainable(episodes: Sequence[Episode], task: Task, path: Path) -> tuple[str, ...]:
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
