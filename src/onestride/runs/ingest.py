"""Import of a dataset (D4RL, robomimic, Minari, LeRobot, arrays) into a run, checked against the run's task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from onestride.data.adapters import Keys, read_episodes
from onestride.data.episode import Episode
from onestride.data.minari import read_metadata, write_dataset
from onestride.data.recording import Recording, differing_settings, read_recording
from onestride.data.resizing import check_resizing
from onestride.files import ensure_writable, exclusive
from onestride.robot.fields import columns_of
from onestride.runs.made_with import note_of
from onestride.tasks import TASKS
from onestride.tasks.lockstep import make_environment
from onestride.tasks.task import Task
from onestride.training.windows import check_images

TOLERANCE = 1e-5  # actions may exceed the limits by this, because recordings are rounded
LISTED = 5  # columns that leave the environment's space are listed up to so many
OTHER_RATE = 0.01  # largest relative error of the control period


@dataclass(frozen=True)
class ImportReport:
    """What was imported.

    Attributes:
        episodes: their number.
        steps: their number.
        terminated: number of episodes that terminated.
        notes: for the user, such as what was left out.
    """

    episodes: int
    steps: int
    terminated: int
    notes: tuple[str, ...]


def import_dataset(
    run: Path, task: Task, path: Path, mend: bool = False, filter_key: str = "", resize: str | None = None,
    preset: str = "",
) -> ImportReport:  # fmt: skip
    """Import the episodes of ``path`` into ``run/data``. The same dataset is not imported again.

    Args:
        run: folder of the run.
        task: of the run.
        path: of the dataset.
        mend: see ``read_episodes``.
        filter_key: of a robomimic file's demonstrations; "": all. What is read of them are the task's fields by their
            names; of a task without, what robomimic's own policies observe.
        resize: how the images of a LeRobotDataset's cameras become the task's, where their size differs; None: they
            are refused. They are decoded episode by episode while they are written.
        preset: that the run remembers.

    Raises:
        FileExistsError: the run has other data already.
        OSError: the folder cannot be written.
        CheckpointError: another process writes there.
        ValueError: the dataset is of another environment, does not have the task's shapes or limits, is too short to
            learn from, has no rewards where plans are ranked by them, or its format's reader refuses it.
    """
    there = read_metadata(run / "data") if (run / "data").exists() else None
    mine = {"source": path.name, "task": task.name} | ({"filter_key": filter_key} if filter_key else {})
    mine |= {"resize": resize} if resize else {}
    # Another's, or from before there was a digest to know it by.
    if there is not None and not ("content" in there and mine.items() <= there.items()):
        raise FileExistsError(f"{run / 'data'} is there already; choose another --run, or delete it")
    ensure_writable(next(folder for folder in (run, *run.resolve().parents) if folder.exists()))
    recording, said = read_recording(path), list[str]()
    _check_recording(recording, task, path)
    read = read_episodes(path, said, mend, keys_of(task, filter_key, resize))
    episodes = _ends(list(_of_task(read, task, path)), task, said)
    _check_lengths(episodes, task, path)
    notes = (*said, *check_trainable(episodes, task, path), *_outside(episodes, task))
    terminated, steps = sum(e.terminated for e in episodes), sum(map(len, episodes))
    made = ImportReport(len(episodes), steps, terminated, notes)
    if there is not None:
        if there.get("content") != content_hash(episodes):
            raise FileExistsError(
                f"{run / 'data'} holds other episodes, also named {path.name}; choose another --run, or delete it"
            )
        return replace(made, notes=(*notes, "they were there already"))
    said_of = note_of(preset) | ({} if recording.environment is None else {"environment": recording.environment})
    digest = ContentHash()
    size = 4 * sum(e.observations.size + e.actions.size + e.rewards.size for e in episodes)
    size += sum(images.nbytes for e in episodes for images in e.images.values())
    with exclusive(run / "data"):
        write_dataset(
            run / "data", map(digest.add, episodes), len(episodes),
            lambda: mine | {"content": digest.hexdigest()} | said_of, action_space(task), size,
        )  # fmt: skip
    return made


def keys_of(task: Task, filter_key: str = "", resize: str | None = None) -> Keys:
    """Return what is read of a file that names what it observed: the task's fields. See ``import_dataset``."""
    how = check_resizing(resize)
    if not task.control.fields:
        return Keys(filter_key=filter_key, resize=how)
    numbers = tuple(field.name for field in task.control.fields if not field.camera)
    cameras = {camera.name: (camera.shape[0], camera.shape[1]) for camera in task.control.cameras}
    return Keys(numbers, cameras, filter_key, how)


def action_space(task: Task) -> Box:
    """Return the space of the task's commands."""
    limits = task.control.limits
    return Box(limits.low.astype(np.float32), limits.high.astype(np.float32), dtype=np.float32)


