"""Episodes in D4RL's HDF5 files: flat arrays, one row per step.

v0 has no ``timeouts``, v1 has them, v2 has ``next_observations`` too. ``episodes_from_arrays`` says how missing arrays
are replaced. ``infos/*`` and ``metadata/*`` are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from onestride.data.arrays import episodes_from_arrays
from onestride.data.boundaries import CUT_OFF, ENDED
from onestride.data.episode import Episode
from onestride.data.hdf5 import open_hdf5, read_array

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
MARKS = (*CUT_OFF, *ENDED)


def read_d4rl(
    path: Path, *, low: ArrayLike | None = -1.0, high: ArrayLike | None = 1.0, max_steps: int = 1000,
    notes: list[str] | None = None, mend: bool = False,
) -> Iterator[Episode]:  # fmt: skip
    """Return every episode of a D4RL file, in order. The file is read and checked when this is called.

    Args:
        path: the file.
        low: lower bound of the actions, one number or (A,); None: no bound.
        high: upper bound of the actions, likewise.
        max_steps: longest episode of a file without ``timeouts`` [steps].
        notes: see ``episodes_from_arrays``.
        mend: see ``episodes_from_arrays``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no HDF5, another layout, a file that is open for writing elsewhere, arrays that are incomplete in
            the file, or arrays that ``episodes_from_arrays`` refuses.
    """
    if path.is_dir() or not path.exists():
        raise FileNotFoundError(f"{path} is not a file; a D4RL dataset is one .hdf5 file")
    with open_hdf5(path) as file:
        arrays: dict[str, Any] = _read(path, file)
    return episodes_from_arrays(
        **arrays, max_steps=max_steps, low=low, high=high, source=str(path), notes=notes, mend=mend
    )


def _read(path: Path, file: h5py.File) -> dict[str, np.ndarray]:
    keys = {str(key) for key in file}  # bytes where a name is no text
    missing = [key for key in NEEDED if key not in keys]
    if missing:
        minari = "; for a Minari dataset give the folder that holds data/" if "episode_0" in keys else ""
        raise ValueError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(sorted(keys)[:12]) or 'nothing'}. "
            f"A D4RL file has {', '.join(NEEDED)}{minari}"
        )
    return {key: read_array(path, file, key) for key in (*NEEDED, *OPTIONAL, *MARKS) if key in keys}
