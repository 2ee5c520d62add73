"""Episodes in Minari's local dataset format, at any path.

``<folder>/data/{metadata.json, main_data.hdf5}``; ``minari.load_dataset`` finds the same folder when
``MINARI_DATASETS_PATH`` is its parent. Cameras' images lie beside them, see ``frames.py``.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.data.frames import IMAGES, FrameWriter, open_frames
from onestride.data.hdf5 import open_hdf5
from onestride.files import METADATA, CheckpointError, ensure_free_space, read_json
from onestride.progress import track
from onestride.seals import seal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of optional parts that are not used
    from minari.dataset.minari_storage import MinariStorage

SHOWN = 256  # episodes between two updates of the progress bar
BLOCK = 2**22  # by which the file in memory grows [bytes]
MAIN = Path("data") / "main_data.hdf5"
SEAL = "seal.json"  # digests of Minari's own files
SPARE = 1.2  # free space that is needed, relative to the dataset's size
ARRAYS = ("observations", "actions", "rewards")


def write_dataset(
    folder: Path,
    episodes: Iterable[Episode],
    total: int,
    metadata: dict[str, Any] | Callable[[], dict[str, Any]],
    action: Box,
    size: int = 0,
) -> None:
    """Write a dataset completely or not at all: it is made next to ``folder``, then renamed.

    The HDF5 file is made in memory, because HDF5 ends the process when a disk is full. This takes about twice the
    episodes' memory in addition.

    Args:
        folder: of the dataset.
        episodes: what to write.
        total: number of episodes, for the progress bar.
        metadata: written with the episodes; a function gives them after the last of these.
        action: the space of actions.
        size: approximate size of the numbers, for which free space is checked before the work [bytes].

    Raises:
        FileExistsError: the folder exists. It is not changed.
        OSError: the disk is full, or the folder cannot be written. Nothing is left there.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another --run, or delete it first")
    folder = folder.resolve()  # Minari joins relative paths to themselves
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    ensure_free_space(folder.parent, int(SPARE * size))
    try:
        (unfinished / "data").mkdir(parents=True)
        with FrameWriter(unfinished / IMAGES) as frames:
            image, counts, space = _image(episodes, total, frames)
        ensure_free_space(folder.parent, len(image))
        storage = MinariStorage.new(unfinished / "data", space, action)
        with (unfinished / MAIN).open("wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        storage.update_metadata(
            {
                **counts,
                "dataset_size": storage.get_size(),
                "dataset_id": folder.name,
                "minari_version": version("minari"),
                **(metadata() if callable(metadata) else metadata),
            }
        )
        written = sorted(p.relative_to(unfinished).as_posix() for p in unfinished.rglob("*") if p.is_file())
        seal(unfinished / SEAL, {}, written)
        os.replace(unfinished, folder)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {folder}: {error.strerror}; nothing was written. Free some space, or name another place, "
            "then run the same command again",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _image(episodes: Iterable[Episode], total: int, frames: FrameWriter) -> tuple[bytes, dict[str, int], Box]:
    """Return the bytes of an HDF5 file in Minari's layout, its numbers of episodes and steps, and observation space.

    frames: takes the cameras' images.
    """
    space = None
    steps = done = 0
    with (
        track("writing the dataset", total) as bar,
        h5py.File("image", "w", driver="core", backing_store=False, block_size=BLOCK, track_order=True) as file,
    ):
        for number, episode in enumerate(episodes):
            space = space or Box(-np.inf, np.inf, episode.observations.shape[1:], np.float32)
            _add(file, number, episode)
            frames.add(episode)
            steps += len(episode)
            done = number + 1
            if done % SHOWN == 0:
                bar.update(done)
        if space is None:
            raise ValueError("there is no episode to write: not one was made, or none has two steps")
        bar.update(total)
        file.flush()
        return file.id.get_file_image(), {"total_episodes": done, "total_steps": steps}, space


