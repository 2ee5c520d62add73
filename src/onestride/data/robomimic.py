"""Episodes in robomimic's HDF5 files (Mandlekar et al. 2021): numbers and images, all or those of a filter key.

``data/demo_<i>`` is one demonstration: ``actions`` (T, A), ``rewards`` and ``dones`` (T,), ``obs/<key>`` (T, ...) and,
where they were stored, ``next_obs/<key>``. ``mask/<filter key>`` names the demonstrations of a part, such as "train"
or, in the sets of several people (mh), "better". The attribute ``env_args`` of ``data`` describes the environment.
robomimic itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from onestride.data.episode import Episode
from onestride.data.hdf5 import open_hdf5, read_array, read_names

#: What robomimic's policies observe of a robot's state and of the objects, in its order.
LOW_DIM = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
SHOWN = 12  # names in a message


def is_robomimic(path: Path) -> bool:
    """Return whether a file is an HDF5 file in robomimic's layout, by the names in it."""
    if not path.is_file() or path.suffix not in (".hdf5", ".h5") or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return any(name.startswith("demo_") for name in _members(file, "data"))


def control_rate(path: Path) -> float | None:
    """Return the rate of control that ``env_args`` says [Hz], or None where it says none."""
    with open_hdf5(path) as file:
        said = file["data"].attrs.get("env_args")
    try:
        rate = json.loads(said)["env_kwargs"]["control_freq"] if isinstance(said, str | bytes) else None
    except (ValueError, KeyError, TypeError):
        return None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def read_robomimic(
    path: Path,
    *,
    observation: Sequence[str] = LOW_DIM,
    cameras: Sequence[str] = (),
    filter_key: str = "",
    notes: list[str] | None = None,
) -> Iterator[Episode]:
    """Yield every demonstration of a file, or those of a filter key, in their order.

    A demonstration is terminated where its last step is done. Earlier marks are ignored, because the recording went on.
    Without ``next_obs`` the last observation is unknown: a terminated demonstration repeats its last one, another one
    loses its last action.

    Args:
        path: the file.
        observation: keys of numbers, which are concatenated.
        cameras: keys of images, uint8 (T, height, width, 3).
        filter_key: of the demonstrations; "": all.
        notes: a list to which it is added what was left out.

    Raises:
        ValueError: another layout, a key or a demonstration that is not there, arrays that disagree in length, or that
            are not whole. The message names the file and the demonstration.
    """
    with open_hdf5(path) as file:
        names, cut = _demonstrations(path, file, filter_key), 0
        for name in names:
            where = f"{path}, {name}"
            _check_keys(where, file, f"data/{name}/obs", [*observation, *cameras])
            arrays = _arrays(path, file, name, observation, cameras)
            episode = _episode(where, *arrays)
            if episode is None:
                cut += 1
                continue
            yield episode
    if cut and notes is not None:
        notes.append(f"{cut} of {len(names)} demonstrations have a single step, of which nobody knows what it led to")


def _demonstrations(path: Path, file: h5py.File, filter_key: str) -> list[str]:
    """Names of the demonstrations that are asked for, by their numbers."""
    there = {name for name in _members(file, "data") if name.startswith("demo_")}
    if not there:
        raise ValueError(f"{path} has no data/demo_0 and so on, which are robomimic's demonstrations")
    names = sorted(there)
    if filter_key:
        masks = _members(file, "mask")
        if filter_key not in masks:
            raise ValueError(f"{path} has no filter key '{filter_key}'; it has {', '.join(masks) or 'none'}")
        names = read_names(path, file, f"mask/{filter_key}")
        missing = [name for name in names if name not in there]
        if missing or len(set(names)) < len(names) or not names:
            wrong = f"{missing[0]}, which is not there" if missing else "a demonstration twice, or none"
            raise ValueError(f"{path}: filter key '{filter_key}' names {wrong}")
    wrong = [name for name in names if not name.removeprefix("demo_").isdecimal()]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]:.80} has no number; robomimic's demonstrations are demo_0 and so on")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _members(file: h5py.File, group: str) -> list[str]:
    """Names in a group of the file itself, sorted; none where there is no such group. No link is followed."""
    found: Any = file
    for part in group.split("/"):
        there = isinstance(found, h5py.Group) and part in set(found.keys())
        found = found[part] if there and isinstance(found.get(part, getlink=True), h5py.HardLink) else None
    return sorted(map(str, found)) if isinstance(found, h5py.Group) else []


def _check_keys(where: str, file: h5py.File, group: str, keys: Sequence[str]) -> None:
    there = _members(file, group)
    missing = [key for key in keys if key not in there]
    if missing:
        shown = ", ".join(there[:SHOWN]) or "none"
        raise ValueError(f"{where} has no obs/{missing[0]}; its observations are {shown}. Name those to read")


def _arrays(
    path: Path, file: h5py.File, name: str, observation: Sequence[str], cameras: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A demonstration's columns, what was observed before each step, and after each where that was stored."""
    columns = {key: read_array(path, file, f"data/{name}/{key}") for key in ("actions", "rewards", "dones")}
    keys = [*observation, *cameras]
    seen = {key: read_array(path, file, f"data/{name}/obs/{key}") for key in keys}
    after: dict[str, np.ndarray] = {}
    if set(keys) <= set(_members(file, f"data/{name}/next_obs")):
        after = {key: read_array(path, file, f"data/{name}/next_obs/{key}") for key in keys}
    steps = len(columns["actions"]) if columns["actions"].ndim == 2 else 0
    said = file[f"data/{name}"].attrs.get("num_samples", steps)
    lengths = {key: len(array) if array.ndim else 0 for key, array in (columns | seen).items()}
    lengths |= {f"next_obs/{key}": len(array) if array.ndim else 0 for key, array in after.items()}
    if not steps or said != steps or set(lengths.values()) != {steps}:
        raise ValueError(
            f"{path}, {name}: lengths disagree: {lengths}, {said} by num_samples; expected a row each step"
        )
    numbers = [key for key in observation if seen[key].ndim != 2]
    pictures = [key for key in cameras if seen[key].dtype != np.uint8 or seen[key].ndim != 4 or seen[key].shape[3] != 3]
    for key in (*numbers, *pictures):
        expected = "uint8 (T, height, width, 3)" if key in pictures else "numbers (T, size)"
        raise ValueError(f"{path}, {name}: obs/{key} is {seen[key].dtype} {seen[key].shape}, expected {expected}")
    return columns, {key: seen[key] for key in keys}, after


def _episode(
    where: str, columns: dict[str, np.ndarray], seen: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> Episode | None:
    """One demonstration, or None where nothing is left of it."""
    terminated, steps = bool(columns["dones"][-1]), len(columns["actions"])
    if not after:
        steps = steps if terminated else steps - 1
    if not steps:
        return None
    ends = {key: after[key][-1:] if after else array[-1:] for key, array in seen.items()}
    whole = {key: np.concatenate((array[:steps], ends[key])) for key, array in seen.items()}
    numbers = [array for array in whole.values() if array.ndim == 2]
    try:
        return Episode(
            np.concatenate(numbers, 1).astype(np.float32) if numbers else np.zeros((steps + 1, 0), np.float32),
            columns["actions"][:steps].astype(np.float32),
            columns["rewards"][:steps].astype(np.float32),
            terminated,
            not terminated,
            {key: array for key, array in whole.items() if array.ndim == 4},
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
