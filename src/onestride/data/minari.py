"""Episodes in Minari's local dataset format, at any path.

``<folder>/data/{metadata.json, main_data.hdf5}``; ``minari.load_dataset`` finds the same folder when
``MINARI_DATASETS_PATH`` is its parent.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from gymnasium.spaces import Box
from msgspec import UNSET, Meta, Struct, UnsetType

from onestride.data.episode import Episode
from onestride.files import CheckpointError, as_record, read_json, room_for, size_of_file
from onestride.manifest import FileEntry, check_digest, check_file, write_manifest
from onestride.progress import track

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of optional parts nobody asked for
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

WRITE_AT_ONCE = 256  # episodes
METADATA = Path("data") / "metadata.json"
NUMBERS = "main_data.hdf5"
ADVICE = "collect or import it again"
SPARE = 1.2  # of a dataset's size: what must be free
ARRAYS = ("observations", "actions", "rewards")


class Metadata(Struct, kw_only=True):
    """What is needed of a dataset's metadata, whoever wrote it; what was written here is a manifest too."""

    total_episodes: Annotated[int, Meta(ge=0)]
    files: dict[str, FileEntry] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


def write_dataset(
    folder: Path, episodes: Iterable[Episode], total: int, metadata: dict[str, Any], action: Box, size: int = 0
) -> None:
    """Write a dataset that is whole or not there: it is made beside ``folder``, then renamed.

    size: of it on disk, about [bytes]; HDF5 does not survive a disk that is full.

    Raises:
        FileExistsError: a dataset is there already; it is not touched.
        OSError: there is no room for it.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another --run, or delete it first")
    folder = folder.resolve()  # Minari joins relative paths to themselves
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    room_for(folder.parent, int(SPARE * size))
    (unfinished / "data").mkdir(parents=True)
    try:
        _write(unfinished, folder.name, episodes, total, metadata, action)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, RuntimeError):  # how h5py reports it
            raise OSError(f"could not write {folder}: {error}; nothing was written. Is the disk full?") from error
        raise
    os.replace(unfinished, folder)


def _write(
    unfinished: Path, name: str, episodes: Iterable[Episode], total: int, metadata: dict[str, Any], action: Box
) -> None:
    storage: Any = None
    buffers: list[EpisodeBuffer] = []
    steps = done = 0
    with track("writing the dataset", total) as bar:
        for number, episode in enumerate(episodes):
            if storage is None:
                space = Box(-np.inf, np.inf, episode.observations.shape[1:], np.float32)
                storage = MinariStorage.new(unfinished / "data", space, action)
            buffers.append(_buffer(number, episode))
            steps += len(episode)
            if len(buffers) == WRITE_AT_ONCE:
                storage.update_episodes(buffers)
                done += len(buffers)
                buffers = []
                bar.update(done)
        if storage is None:
            raise ValueError("there is no episode to write: not one was made, or none has two steps")
        storage.update_episodes(buffers)
        bar.update(total)
    storage.update_metadata({"dataset_id": name, "minari_version": version("minari"), **metadata})
    write_manifest(unfinished / METADATA, read_json(unfinished / METADATA), [NUMBERS])  # Minari reads past the digests


def read_metadata(folder: Path) -> dict[str, Any]:
    """The dataset's metadata, the generator's version and seed among them."""
    path = folder / METADATA
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no Minari dataset (no data/metadata.json); make one with `onestride collect`"
        )
    found = read_json(path)
    said = as_record(found, Metadata, path)
    if said.files is not UNSET or said.sha256 is not UNSET:  # otherwise another's, who says nothing
        check_digest(found, path, ADVICE)
    return found


def check_dataset(folder: Path) -> None:
    """Hold a dataset that was written here against its digests, its numbers too.

    Raises:
        CheckpointError: it is not what was written, or has no digests.
    """
    found = read_metadata(folder)
    entry = as_record(found, Metadata, folder / METADATA).files
    if not isinstance(entry, dict) or NUMBERS not in entry:
        raise CheckpointError(f"{folder / METADATA} has no digest of {NUMBERS}, as of an old version; {ADVICE}")
    check_file(folder / "data" / NUMBERS, entry[NUMBERS], ADVICE)


def read_dataset(folder: Path, *, written_here: bool = False) -> Iterator[Episode]:
    """Every episode, in order.

    written_here: it must have a digest, as what a run learns from has.

    Raises:
        FileNotFoundError: no dataset there.
        ValueError: an episode whose arrays disagree or hold non-finite numbers, named by its number.
    """
    metadata = read_metadata(folder)
    total = metadata["total_episodes"]
    size_of_file(folder / "data" / NUMBERS)  # a pipe would be waited for
    if written_here or "sha256" in metadata:
        check_dataset(folder)
    with track("reading the dataset", total) as bar:
        for number, row in enumerate(_rows(folder, total)):
            _check_arrays(f"{folder}, episode {number}", row)
            terminated = bool(row["terminations"][-1])
            try:
                yield Episode(
                    row["observations"],
                    row["actions"],
                    row["rewards"],
                    terminated,
                    bool(row["truncations"][-1]) or not terminated,  # one that just stops was cut off
                )
            except ValueError as error:
                raise ValueError(f"{folder}, episode {number}: {error}") from error
            bar.update(number + 1)


def _rows(folder: Path, total: int) -> Iterator[dict[str, Any]]:
    """Every episode as Minari gives it."""
    number = -1
    try:
        storage = MinariStorage.read(folder.resolve() / "data")
        for number, row in enumerate(storage.get_episodes(range(total))):  # noqa: B007
            yield row
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:  # Minari asserts what it reads
        raise ValueError(
            f"{folder}, episode {number + 1} of {total}: it cannot be read ({error}); the dataset was altered, or is "
            "not here whole"
        ) from error


def _check_arrays(where: str, row: dict[str, Any]) -> None:
    """Numbers in a row per step; spaces of other kinds are not for planners here."""
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


def _buffer(number: int, episode: Episode) -> EpisodeBuffer:
    steps = len(episode)
    ends = np.zeros((2, steps), dtype=bool)
    ends[:, -1] = episode.terminated, episode.truncated
    return EpisodeBuffer(
        id=number,
        observations=episode.observations.astype(np.float32),  # type: ignore[arg-type]
        actions=episode.actions.astype(np.float32),  # type: ignore[arg-type]
        rewards=episode.rewards.astype(np.float32),  # type: ignore[arg-type]
        terminations=ends[0],  # type: ignore[arg-type]
        truncations=ends[1],  # type: ignore[arg-type]
        infos={},
    )
