"""Episodes in D4RL's HDF5 files: flat arrays, one row per step.

v0 has no ``timeouts``, v1 has them, v2 has ``next_observations`` too; what a layout lacks is made up for as
``episodes_from_arrays`` says. ``infos/*`` and ``metadata/*`` are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike

from onestride.data.arrays import episodes_from_arrays
from onestride.data.episode import Episode
from onestride.data.hdf5 import open_hdf5, read_array

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")


def read_d4rl(
    path: Path, *, low: ArrayLike | None = -1.0, high: ArrayLike | None = 1.0, max_steps: int = 1000
) -> Iterator[Episode]:
    """Every episode, in order; the file is read and checked when this is called.

    Args:
        low: lower bound of the actions, one number or (A,); ``None`` is no bound. ``high`` likewise.
        max_steps: where a file without ``timeouts`` is cut [steps].

    Raises:
        FileNotFoundError: no such file.
        ValueError: not HDF5, another layout, open elsewhere for writing, arrays that are not whole in the file, or
            that ``episodes_from_arrays`` refuses.
    """
    if path.is_dir() or not path.exists():
        raise FileNotFoundError(f"{path} is not a file; a D4RL dataset is one .hdf5 file")
    with open_hdf5(path) as file:
        arrays = _read(path, file)
    return episodes_from_arrays(**arrays, max_steps=max_steps, low=low, high=high, source=str(path))


def _read(path: Path, file: h5py.File) -> dict[str, np.ndarray]:
    keys = {str(key) for key in file}  # bytes where a name is no text
    missing = [key for key in NEEDED if key not in keys]
    if missing:
        minari = "; for a Minari dataset give the folder that holds data/" if "episode_0" in keys else ""
        raise ValueError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(sorted(keys)[:12]) or 'nothing'}. "
            f"A D4RL file has {', '.join(NEEDED)}{minari}"
        )
    return {key: read_array(path, file, key) for key in (*NEEDED, *OPTIONAL) if key in keys}
