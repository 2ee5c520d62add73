"""Episodes from whatever a path holds: what it is, is seen by looking."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onestride.data.archive import array_names, open_archive
from onestride.data.arrays import episodes_from_arrays
from onestride.data.d4rl import NEEDED, OPTIONAL, read_d4rl
from onestride.data.episode import Episode
from onestride.data.lerobot import read_lerobot
from onestride.data.minari import read_dataset
from onestride.files import size_of_file

#: What others call ``timeouts``: without them episodes would run into each other.
OTHER_MARKS = ("truncations", "truncated", "truncation", "next.truncated")
UNDERSTOOD = (
    "a folder with data/metadata.json (Minari), a folder with meta/info.json (LeRobotDataset v3), a file "
    f".hdf5 or .h5 (D4RL), or a file .npz with the arrays {', '.join(NEEDED)} and, if there are any, "
    f"{' and '.join(OPTIONAL)}"
)


def read_episodes(path: Path) -> Iterator[Episode]:
    """Every episode of a dataset in any of the formats, in order, read by that format's own reader.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: none of the formats, a pipe or a device, or what the format's reader refuses.
        ImportError: it takes a package that is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; a dataset is {UNDERSTOOD}")
    if not path.is_dir():
        size_of_file(path)
    if (path / "data" / "metadata.json").is_file():
        return _not_empty(path, read_dataset(path))
    if (path / "meta" / "info.json").is_file():
        return _not_empty(path, read_lerobot(path))
    if path.is_file() and path.suffix in (".hdf5", ".h5"):
        return _not_empty(path, read_d4rl(path, low=None, high=None))  # limits are the task's
    if path.is_file() and path.suffix == ".npz":
        return _not_empty(path, read_npz(path))
    raise ValueError(f"{path} is no dataset that is understood here: {UNDERSTOOD}")


def read_npz(path: Path) -> Iterator[Episode]:
    """Every episode of flat arrays saved by ``np.savez``, named as the arguments of ``episodes_from_arrays``.

    Raises:
        ValueError: not such a file, an array that is missing or pickled, or what ``episodes_from_arrays`` refuses.
    """
    size_of_file(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not whole, or not what np.savez writes; write it again")
    try:
        with open_archive(path) as archive:
            present = array_names(archive)
            missing = [key for key in NEEDED if key not in present]
            arrays: dict[str, Any] = {key: archive.read_array(key) for key in (*NEEDED, *OPTIONAL) if key in present}
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error!s:.400}); write it with np.savez, arrays of numbers only"
        ) from error
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(present) or 'nothing'}, a dataset of "
            f"arrays has {', '.join(NEEDED)}"
        )
    marks = [name for name in OTHER_MARKS if name in present]
    if marks and "timeouts" not in present:
        raise ValueError(f"{path} has {', '.join(marks)}, where cut-off steps are marked as timeouts here; rename it")
    return episodes_from_arrays(**arrays, source=str(path))


def _not_empty(path: Path, episodes: Iterator[Episode]) -> Iterator[Episode]:
    """The episodes, of which there must be one."""
    empty = True
    for episode in episodes:
        empty = False
        yield episode
    if empty:
        raise ValueError(
            f"{path}: not one episode is left. Each has a single step, of which nobody knows what its action led to "
            "(there are no next_observations), or there is none at all; do its end marks (timeouts) belong there?"
        )
