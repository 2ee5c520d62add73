"""Episodes from whatever a path holds: what it is, is seen by looking."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onestride.data.arrays import episodes_from_arrays
from onestride.data.d4rl import NEEDED, OPTIONAL, read_d4rl
from onestride.data.episode import Episode
from onestride.data.lerobot import read_lerobot
from onestride.data.minari import read_dataset

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
        ValueError: none of the formats, or what the format's reader refuses.
        ImportError: it takes a package that is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; a dataset is {UNDERSTOOD}")
    if (path / "data" / "metadata.json").is_file():
        return read_dataset(path)
    if (path / "meta" / "info.json").is_file():
        return read_lerobot(path)
    if path.is_file() and path.suffix in (".hdf5", ".h5"):
        return read_d4rl(path, low=None, high=None)  # limits are the task's
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path)
    raise ValueError(f"{path} is no dataset that is understood here: {UNDERSTOOD}")


def read_npz(path: Path) -> Iterator[Episode]:
    """Every episode of flat arrays saved by ``np.savez``, named as the arguments of ``episodes_from_arrays``.

    Raises:
        ValueError: not such a file, an array that is missing or pickled, or what ``episodes_from_arrays`` refuses.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not whole, or not what np.savez writes; write it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in NEEDED if key not in file]
            arrays = {key: file[key] for key in (*NEEDED, *OPTIONAL) if key in file}
            present = sorted(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); write it with np.savez, arrays of numbers only") from error
    if missing:
        raise ValueError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(present) or 'nothing'}, a dataset of "
            f"arrays has {', '.join(NEEDED)}"
        )
    marks = [name for name in OTHER_MARKS if name in present]
    if marks and "timeouts" not in present:
        raise ValueError(f"{path} has {', '.join(marks)}, where cut-off steps are marked as timeouts here; rename it")
    return episodes_from_arrays(**arrays, source=str(path))