def _add(file: h5py.File, number: int, episode: Episode) -> None:
    """Add one episode, resizable as in Minari, so that it can be appended to."""
    group = file.create_group(f"episode_{number}")
    group.attrs["id"] = number
    group.attrs["total_steps"] = len(episode)
    ends = np.zeros((2, len(episode)), dtype=bool)
    ends[:, -1] = episode.terminated, episode.truncated
    arrays = {name: getattr(episode, name).astype(np.float32) for name in ARRAYS}
    for name, array in {**arrays, "terminations": ends[0], "truncations": ends[1]}.items():
        group.create_dataset(name, data=array, chunks=True, maxshape=(None, *array.shape[1:]))
    group.create_group("infos")


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return a dataset's metadata, such as the generator's version and seed.

    Raises:
        FileNotFoundError: the folder holds no dataset.
        ValueError: the metadata are damaged.
    """
    path = folder / METADATA
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no Minari dataset (no data/metadata.json); make one with `onestride collect`"
        )
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("total_episodes"), int):
        raise ValueError(f"{path} does not say how many episodes there are; it was altered or is of something else")
    return found


def read_dataset(folder: Path, notes: list[str] | None = None) -> Iterator[Episode]:
    """Yield every episode of a dataset, in order.

    Args:
        folder: of the dataset.
        notes: a list to which it is added what was left out.

    Raises:
        FileNotFoundError: the folder holds no dataset.
        ValueError: an episode's arrays disagree or have numbers that are not finite, it has an end before its last
            step, or the numbers of episodes or steps differ from the metadata. The message names the episode.
    """
    metadata = read_metadata(folder)
    total, steps, empty, first = metadata["total_episodes"], 0, 0, 0
    frames = open_frames(folder, total + metadata["total_steps"]) if (folder / IMAGES).is_dir() else {}
    with track("reading the dataset", total) as bar:
        for number, row in enumerate(_rows(folder, total)):
            _check_arrays(f"{folder}, episode {number}", row)
            if not len(row["actions"]):
                empty += 1
                continue
            _check_ends(f"{folder}, episode {number}", row)
            steps += len(row["actions"])
            terminated = bool(row["terminations"][-1])
            here, first = slice(first, first + len(row["observations"])), first + len(row["observations"])
            try:
                yield Episode(
                    row["observations"],
                    row["actions"],
                    row["rewards"],
                    terminated,
                    bool(row["truncations"][-1]) or not terminated,  # one that just stops was cut off
                    {name: images[here] for name, images in frames.items()},
                )
            except ValueError as error:
                raise ValueError(f"{folder}, episode {number}: {error}") from error
            bar.update(number + 1)
    if empty and notes is not None:
        notes.append(f"{empty} of {total} episodes have no step: left out")
    said = metadata.get("total_steps")
    if isinstance(said, int) and said != steps:
        raise ValueError(f"{folder}: its metadata says {said} steps, its episodes have {steps}; it is not here whole")


def _rows(folder: Path, total: int) -> Iterator[dict[str, Any]]:
    """Yield every episode in Minari's form."""
    number = -1
    with open_hdf5(folder / MAIN) as file:
        there = sum(str(name).startswith("episode_") for name in file)
    if there != total:
        raise ValueError(
            f"{folder}: its metadata says {total} episodes, {MAIN} holds {there}; the dataset was altered, or is not "
            "here whole"
        )
    try:
        storage = MinariStorage.read(folder.resolve() / "data")
        for number, row in enumerate(storage.get_episodes(range(total))):  # noqa: B007
            yield row
    except CheckpointError:
        raise
    # Minari asserts what it reads, and h5py says with any of the others what it cannot make sense of.
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder}, episode {number + 1} of {total}: it cannot be read ({said}); the dataset was altered, or is "
            "not here whole"
        ) from error


def _check_ends(where: str, row: dict[str, Any]) -> None:
    """Raise ValueError unless there is one mark per step, and none before the last step is true."""
    for name in ("terminations", "truncations"):
        marks = np.asarray(row[name])
        if marks.shape != (len(row["actions"]),) or marks.dtype.kind not in "fiub" or not np.isin(marks, (0, 1)).all():
            raise ValueError(f"{where}: {name} are no marks of 0 or 1, one for each of {len(row['actions'])} steps")
        inside = np.flatnonzero(marks[:-1])
        if len(inside):
            raise ValueError(
                f"{where}: {name}[{inside[0]}] ends it before its last step {len(marks) - 1}; cut it there and write "
                "it anew"
            )


def _check_arrays(where: str, row: dict[str, Any]) -> None:
    """Raise ValueError unless every array holds numbers with one row per step."""
    for name, dims in zip(ARRAYS, (2, 2, 1), strict=True):
        found = row[name]
        if isinstance(found, dict):
            raise ValueError(
                f"{where}: {name} are a dictionary of {', '.join(found)}; only flat ones are read: concatenate what "
                "belongs together, and write it anew"
            )
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub" or found.ndim != dims:
            kind = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            expected = "(steps, columns)" if dims == 2 else "(steps,)"
            raise ValueError(f"{where}: {name} are {kind}, expected an array of numbers {expected}")