class ContentHash:
    """A digest of everything that is learnt from, to tell apart datasets of the same name."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, episode: Episode) -> Episode:
        """Take in an episode, and return it with its images decoded."""
        images = {name: np.ascontiguousarray(images) for name, images in episode.images.items()}
        for array in (episode.observations, episode.actions, episode.rewards):
            self._digest.update(np.ascontiguousarray(array, np.float32).tobytes())
        for name in sorted(images):
            self._digest.update(name.encode() + images[name].data)
        self._digest.update(bytes([episode.terminated, episode.truncated]))
        return replace(episode, images=images)

    def hexdigest(self) -> str:
        """Return the digest of the episodes so far."""
        return self._digest.hexdigest()[:16]


def content_hash(episodes: Sequence[Episode]) -> str:
    """Return the digest of all episodes."""
    digest = ContentHash()
    for episode in episodes:
        digest.add(episode)
    return digest.hexdigest()


def _check_recording(recording: Recording, task: Task, path: Path) -> None:
    """Raise ValueError where a recording is of another environment or rate than the task.

    Shapes do not show that: HalfCheetah and Walker2d have the same, and so have versions, settings and wrappers of one
    body.
    """
    if recording.rate is not None and abs(recording.rate * task.control.control_dt - 1) > OTHER_RATE:
        raise ValueError(
            f"{path} was recorded at {recording.rate:g} Hz, and task '{task.name}' is controlled at "
            f"{1 / task.control.control_dt:g} Hz: what follows in one step there does not here; resample it, or "
            "record it at that rate"
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
    """Raise ValueError where an episode is longer than its environment permits: episodes run into each other."""
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
    """Return the episodes, none of them terminated where the task has no terminations."""
    terminated = sum(e.terminated for e in episodes)
    if task.terminates or not terminated:
        return list(episodes)
    notes.append(f"{terminated} episodes are marked as terminated, and this body never is: taken as cut off")
    return [replace(e, terminated=False, truncated=True) if e.terminated else e for e in episodes]


def _of_task(episodes: Iterator[Episode], task: Task, path: Path) -> Iterator[Episode]:
    control, low, high = task.control, task.control.limits.low, task.control.limits.high
    for number, e in enumerate(episodes):
        shapes = (e.observations.shape[1], e.actions.shape[1])
        if shapes != (control.numbers_dim, control.action_dim):
            raise ValueError(
                f"{path}, episode {number}: observations of {shapes[0]} and actions of {shapes[1]} numbers; task "
                f"'{task.name}' has {control.numbers_dim} and {control.action_dim}"
            )
        check_images(f"{path}, episode {number}", e, task)
        outside = np.argwhere((e.actions < low - TOLERANCE) | (e.actions > high + TOLERANCE))
        if len(outside):
            i, j = outside[0].tolist()
            raise ValueError(
                f"{path}, episode {number}: actions[{i}, {j}] is {e.actions[i, j]:g}, the task's limits are "
                f"{low[j]:g} ... {high[j]:g}; scale the actions first"
            )
        yield e


def _outside(episodes: Sequence[Episode], task: Task) -> tuple[str, ...]:
    """Return notes on observations that the task's environment says it never gives; actions were checked before."""
    if task.benchmark is None or not episodes:
        return ()
    try:
        environment = make_environment(task.benchmark.environment)
    except ModuleNotFoundError:  # its simulator is not installed, so that nobody can say
        return ()
    space, names = environment.observation_space, [column.name for column in columns_of(task.control)]
    environment.close()
    if not isinstance(space, Box) or space.shape != (len(names),):
        return ()
    lowest = np.min([e.observations.min(0) for e in episodes], axis=0)
    highest = np.max([e.observations.max(0) for e in episodes], axis=0)
    room = TOLERANCE * np.maximum(1.0, np.abs(space.low)), TOLERANCE * np.maximum(1.0, np.abs(space.high))
    columns = np.flatnonzero((lowest < space.low - room[0]) | (highest > space.high + room[1])).tolist()
    notes = [
        f"{names[i]} goes from {lowest[i]:.4g} to {highest[i]:.4g}, and {task.benchmark.environment} gives "
        f"{space.low[i]:.4g} to {space.high[i]:.4g}: is it in another unit, or not from there?"
        for i in columns[:LISTED]
    ]
    return (*notes, *([f"so do {len(columns) - LISTED} more columns"] if len(columns) > LISTED else []))


def check_trainable(episodes: Sequence[Episode], task: Task, path: Path) -> tuple[str, ...]:
    """Return notes on episodes that are too short for a plan, or have no rewards.

    Raises:
        ValueError: all episodes are too short, or there are no rewards and the task's plans are ranked by them.
    """
    notes: tuple[str, ...] = ()
    if task.score is None and not any(e.rewards.any() for e in episodes):
        if task.control.state_dim:
            raise ValueError(
                f"{path} has no rewards (all are 0), and plans of task '{task.name}' are ranked by what they earn; a "
                "LeRobotDataset has them as next.reward"
            )
        notes = ("it has no rewards (all are 0): critics and return models learn nothing of it, the medoid needs none",)
    if task.padding == "hold":
        return notes
    lengths = [len(e) for e in episodes]
    short = sum(length < task.control.horizon for length in lengths)
    if short == len(lengths):
        raise ValueError(
            f"{path}: the longest of {len(lengths)} episodes has {max(lengths, default=0)} steps, and a plan of task "
            f"'{task.name}' has {task.control.horizon}; nothing can be learnt from shorter ones"
        )
    if not short:
        return notes
    few = f"{short} of {len(lengths)} episodes are shorter than a plan ({task.control.horizon} steps)"
    return (*notes, f"{few}: the critic alone learns from them")
