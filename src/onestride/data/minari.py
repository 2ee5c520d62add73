"""Episodes in Minari's local dataset format, at any path.

``<folder>/data/{metadata.json, main_data.hdf5}``; ``minari.load_dataset`` finds the same folder when
``MINARI_DATASETS_PATH`` is its parent.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from onestride.data.episode import Episode
from onestride.progress import track

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of optional parts nobody asked for
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

WRITE_AT_ONCE = 256  # episodes


def write_dataset(folder: Path, episodes: Iterable[Episode], total: int, metadata: dict[str, Any], action: Box) -> None:
    """Write a dataset that is whole or not there: it is made beside ``folder``, then renamed.

    Raises:
        FileExistsError: a dataset is there already; it is not touched.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another --run, or delete it first")
    folder = folder.resolve()  # Minari joins relative paths to themselves
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "data").mkdir(parents=True)
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
    storage.update_metadata({"dataset_id": folder.name, "minari_version": version("minari"), **metadata})
    os.replace(unfinished, folder)


def read_metadata(folder: Path) -> dict[str, Any]:
    """The dataset's metadata, the generator's version and seed among them."""
    path = folder / "data" / "metadata.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no Minari dataset (no data/metadata.json); make one with `onestride collect`"
        )
    return json.loads(path.read_text())


def read_dataset(folder: Path) -> Iterator[Episode]:
    """Every episode, in order.

    Raises:
        FileNotFoundError: no dataset there.
        ValueError: an episode whose arrays disagree or hold non-finite numbers, named by its number.
    """
    total = int(read_metadata(folder)["total_episodes"])
    storage = MinariStorage.read(folder.resolve() / "data")
    with track("reading the dataset", total) as bar:
        for number, row in enumerate(storage.get_episodes(range(total))):
            if isinstance(row["observations"], dict):
                raise ValueError(
                    f"{folder}, episode {number}: observations are a dictionary of {', '.join(row['observations'])}; "
                    "only flat observations are read: concatenate what the planner shall see, and write it anew"
                )
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
